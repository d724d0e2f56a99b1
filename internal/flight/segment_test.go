package flight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// paced is an upstream of about 6 MiB/s for each connection.
func paced(int, int64) fault { return fault{step: 64 << 10, pause: 10 * time.Millisecond} }

func TestRangeFarAheadComesAtOnce(t *testing.T) {
	const size = 64 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = paced
		job := r.join(true)
		defer job.Close()
		for _, off := range []int64{50<<20 + 12345, 30 << 20, size - 10} {
			began := time.Now()
			n := min(100<<10, size-off)
			got, err := r.cut(off, n)
			if err != nil || !bytes.Equal(got, r.up.data[off:off+n]) {
				t.Errorf("range at %d: %d bytes, %v", off, len(got), err)
			}
			if d := time.Since(began); d > 100*time.Millisecond {
				t.Errorf("range at %d took %v", off, d)
			}
		}
		if err := job.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		r.wantStored(true)
		if r.up.total > size*21/20 {
			t.Errorf("%d bytes came for %d", r.up.total, size)
		}
	})
}

// On a slow link 8 MiB take long too: a reader does not wait for the whole
// segment of another one.
func TestRangeDoesNotWaitForASlowSegment(t *testing.T) {
	const size = 32 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = func(int, int64) fault { return fault{step: 16 << 10, pause: 100 * time.Millisecond} }
		job := r.join(true)
		defer job.Close()
		time.Sleep(2 * time.Second)
		for _, off := range []int64{20 << 20, 26 << 20, 23 << 20} {
			began := time.Now()
			got, err := r.cut(off, 16<<10)
			if d := time.Since(began); err != nil || !bytes.Equal(got, r.up.data[off:off+16<<10]) || d > time.Second {
				t.Errorf("range at %d: %d bytes after %v, %v", off, len(got), d, err)
			}
		}
		if err := job.Wait(context.Background()); err != nil {
			t.Error(err)
		}
		r.wantStored(true)
	})
}

// A range that the front will reach soon costs no connection.
func TestNearRangeWaitsForTheFront(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 16<<20)
		r.up.each = paced
		if got, err := r.cut(7<<20, 1<<20); err != nil || !bytes.Equal(got, r.up.data[7<<20:8<<20]) {
			t.Error(len(got), err)
		}
		r.wantStored(true)
		r.wantConnections(1)
	})
}

// On a slow link the front turns out to be too far away only when its speed is
// known.
func TestRangeDoesNotWaitForASlowFront(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 16<<20)
		r.up.each = func(n int, _ int64) fault {
			if n == 0 {
				return fault{step: 16 << 10, pause: 100 * time.Millisecond}
			}
			return fault{}
		}
		began := time.Now()
		if _, err := r.cut(7<<20, 1<<20); err != nil || time.Since(began) > 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// containerd asks for every chunk of 8 MiB with an open-ended range, reads it
// and cuts the connection.
func TestParallelOpenEndedRanges(t *testing.T) {
	const size, chunk = 72<<20 + 777, 8 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = func(int, int64) fault { return fault{step: 256 << 10, pause: 10 * time.Millisecond} }
		chunks := make(chan int64)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for off := range chunks {
					h := r.join(false)
					if _, err := h.Header(client()); err != nil {
						t.Error(err)
					}
					w := &short{left: chunk}
					_, err := h.Send(client(), w, nil, off, size-off, false)
					if want := r.up.data[off:min(size, off+chunk)]; !bytes.Equal(w.Bytes(), want) {
						t.Errorf("chunk at %d: %d bytes, %v", off, w.Len(), err)
					}
					h.Close()
				}
			})
		}
		for off := int64(0); off < size; off += chunk {
			chunks <- off
		}
		close(chunks)
		wg.Wait()
		r.wantStored(true)
		if r.up.total > size*13/10 {
			t.Errorf("%d bytes came for %d", r.up.total, size)
		}
		t.Logf("%.3f of the blob in %d connections", float64(r.up.total)/size, len(r.up.asked))
	})
}

var errHangUp = errors.New("the client hangs up")

// short is a client that hangs up after left bytes.
type short struct {
	bytes.Buffer
	left int
}

func (s *short) Write(p []byte) (int, error) {
	n, _ := s.Buffer.Write(p[:min(len(p), s.left)])
	if s.left -= n; s.left == 0 {
		return n, errHangUp
	}
	return n, nil
}

// ReadFrom hides that of the buffer, which has no end.
func (s *short) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{s}, r) }

