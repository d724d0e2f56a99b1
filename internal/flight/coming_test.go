package flight

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/share"
)

// wantComing checks what the group says of a download, and whether there is room for another.
func (r *rig) wantComing(when string, k Key, coming, room bool) {
	r.t.Helper()
	a, ok := r.g.Coming(k)
	if ok != coming || ok && a.Size != r.size || r.g.Room(r.claim()) != room {
		r.t.Errorf("%s: coming %v, of %d bytes; room %v; want %v and %v", when, ok, a.Size, r.g.Room(r.claim()), coming, room)
	}
}

// TestComing: a download is coming from when it has its slot until it is in the store.
func TestComing(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.g.Downloads = 1
		r.up.latency = time.Second
		waits := Key{r.key.Source, digest.FromString("waits")}
		r.wantComing("before the first download", r.key, false, true)
		var commit, end = make(chan struct{}), make(chan struct{})
		r.shelf.beforeCommit = func() { close(commit); <-end }
		h := r.join(false)
		synctest.Wait()
		r.wantComing("before the upstream has answered", r.key, true, false)
		if a, _ := r.g.Coming(r.key); a.Verified {
			t.Errorf("before the upstream has answered: %+v", a)
		}
		second := r.other(false, "waits")
		r.wantComing("in the queue", waits, false, false)
		second.Close()
		synctest.Wait()
		var w bytes.Buffer
		if _, err := h.Header(client()); err != nil {
			t.Error(err)
		}
		if _, err := h.Send(client(), &w, nil, 0, r.size, true); err != nil {
			t.Error(err)
		}
		h.Close()
		<-commit
		r.wantComing("while it is committed", r.key, true, true)
		if a, _ := r.g.Coming(r.key); !a.Verified || a.Front != r.size {
			t.Errorf("while it is committed: %+v", a)
		}
		close(end)
		r.wantStored(true)
		r.wantComing("in the store", r.key, false, true)
	})
}

// TestFailedIsNotComing: also while something of it is left.
func TestFailedIsNotComing(t *testing.T) {
	for name, fail := range map[string]func(*rig){
		"the commit fails": func(r *rig) { r.shelf.commitErr = errors.New("full") },
		"wrong bytes come": func(r *rig) { r.up.each = func(int, int64) fault { return fault{flip: 7} } },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, 1<<20)
				fail(r)
				h := r.join(false) // which does not open the spool, and holds it
				if err := h.Wait(client()); err == nil {
					t.Error("nothing has failed")
				}
				r.wantComing("afterwards", r.key, false, true)
				h.Close()
			})
		})
	}
}

// TestPeersDoNotCountAsJoined: Joined counts clients.
func TestPeersDoNotCountAsJoined(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		defer r.join(false).Close()
		req := r.request()
		req.Peer = true
		h, err := r.g.Join(client(), req)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if n := r.g.Joined(); n != 0 || r.g.Readers() != 2 {
			t.Errorf("%d joined, %d read", n, r.g.Readers())
		}
		defer r.join(false).Close()
		if n := r.g.Joined(); n != 1 {
			t.Errorf("%d joined", n)
		}
	})
}

func (r *rig) claim() share.Claim {
	return share.Claim{Rule: r.key.Source.Rule, Host: r.key.Source.Host}
}
