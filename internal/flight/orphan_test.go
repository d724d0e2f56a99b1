package flight

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestOrphan(t *testing.T) {
	const size = 4 << 20
	for name, c := range map[string]struct {
		orphan  int64
		unknown bool
		ends    bool
	}{
		"much is missing":             {orphan: 1 << 20, ends: true},
		"little is missing":           {orphan: 3 << 20},
		"none may":                    {orphan: -1, ends: true},
		"unknown size, little so far": {orphan: 3 << 20, unknown: true},
		"unknown size, much so far":   {orphan: 1 << 20, unknown: true, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				r.g.Orphan = c.orphan
				r.up.each = func(int, int64) fault {
					return fault{step: 128 << 10, pause: time.Second, noSize: c.unknown, noLength: c.unknown}
				}
				if c.unknown {
					r.size = -1
				}
				job, h := r.join(true), r.join(false)
				time.Sleep(16500 * time.Millisecond) // 2 MiB have come
				h.Close()
				synctest.Wait()
				if r.g.Len() != 1 {
					t.Fatal("ended although a copy waits")
				}
				job.Close()
				synctest.Wait()
				if ended := r.g.Len() == 0; ended != c.ends {
					t.Fatalf("ended: %v", ended)
				}
				if !c.ends {
					r.wantStored(true)
					r.wantConnections(1)
					return
				}
				if r.shelf.kept == nil || r.shelf.kept.vouched.Front != 2<<20 {
					t.Errorf("kept %v", r.shelf.kept)
				}
				r.want()
				r.wantStored(true)
				r.wantOnce()
			})
		})
	}
}

// A large blob whose readers left early is looked at again as it goes on.
func TestOrphanOfUnknownSizeEndsLater(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 40<<20)
		r.g.Orphan = 10 << 20
		r.size = -1
		r.up.each = func(int, int64) fault {
			return fault{step: 256 << 10, pause: 10 * time.Millisecond, noSize: true, noLength: true}
		}
		h := r.join(false)
		if _, err := h.Header(client()); err != nil {
			t.Fatal(err)
		}
		h.Close()
		r.wantStored(false)
		if r.up.total > 20<<20 {
			t.Errorf("%d bytes came", r.up.total)
		}
	})
}

func TestClientOfADyingFlightGetsANewOne(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.g.Orphan = -1
		r.up.each = func(int, int64) fault { return fault{step: 64 << 10, pause: time.Second} }
		h := r.join(false)
		time.Sleep(4500 * time.Millisecond)
		h.Close() // it dies
		r.want()  // at once, without a wait for its end
		r.wantStored(true)
		r.wantConnections(2)
		r.wantOnce()
		if err := h.Wait(client()); !errors.Is(err, ErrAbandoned) {
			t.Errorf("the first one: %v", err)
		}
	})
}
