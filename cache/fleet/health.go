package fleet

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
	"github.com/pullthrough/pullthrough/internal/gate"
	"github.com/pullthrough/pullthrough/internal/lru"
)

// deadPause is how long a replica that did not answer is left alone before it is asked
// whether it lives.
var deadPause = backoff.Backoff{First: time.Second, Longest: 30 * time.Second, Jitter: 0.2}

// maxPeers bounds the replicas that are remembered.
const maxPeers = 1024

// health is which replicas do not answer. No download waits for one of them: it is passed
// over until it answers a ping.
type health struct {
	mu   sync.Mutex
	dead map[string]*dead
	work gate.Gate // of pings
}

type dead struct {
	failures int // in a row
	until    time.Time
	pinging  bool
}

func newHealth() health { return health{dead: map[string]*dead{}} }

// failed notes that a replica did not answer. Requests that fail together count once.
func (h *health) failed(peer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.dead[peer]
	if d == nil {
		if len(h.dead) >= maxPeers {
			clear(h.dead)
		}
		d = &dead{}
		h.dead[peer] = d
	}
	if now := time.Now(); !now.Before(d.until) {
		d.until = now.Add(deadPause.Pause(d.failures))
		d.failures++
	}
}

// lives notes that a replica answered.
func (h *health) lives(peer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.dead, peer)
}

// seen notes that a replica has sent a request, so that it is worth a ping.
func (h *health) seen(peer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.dead[peer]; d != nil && !d.pinging {
		d.until = time.Time{}
	}
}

// knownDead reports whether a replica does not answer.
func (h *health) knownDead(peer string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead[peer] != nil
}

// isDead is knownDead for a download. If it is time to ask whether it lives,
// ping is called on a goroutine of its own.
func (h *health) isDead(peer string, ping func() bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.dead[peer]
	if d == nil {
		return false
	}
	if !d.pinging && !time.Now().Before(d.until) {
		d.pinging = h.work.Go(func() {
			lives := ping()
			h.mu.Lock()
			d.pinging = false
			h.mu.Unlock()
			if lives {
				h.lives(peer)
			} else {
				h.failed(peer)
			}
		})
	}
	return true
}

// ping asks whether a replica lives.
func (f *Fleet) ping(peer string) bool {
	ctx, cancel := context.WithTimeout(f.life.ctx, silence)
	defer cancel()
	req, err := f.request(ctx, http.MethodGet, peer, "ping")
	if err != nil {
		return false
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return false
	}
	f.log.Info("fleet: a replica answers again", "self", f.Self, "peer", peer)
	return true
}

// refusals is for which blobs the upstream of this replica has refused a download lately: it
// does not bring them, although it may be about to hear so once more. The zero value is not
// ready for use.
type refusals struct{ at *lru.Cache[key, time.Time] }

// refusalTime is how long that counts: replicas that were waiting for the blob ask others
// meanwhile.
const refusalTime = time.Second

func newRefusals() refusals { return refusals{lru.New[key, time.Time](maxDoubts)} }

func (r refusals) add(k key) { r.at.Put(k, time.Now(), 1) }

func (r refusals) lately(k key) bool {
	if r.at.Empty() {
		return false
	}
	at, ok := r.at.Get(k)
	return ok && time.Since(at) < refusalTime
}

const (
	// doubtTime is how long a replica is passed over for one blob.
	doubtTime = 30 * time.Second
	maxDoubts = 4096
)

// peerKey is a replica and a blob.
type peerKey struct {
	key
	peer string
}

// doubts is which replicas are passed over for which blobs.
type doubts struct {
	mu    sync.Mutex // held while until is changed, and while one of parts is used
	until *lru.Cache[peerKey, doubt]
	parts *lru.Cache[key, parts]
}

// doubt is that a replica is passed over for a blob.
type doubt struct {
	until time.Time
	// stored says that it is about what the replica has stored. Otherwise the blob was on its
	// way there, and is as good as any other one once it is stored.
	stored bool
}

// parts is who had a part in a blob that was received not long ago.
type parts map[string]part

// part is bytes of a blob that came from a replica.
type part struct {
	at     time.Time
	stored bool // there
}

func newDoubts() *doubts {
	return &doubts{until: lru.New[peerKey, doubt](maxDoubts), parts: lru.New[key, parts](maxDoubts)}
}

// drags notes that a replica answered and did not bring all of a blob. stored says that it
// has all of it.
func (d *doubts) drags(k key, peer string, stored bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(peerKey{k, peer}, stored)
}

// put passes a replica over. d.mu is held.
func (d *doubts) put(k peerKey, stored bool) {
	now := time.Now()
	if former, ok := d.until.Get(k); ok && now.Before(former.until) {
		stored = stored || former.stored
	}
	d.until.Put(k, doubt{now.Add(doubtTime), stored}, 1)
}

// none reports whether no replica is passed over for any blob.
func (d *doubts) none() bool { return d.until.Empty() }

// passedOver reports whether a replica is not worth asking for a blob.
func (d *doubts) passedOver(k key, peer string) bool {
	doubted, _ := d.about(k, peer)
	return doubted
}

// forGood reports whether a replica is not even worth asking if it has stored the blob.
func (d *doubts) forGood(k key, peer string) bool {
	_, stored := d.about(k, peer)
	return stored
}

func (d *doubts) about(k key, peer string) (doubted, stored bool) {
	if d.none() {
		return false, false
	}
	got, ok := d.until.Get(peerKey{k, peer})
	doubted = ok && time.Now().Before(got.until)
	return doubted, doubted && got.stored
}

// partOf notes that bytes of a blob came from a replica. stored says that it had all of it.
func (d *doubts) partOf(k key, peer string, stored bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.parts.Get(k)
	if !ok {
		p = parts{}
		d.parts.Put(k, p, 1)
	}
	p[peer] = part{time.Now(), stored || p[peer].stored}
}

// again notes that a blob is asked for from its beginning. If replicas had a part in it a
// moment ago, it can only have been wrong, and they are passed over for it. They are
// returned.
func (d *doubts) again(k key) (doubted []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.parts.Get(k)
	if !ok {
		return nil
	}
	d.parts.Delete(k)
	for peer, part := range p {
		if time.Since(part.at) < doubtTime {
			d.put(peerKey{k, peer}, part.stored)
			doubted = append(doubted, peer)
		}
	}
	return doubted
}
