package flight

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// far is how an upstream behaves whose connections bring 4 MiB/s each.
func far() fault { return fault{step: 32 << 10, pause: 7812500 * time.Nanosecond} }

// newFarRig has an upstream 40 ms away, of which every connection brings 4 MiB/s.
func newFarRig(t *testing.T, size int) *rig {
	r := newRig(t, size)
	r.up.latency = 40 * time.Millisecond
	r.up.each = func(int, int64) fault { return far() }
	r.g.Segments = 8
	return r
}

// direct is how long one connection of such an upstream takes.
func direct(size int64) time.Duration {
	return 40*time.Millisecond + time.Duration(size)*time.Second/(4<<20)
}

// isOver reports whether the download has ended.
func (f *flight) isOver() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// open is how many bodies are open now.
func (r *rig) open() int {
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	return r.up.open
}

// TestLanes: where each connection is capped, a blob comes several times as fast as over
// one, its first byte as early, and hardly a byte twice.
func TestLanes(t *testing.T) {
	for size, faster := range map[int64]float64{16 << 20: 3, 32 << 20: 4, 80<<20 - 7: 5} {
		story(t, func(t *testing.T) {
			r := newFarRig(t, int(size))
			began := time.Now()
			h := r.join(false)
			defer h.Close()
			if _, err := h.Header(client()); err != nil || time.Since(began) != 40*time.Millisecond {
				t.Errorf("the header came after %v, %v", time.Since(began), err)
			}
			var w bytes.Buffer
			if _, err := h.Send(client(), &w, nil, 0, size, true); err != nil || !bytes.Equal(w.Bytes(), r.up.data) {
				t.Errorf("%d bytes, %v", w.Len(), err)
			}
			if ratio := direct(size).Seconds() / time.Since(began).Seconds(); ratio < faster {
				t.Errorf("%d MiB: %.1f times as fast as one connection, want %.1f", size>>20, ratio, faster)
			}
			r.wantStored(true)
			if r.up.total > size*101/100 {
				t.Errorf("%d bytes came for %d", r.up.total, size)
			}
			if n := r.g.Pieces(); n < 6 || n >= int64(len(r.up.asked)) {
				t.Errorf("%d pieces are counted in %d requests", n, len(r.up.asked))
			}
			if _, held := r.g.slots.Held("r"); held != 0 {
				t.Errorf("%d slots are held", held)
			}
		})
	}
}

// TestLanesComeAtOnceBehindEachOther: a client gets bytes at the rate of all connections
// long before the end.
func TestLanesComeAtOnceBehindEachOther(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newFarRig(t, 64<<20)
		began := time.Now()
		if _, err := r.cut(0, 32<<20); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > direct(32<<20)/3 {
			t.Errorf("the first half took %v", d)
		}
	})
}

// TestOneConnectionWhereMoreBringNothing: an upstream whose connections share one link has
// one connection nearly all the time, and is as fast as with one.
func TestOneConnectionWhereMoreBringNothing(t *testing.T) {
	const size = 48 << 20
	story(t, func(t *testing.T) {
		r := newFarRig(t, size)
		r.up.shared = true
		job := r.join(true)
		defer job.Close()
		began, several, looks := time.Now(), 0, 0
		for !job.f.isOver() {
			time.Sleep(50 * time.Millisecond)
			if n := r.open(); n > 2 {
				t.Errorf("%d connections", n)
			} else if n > 1 {
				several++
			}
			looks++
		}
		if d := time.Since(began); d > direct(size)*103/100 {
			t.Errorf("it took %v, and %v with one connection", d, direct(size))
		}
		if err := job.Wait(client()); err != nil {
			t.Error(err)
		}
		if several*4 > looks {
			t.Errorf("two connections in %d of %d looks", several, looks)
		}
		r.wantStored(true)
	})
}

// TestNoLanes: what has one connection and no more.
func TestNoLanes(t *testing.T) {
	for name, change := range map[string]func(r *rig, q *Request){
		"switched off":    func(r *rig, _ *Request) { r.g.Segments = 1 },
		"a small blob":    func(r *rig, _ *Request) { r.up.data = r.up.data[:16<<20-1] },
		"a doubtful size": func(_ *rig, q *Request) { q.Doubt = true },
		"an unknown size": func(r *rig, _ *Request) {
			r.up.each = func(int, int64) fault { f := far(); f.noSize, f.noLength = true, true; return f }
		},
		"a fast upstream": func(r *rig, _ *Request) {
			r.up.each = func(int, int64) fault { return fault{pause: 2 * time.Millisecond} }
		},
		"an upstream nearby":  func(r *rig, _ *Request) { r.up.latency = 4 * time.Millisecond },
		"no slot":             func(r *rig, _ *Request) { r.g.PerHost = 1 },
		"nobody waits for it": nil,
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newFarRig(t, 24<<20)
				q := r.request()
				if change != nil {
					change(r, &q)
				}
				q.Size, q.Digest = -1, digestOf(r.up.data)
				h, err := r.g.Join(client(), q)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := h.Header(client()); err != nil && change != nil && !q.Doubt {
					t.Error(err)
				}
				if change == nil {
					h.Close()
				} else if err := h.Wait(client()); err != nil {
					t.Error(err)
				}
				h.Close()
				r.wantStored(true)
				r.wantConnections(1)
			})
		})
	}
}

