package flight

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

// other is a request for another blob of the same host that never ends.
func (r *rig) other(job bool, name string) *Handle {
	r.t.Helper()
	req := r.request()
	req.Job = job
	req.Digest = digest.FromString(name)
	req.Spool = func(context.Context) (store.Spool, error) { return (&shelf{t: r.t}).spool(context.Background()) }
	h, err := r.g.Join(client(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
	return h
}

func (h *Handle) isPlaced() bool {
	select {
	case <-h.f.prepared:
		return true
	default:
		return false
	}
}

func TestClientsFindAPlaceBesideCopies(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.g.Downloads, r.g.PerHost = 6, 6
		r.up.latency = time.Hour
		r.g.Idle = 2 * time.Hour
		var jobs []*Handle
		for _, name := range []string{"1", "2", "3", "4"} {
			jobs = append(jobs, r.other(true, name))
		}
		if !jobs[0].isPlaced() || !jobs[2].isPlaced() || jobs[3].isPlaced() {
			t.Error("copies take more or less than half")
		}
		c := r.other(false, "5")
		if !c.isPlaced() {
			t.Error("a client waits behind a copy")
		}
		joined := r.other(false, "4")
		if !jobs[3].isPlaced() {
			t.Error("a client that joined did not promote the copy")
		}
		for _, h := range append(jobs, c, joined) {
			h.Close()
		}
	})
}

func TestBusy(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.g.Downloads, r.g.PerHost = 1, 1
		r.up.latency = time.Hour
		r.g.Idle = 2 * time.Hour
		first := r.other(false, "1")
		defer first.Close()
		began := time.Now()
		h := r.join(false)
		if _, err := h.Header(client()); !errors.Is(err, ErrBusy) || time.Since(began) != 15*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		h.Close()
		_ = h.Wait(client()) // it has ended
		synctest.Wait()      // and left the group
		if n := r.g.slots.Waiting(); n != 0 {
			t.Errorf("%d are left in the queue", n)
		}
		if _, n := r.g.slots.Held(""); n != 1 {
			t.Errorf("%d places are taken", n)
		}
		if n := r.g.Len(); n != 1 {
			t.Errorf("%d flights", n)
		}
		if r.shelf.spools != 0 || len(r.failed) != 0 {
			t.Errorf("a flight without a place touched the store: %v", r.failed)
		}
	})
}

// A copy that waits keeps the flight in the queue when a client gives up.
func TestQueuedCopyStays(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.g.Downloads, r.g.PerHost = 1, 1
		r.up.latency = time.Minute
		r.g.Idle, r.g.Answer, r.g.Orphan = 2*time.Hour, time.Hour, -1
		first := r.other(false, "1")
		job := r.join(true)
		defer job.Close()
		h := r.join(false)
		_, _ = h.Header(client())
		h.Close()
		first.Close()
		if err := job.Wait(client()); err != nil {
			t.Error(err)
		}
		r.wantStored(true)
	})
}
