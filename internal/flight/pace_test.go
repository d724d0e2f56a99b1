package flight

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// A connection that drips is cut though it is never silent; what it brought is kept,
// and as long as each next one brings something the download goes on.
func TestDripIsJudgedByItsRate(t *testing.T) {
	for name, c := range map[string]struct {
		step  int
		pause time.Duration
		ends  bool
	}{
		"a byte now and then": {1, 100 * time.Millisecond, true},
		"in bursts":           {2000, 20 * time.Second, true},
		"slow":                {4 << 10, time.Second, false},
		"fast":                {64 << 10, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, 1<<20)
				r.g.Least = 1 << 10
				r.up.each = func(int, int64) fault { return fault{step: c.step, pause: c.pause} }
				h := r.join(false)
				defer h.Close()
				began := time.Now()
				err := h.Wait(client())
				if !c.ends {
					if err != nil {
						t.Error(err)
					}
					r.wantConnections(1)
					return
				}
				e, ok := errors.AsType[*upstream.Error](err)
				if !ok || e.Class != upstream.Protocol || e.Reason != "it sends too little" {
					t.Errorf("%v, want that it sends too little", err)
				}
				if d := time.Since(began); d > 10*time.Minute {
					t.Errorf("it took %v to give up", d)
				}
			})
		})
	}
}

// Nobody waits for it: a slow download gives its place to others, a good one goes on.
func TestDripOfNobodyEnds(t *testing.T) {
	for name, c := range map[string]struct {
		step int
		ends bool
	}{"drips": {1 << 10, true}, "is slow": {32 << 10, true}, "is good": {256 << 10, false}} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, 64<<20)
				r.g.Least = 1 << 10
				r.up.each = func(int, int64) fault { return fault{step: c.step, pause: time.Second} }
				h := r.join(false)
				if _, err := h.Header(client()); err != nil {
					t.Fatal(err)
				}
				h.Close()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if n := r.g.Len(); (n == 0) != c.ends {
					t.Errorf("%d flights after two minutes", n)
				}
				if _, held := r.g.slots.Held("r"); (held == 0) != c.ends {
					t.Errorf("%d places are held", held)
				}
			})
		})
	}
}

// A download that has its place and no answer yet ends with its last reader.
func TestUnansweredDownloadEndsWithItsReader(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{silent: true} }
		h := r.join(false)
		time.Sleep(time.Second)
		if !h.isPlaced() {
			t.Fatal("it has no place")
		}
		h.Close()
		synctest.Wait()
		if n := r.g.Len(); n != 0 {
			t.Errorf("%d flights", n)
		}
	})
}

// A blob that is larger than may be is refused before its header if it says so, and
// ended where it goes beyond.
func TestLargest(t *testing.T) {
	for name, f := range map[string]fault{"announced": {}, "unheralded": {noSize: true, noLength: true}} {
		story(t, func(t *testing.T) {
			r := newRig(t, 1<<20)
			r.g.Largest = 512 << 10
			r.up.each = func(int, int64) fault { return f }
			req := r.request()
			req.Size = -1
			h, err := r.g.Join(client(), req)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			err = h.Wait(client())
			if e, ok := errors.AsType[*upstream.Error](err); !ok || !errors.Is(err, ErrTooLarge) || e.Reason == "" {
				t.Errorf("%s: %v", name, err)
			}
			r.wantStored(false)
			if n := r.shelf.keeps; n != 0 {
				t.Errorf("%s: %d parts are kept of what may not be", name, n)
			}
		})
	}
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.g.Largest = 1 << 20
		r.want()
	})
}
