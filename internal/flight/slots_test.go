package flight

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

// counter counts the places taken.
type counter struct {
	mu        sync.Mutex
	now, most map[string]int
}

func (c *counter) add(host string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range []string{host, ""} {
		c.now[k] += n
		c.most[k] = max(c.most[k], c.now[k])
	}
}

func TestSlots(t *testing.T) {
	for name, c := range map[string]struct {
		jobs  bool
		hosts []string
		total int
		per   int
		most  map[string]int
	}{
		"clients, one host":  {hosts: []string{"a"}, total: 10, per: 4, most: map[string]int{"": 4, "a": 4}},
		"clients, two hosts": {hosts: []string{"a", "b"}, total: 6, per: 4, most: map[string]int{"": 6, "a": 4, "b": 4}},
		"jobs, one host":     {jobs: true, hosts: []string{"a"}, total: 10, per: 4, most: map[string]int{"": 2, "a": 2}},
		"jobs, two hosts":    {jobs: true, hosts: []string{"a", "b"}, total: 6, per: 6, most: map[string]int{"": 3, "a": 3, "b": 3}},
		"jobs, one place":    {jobs: true, hosts: []string{"a"}, total: 1, per: 1, most: map[string]int{"": 1, "a": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				s := &slots{total: c.total, perHost: c.per}
				n := counter{now: map[string]int{}, most: map[string]int{}}
				var wg sync.WaitGroup
				for i := range 40 {
					wg.Go(func() {
						host := c.hosts[i%len(c.hosts)]
						release, err := s.acquire(context.Background(), host, c.jobs, nil)
						if err != nil {
							t.Error(err)
							return
						}
						n.add(host, 1)
						time.Sleep(time.Second)
						n.add(host, -1)
						release()
					})
				}
				wg.Wait()
				for k, want := range c.most {
					if got := n.most[k]; got > want || k == "" && got != want {
						t.Errorf("%d places at %q, want %d", got, k, want)
					}
				}
				if len(s.waiting) != 0 || len(s.used) != 0 {
					t.Errorf("left over: %v, %v", s.waiting, s.used)
				}
			})
		})
	}
}

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
	case <-h.f.placed:
		return true
	default:
		return false
	}
}

func TestClientsFindAPlaceBesideCopies(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.g.Downloads, r.g.PerHost = 4, 4
		r.up.latency = time.Hour
		r.g.Idle = 2 * time.Hour
		var jobs []*Handle
		for _, name := range []string{"1", "2", "3"} {
			jobs = append(jobs, r.other(true, name))
		}
		if !jobs[0].isPlaced() || !jobs[1].isPlaced() || jobs[2].isPlaced() {
			t.Error("copies take more or less than half")
		}
		c := r.other(false, "4")
		if !c.isPlaced() {
			t.Error("a client waits behind a copy")
		}
		joined := r.other(false, "3")
		if !jobs[2].isPlaced() {
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
		r.g.slots.mu.Lock()
		if n := len(r.g.slots.waiting); n != 0 {
			t.Errorf("%d are left in the queue", n)
		}
		if n := r.g.slots.used[""].all; n != 1 {
			t.Errorf("%d places are taken", n)
		}
		r.g.slots.mu.Unlock()
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
