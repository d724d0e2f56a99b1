package flight

import (
	"errors"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// TestLanesThatFail: whatever a further connection answers, the blob comes whole and about
// as fast as over one connection; what says that there shall be no more of them is heeded.
func TestLanesThatFail(t *testing.T) {
	const size = 20 << 20
	limited := problem(upstream.Limited, 429)
	busy := problem(upstream.Unreachable, 503)
	busy.RetryAfter = time.Second
	for name, c := range map[string]struct {
		bad  fault
		most int // requests
	}{
		"429":                      {fault{err: limited}, 2},
		"503 with Retry-After":     {fault{err: busy}, 2},
		"416":                      {fault{err: problem(upstream.Protocol, 416)}, 2},
		"an unusable redirect":     {fault{err: problem(upstream.Protocol, 307)}, 2},
		"ranges ignored":           {fault{ignore: true}, 2},
		"another range":            {fault{shift: 7}, 2},
		"another size":             {fault{size: size + 1}, 2},
		"500":                      {fault{err: problem(upstream.Unreachable, 500)}, 1 + maxSegmentFailures},
		"403":                      {fault{err: problem(upstream.Denied, 403)}, 1 + maxSegmentFailures},
		"no connection":            {fault{err: problem(upstream.Unreachable, 0)}, 1 + maxSegmentFailures},
		"at once the end":          {fault{cut: -1, clean: true}, 1 + maxSegmentFailures},
		"an early end":             {fault{cut: 1000, clean: true}, 4 + maxSegmentFailures},
		"cut":                      {fault{cut: 1000}, 4 + maxSegmentFailures},
		"no answer":                {fault{silent: true}, 6},
		"silence in the midst":     {fault{cut: 1000, hang: true}, 12},
		"more than was asked for":  {fault{extra: 1 << 40, step: 32 << 10, pause: 7812500 * time.Nanosecond}, 16},
		"parts of unknown length":  {fault{noLength: true, step: 32 << 10, pause: 7812500 * time.Nanosecond}, 16},
		"parts of an unknown blob": {fault{noSize: true, step: 32 << 10, pause: 7812500 * time.Nanosecond}, 16},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newFarRig(t, size)
				r.up.each = func(n int, _ int64) fault {
					if r.first(n) {
						return far()
					}
					return c.bad
				}
				began := time.Now()
				r.want()
				if d := time.Since(began); d > direct(size)*11/10+frontWait {
					t.Errorf("it took %v, and %v over one connection", d, direct(size))
				}
				r.wantStored(true)
				if n := len(r.up.asked); n > c.most {
					t.Errorf("%d requests, want %d at most: %v", n, c.most, r.up.asked)
				}
			})
		})
	}
}

// first reports whether connection n is one of the front: it asks for all up to the end,
// or for the byte that the front has come to.
func (r *rig) first(n int) bool {
	r.up.mu.Lock()
	q := r.up.asked[n]
	r.up.mu.Unlock()
	front, _, _ := r.g.Peek(r.key)
	return q.length < 0 || q.offset == front
}

// TestShy: after a 429 no blob of the source has further connections for a while, and
// those of another source have.
func TestShy(t *testing.T) {
	const size = 16 << 20
	story(t, func(t *testing.T) {
		r := newFarRig(t, size)
		e := problem(upstream.Limited, 429)
		e.RetryAfter = 5 * time.Minute
		r.up.each = func(n int, _ int64) fault {
			if n == 1 {
				return fault{err: e}
			}
			return far()
		}
		r.want()
		r.idle()
		for _, c := range []struct {
			wait  time.Duration
			rule  string
			lanes bool
		}{{0, "r", false}, {4 * time.Minute, "r", false}, {0, "s", true}, {2 * time.Minute, "r", true}} {
			time.Sleep(c.wait)
			r.key.Source.Rule = c.rule
			before := len(r.up.asked)
			r.shelf.stored = nil
			r.want()
			r.wantStored(true)
			if n := len(r.up.asked) - before; (n > 1) != c.lanes {
				t.Errorf("rule %s, %v later: %d requests", c.rule, c.wait, n)
			}
		}
	})
}

// TestWrongByteInALane: a wrong byte of a further connection is one of the blob: nobody
// gets its end, and nothing is kept.
func TestWrongByteInALane(t *testing.T) {
	const size = 32 << 20
	story(t, func(t *testing.T) {
		r := newFarRig(t, size)
		r.up.each = func(n int, offset int64) fault {
			f := far()
			if n > 0 {
				f.flip = offset + 1
			}
			return f
		}
		got, err := r.get()
		r.wantClass(err, upstream.Protocol)
		if !errors.Is(err, ErrDigest) || len(got) > size-HoldBack {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		r.wantStored(false)
		if r.shelf.kept != nil {
			t.Error("wrong bytes were kept")
		}
	})
}

// TestEveryConnectionIsCut: connections that all break off cost time and no bytes.
func TestEveryConnectionIsCut(t *testing.T) {
	const size = 48 << 20
	for _, cut := range []int64{2 << 20, 300 << 10} {
		story(t, func(t *testing.T) {
			r := newFarRig(t, size)
			r.up.each = func(int, int64) fault {
				f := far()
				f.cut = cut
				return f
			}
			began := time.Now()
			r.want()
			if d := time.Since(began); d > direct(size)/2 {
				t.Errorf("cut after %d bytes each it took %v", cut, d)
			}
			r.wantStored(true)
			if r.up.total > size*102/100 {
				t.Errorf("%d bytes came", r.up.total)
			}
		})
	}
}

// TestLanesOfABrokenStore: a store that is full in the midst of lanes costs no reader
// anything, and ends the lanes.
func TestLanesOfABrokenStore(t *testing.T) {
	const size = 48 << 20
	story(t, func(t *testing.T) {
		r := newFarRig(t, size)
		r.shelf.full = 20 << 20
		r.want()
		r.wantStored(false)
		if n := len(r.failed); n != 2 { // a lane, and the front
			t.Errorf("the store failed %d times", n)
		}
	})
}
