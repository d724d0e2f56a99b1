package flight

import (
	"bytes"
	"testing"
	"time"
)

// fromPeer is how another cache sends that is as far away as the upstream.
func fromPeer() fault {
	f := far()
	f.via = "peer"
	return f
}

// TestOneConnectionToAnotherCache: what another cache sends comes over one connection, and
// the handle says who sends it.
func TestOneConnectionToAnotherCache(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newFarRig(t, 48<<20)
		r.up.each = func(int, int64) fault { return fromPeer() }
		h := r.join(false)
		defer h.Close()
		if h.Via() != "" {
			t.Errorf("%q sends it before anybody was asked", h.Via())
		}
		size, err := h.Header(client())
		if err != nil || h.Via() != "peer" {
			t.Errorf("%q sends it, %v", h.Via(), err)
		}
		var w bytes.Buffer
		if _, err := h.Send(client(), &w, nil, 0, size, true); err != nil || !bytes.Equal(w.Bytes(), r.up.data) {
			t.Errorf("%d bytes, %v", w.Len(), err)
		}
		r.wantConnections(1)
		if n := r.g.Pieces(); n != 0 {
			t.Errorf("%d pieces were asked for", n)
		}
		r.wantStored(true)
	})
}

// TestNoRivalOfAnotherCache: another cache that is silent for a while gets no rival.
func TestNoRivalOfAnotherCache(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newSilentRig(t, fault{via: "peer", hush: 20 * time.Second, step: 64 << 10}, fault{})
		began := time.Now()
		r.want()
		if d := time.Since(began); d < 20*time.Second {
			t.Errorf("it took %v, so somebody else sent it", d)
		}
		r.wantConnections(1)
	})
}

// TestAnotherCacheTakesOver: when another cache goes on with a download that has several
// connections, one is left.
func TestAnotherCacheTakesOver(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newFarRig(t, 80<<20)
		began := time.Now()
		r.up.each = func(int, int64) fault {
			if time.Since(began) < time.Second {
				return far()
			}
			return fromPeer()
		}
		h := r.join(false)
		defer h.Close()
		if _, err := h.Header(client()); err != nil || h.Via() != "" {
			t.Errorf("%q sends it, %v", h.Via(), err)
		}
		most, taken, calm := 0, time.Time{}, 0
		for !h.f.isOver() {
			time.Sleep(50 * time.Millisecond)
			switch n := r.open(); {
			case h.Via() == "":
				most = max(most, n)
			case taken.IsZero():
				taken = time.Now()
			case time.Since(taken) > time.Second && n > 1:
				t.Fatalf("%d connections %v after another cache took over", n, time.Since(taken))
			case time.Since(taken) > time.Second:
				calm++
			}
		}
		if most < 3 || calm < 20 {
			t.Errorf("%d connections before, and %d looks afterwards", most, calm)
		}
		r.wantStored(true)
	})
}

// TestUpstreamTakesOver: when the upstream goes on with what another cache began, it gets
// further connections, and the handle says so.
func TestUpstreamTakesOver(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newFarRig(t, 48<<20)
		r.up.each = func(n int, _ int64) fault {
			if n > 0 {
				return far()
			}
			f := fromPeer()
			f.cut = 4 << 20
			return f
		}
		h := r.join(false)
		defer h.Close()
		size, err := h.Header(client())
		if err != nil || h.Via() != "peer" {
			t.Errorf("%q sends it, %v", h.Via(), err)
		}
		var w bytes.Buffer
		if _, err := h.Send(client(), &w, nil, 0, size, true); err != nil || !bytes.Equal(w.Bytes(), r.up.data) {
			t.Errorf("%d bytes, %v", w.Len(), err)
		}
		if h.Via() != "" || r.g.Pieces() == 0 {
			t.Errorf("%q sent the end, %d pieces were asked for", h.Via(), r.g.Pieces())
		}
	})
}

// TestRangeFarAheadOfAnotherCache: a reader of a range that is far away does not wait until
// another cache has sent everything before it.
func TestRangeFarAheadOfAnotherCache(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newFarRig(t, 80<<20)
		r.up.each = func(int, int64) fault { return fromPeer() }
		began := time.Now()
		if got, err := r.cut(70<<20, 64<<10); err != nil || !bytes.Equal(got, r.up.data[70<<20:][:64<<10]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if d := time.Since(began); d > direct(70<<20)/4 {
			t.Errorf("it took %v", d)
		}
	})
}
