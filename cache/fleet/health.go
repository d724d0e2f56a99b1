package fleet

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
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
		d.pinging = true
		go func() {
			lives := ping()
			h.mu.Lock()
			d.pinging = false
			h.mu.Unlock()
			if lives {
				h.lives(peer)
			} else {
				h.failed(peer)
			}
		}()
	}
	return true
}

// ping asks whether a replica lives.
func (f *Fleet) ping(peer string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), silence)
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
	until *lru.Cache[peerKey, time.Time]
	mu    sync.Mutex // held while one of parts is used
	parts *lru.Cache[key, parts]
}

// parts is who had a part in a blob that was received not long ago, and when.
type parts map[string]time.Time

func newDoubts() *doubts {
	return &doubts{until: lru.New[peerKey, time.Time](maxDoubts), parts: lru.New[key, parts](maxDoubts)}
}

// drags notes that a replica answered and brought nothing of a blob.
func (d *doubts) drags(k key, peer string) {
	d.until.Put(peerKey{k, peer}, time.Now().Add(doubtTime), 1)
}

// passedOver reports whether a replica is not worth asking for a blob.
func (d *doubts) passedOver(k key, peer string) bool {
	if d.until.Empty() {
		return false
	}
	until, ok := d.until.Get(peerKey{k, peer})
	return ok && time.Now().Before(until)
}

// partOf notes that bytes of a blob came from a replica.
func (d *doubts) partOf(k key, peer string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.parts.Get(k)
	if !ok {
		p = parts{}
		d.parts.Put(k, p, 1)
	}
	p[peer] = time.Now()
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
	for peer, at := range p {
		if time.Since(at) < doubtTime {
			d.drags(k, peer)
			doubted = append(doubted, peer)
		}
	}
	return doubted
}