func TestSegmentsThatFail(t *testing.T) {
	const size = 32 << 20
	for name, c := range map[string]struct {
		fault fault
		conns int
	}{
		"ignores ranges":      {fault{ignore: true}, 2},
		"another range":       {fault{shift: 7}, 2},
		"another size":        {fault{size: 9 << 20}, 2},
		"broken":              {fault{err: problem(upstream.Unreachable, 500)}, 1 + maxSegmentFailures},
		"at once the end":     {fault{cut: -1, clean: true}, 1 + maxSegmentFailures},
		"cut":                 {fault{cut: 1000}, 2 + maxSegmentFailures},
		"no answer":           {fault{silent: true}, 0},
		"silent in the midst": {fault{cut: 1000, hang: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				r.up.each = r.segments(c.fault, fault{step: 64 << 10, pause: 20 * time.Millisecond})
				got, err := r.cut(20<<20, 9<<20)
				if err != nil || !bytes.Equal(got, r.up.data[20<<20:29<<20]) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				r.wantStored(true)
				if n := len(r.up.asked); c.conns > 0 && n > c.conns {
					t.Errorf("%d connections: %v", n, r.up.asked)
				}
			})
		})
	}
}

// Readers look again at once who brings their bytes when a segment breaks off.
func TestReaderOutlivesASegment(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 32<<20)
		slow := fault{step: 64 << 10, pause: 20 * time.Millisecond}
		r.up.each = func(n int, _ int64) fault {
			switch n {
			case 0:
				return slow
			case 1:
				return fault{cut: 1 << 20, pause: time.Millisecond}
			}
			return fault{pause: time.Millisecond}
		}
		began := time.Now()
		got, err := r.cut(20<<20, 4<<20)
		if d := time.Since(began); err != nil || !bytes.Equal(got, r.up.data[20<<20:24<<20]) || d > 500*time.Millisecond {
			t.Errorf("%d bytes after %v, %v", len(got), d, err)
		}
	})
}

// segments makes the connections of segments misbehave: they say how much they
// want.
func (r *rig) segments(bad, front fault) func(int, int64) fault {
	return func(n int, _ int64) fault {
		r.up.mu.Lock()
		defer r.up.mu.Unlock()
		if r.up.asked[n].length == segmentSize {
			return bad
		}
		return front
	}
}

// The front that comes to a segment under way waits for it.
func TestFrontWaitsForASegment(t *testing.T) {
	const size = 24 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = r.segments(fault{step: 256 << 10, pause: 500 * time.Millisecond}, fault{step: 256 << 10, pause: 10 * time.Millisecond})
		var wg sync.WaitGroup
		wg.Go(func() { r.want() })
		wg.Go(func() {
			if got, err := r.cut(10<<20, 1<<20); err != nil || !bytes.Equal(got, r.up.data[10<<20:11<<20]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
		wg.Wait()
		r.wantStored(true)
		r.wantConnections(3)
		if r.up.total > size*21/20 {
			t.Errorf("%d bytes came", r.up.total)
		}
	})
}

// A store that fails for a segment must not fail its readers.
func TestSegmentThatCannotBeWritten(t *testing.T) {
	const size = 32 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = paced
		r.shelf.full = 21 << 20
		got, err := r.cut(20<<20, 3<<20)
		if err != nil || !bytes.Equal(got, r.up.data[20<<20:23<<20]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.wantStored(false)
		if len(r.failed) == 0 {
			t.Error("nobody was told")
		}
	})
}

// Whatever readers ask for and wherever connections break, everyone gets the
// right bytes and none is written twice.
func TestRandomRanges(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			story(t, func(t *testing.T) { random(t, seed) })
		})
	}
}

func random(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	size := 1<<20 + rnd.Int64N(31<<20)
	r := newRig(t, int(size))
	r.g.Segments = int(seed % 2 * 8) // further connections, or none
	if rnd.IntN(4) == 0 {
		r.size = -1
	}
	var mu sync.Mutex
	r.up.each = func(int, int64) fault {
		mu.Lock()
		defer mu.Unlock()
		f := fault{step: 32<<10 + rnd.IntN(128<<10), pause: time.Duration(rnd.IntN(60)) * time.Millisecond}
		switch rnd.IntN(8) {
		case 0, 1, 2:
			f.cut = 1<<20 + rnd.Int64N(size)
		case 3:
			f.ignore = true
		case 4:
			f.cut, f.hang = 1<<20+rnd.Int64N(size), true
		}
		return f
	}
	type plan struct {
		off, n int64
		wait   time.Duration
		whole  bool
	}
	var plans []plan
	var wg sync.WaitGroup
	for range 12 {
		off := rnd.Int64N(size)
		n := 1 + rnd.Int64N(size-off)
		wait := time.Duration(rnd.IntN(3000)) * time.Millisecond
		whole := rnd.IntN(3) == 0
		plans = append(plans, plan{off, n, wait, whole})
	}
	for _, p := range plans {
		off, n, wait, whole := p.off, p.n, p.wait, p.whole
		wg.Go(func() {
			time.Sleep(wait)
			if whole {
				r.want()
				return
			}
			if got, err := r.cut(off, n); err != nil || !bytes.Equal(got, r.up.data[off:off+n]) {
				t.Errorf("%d bytes from %d of %d: got %d, %v", n, off, size, len(got), err)
			}
		})
	}
	wg.Wait()
	r.wantStored(true)
}