// TestRestartWithHoles: the next process has what is before the first hole, and asks for
// nothing of that again.
func TestRestartWithHoles(t *testing.T) {
	const size = 80 << 20
	story(t, func(t *testing.T) {
		r := newFarRig(t, size)
		h := r.join(false)
		time.Sleep(2 * time.Second)
		if _, held := r.g.slots.Held("r"); held != 8 {
			t.Fatalf("%d slots are held", held)
		}
		if err := r.g.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		h.Close()
		kept, before := r.shelf.kept.vouched, r.up.total
		front := kept.Front
		if front < 8<<20 || before-front > 48<<20 {
			t.Errorf("%d bytes came, of which %d are kept", before, front)
		}
		if len(kept.Spans) == 0 {
			t.Error("nothing beyond the front is kept")
		}
		r.g = r.group()
		r.g.Segments = 8
		r.up.asked = nil
		r.want()
		r.wantStored(true)
		for _, q := range r.up.asked {
			if q.offset < front {
				t.Errorf("asked for %d bytes from %d on, though the first %d are here", q.length, q.offset, front)
			}
			for _, s := range kept.Spans {
				if s.Start <= q.offset && q.offset < s.End {
					t.Errorf("asked for %d bytes from %d on, though those from %d to %d are here", q.length, q.offset, s.Start, s.End)
				}
			}
		}
	})
}

// TestLanesGiveWay: a download of another rule at the same host gets its slot at once from
// one that has more than one, and both get to their end.
func TestLanesGiveWay(t *testing.T) {
	const size = 64 << 20
	story(t, func(t *testing.T) {
		r := newFarRig(t, size)
		r.g.Downloads, r.g.PerHost = 4, 4
		h := r.join(false)
		defer h.Close()
		time.Sleep(3 * time.Second)
		if mine, _ := r.g.slots.Held("r"); mine != 4 {
			t.Fatalf("%d slots are held by one that is alone, want 4", mine)
		}
		req := r.request()
		other := &shelf{t: t}
		req.Source.Rule, req.Spool = "s", other.spool
		began := time.Now()
		g, err := r.g.Join(client(), req)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		if _, err := g.Header(client()); err != nil || time.Since(began) > 100*time.Millisecond {
			t.Errorf("the other rule waited for %v, %v", time.Since(began), err)
		}
		time.Sleep(time.Second)
		if mine, all := r.g.slots.Held("r"); mine > 3 || all > 4 {
			t.Errorf("the first rule holds %d of %d slots", mine, all)
		}
		for _, h := range []*Handle{h, g} {
			if err := h.Wait(client()); err != nil {
				t.Error(err)
			}
			h.Close()
		}
		r.wantStored(true)
		if !bytes.Equal(other.stored, r.up.data) {
			t.Error("the blob of the other rule is not right")
		}
	})
}

// TestLanesEndWithTheLastReader: what nobody waits for goes on over one connection.
func TestLanesEndWithTheLastReader(t *testing.T) {
	const size = 48 << 20
	story(t, func(t *testing.T) {
		r := newFarRig(t, size)
		h := r.join(false)
		time.Sleep(1500 * time.Millisecond)
		if _, held := r.g.slots.Held("r"); held != 8 {
			t.Errorf("%d slots are held while a client waits", held)
		}
		h.Close()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if _, held := r.g.slots.Held("r"); held != 1 || r.open() > 1 {
			t.Errorf("%d slots and %d connections while nobody waits", held, r.open())
		}
		r.wantStored(true)
	})
}

// TestLanesBesideRanges: readers of ranges and of the whole get what they want while there
// are lanes, and a range far ahead comes at once.
func TestLanesBesideRanges(t *testing.T) {
	const size = 80 << 20
	story(t, func(t *testing.T) {
		r := newFarRig(t, size)
		job := r.join(true)
		defer job.Close()
		time.Sleep(1200 * time.Millisecond)
		for off, most := range map[int64]time.Duration{65<<20 + 12345: 200 * time.Millisecond, 55 << 20: 200 * time.Millisecond, size - 10: 2 * time.Second} {
			began := time.Now()
			n := min(100<<10, size-off)
			got, err := r.cut(off, n)
			if err != nil || !bytes.Equal(got, r.up.data[off:off+n]) {
				t.Errorf("range at %d: %d bytes, %v", off, len(got), err)
			}
			if d := time.Since(began); d > most {
				t.Errorf("range at %d took %v", off, d)
			}
		}
		r.want()
		if err := job.Wait(client()); err != nil {
			t.Error(err)
		}
		r.wantStored(true)
	})
}
