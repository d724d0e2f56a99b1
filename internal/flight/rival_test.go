package flight

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// newSilentRig has an upstream whose first connection falls silent after 1 MiB, and whose
// second one answers with second. Ranges that are asked for beside have what they want.
func newSilentRig(t *testing.T, first, second fault) *rig {
	r := newRig(t, 2<<20)
	r.g.Segments = 8
	first.cut = 1 << 20
	r.up.each = func(n int, _ int64) fault {
		switch n {
		case 0:
			return first
		case 1:
			return second
		}
		return fault{}
	}
	return r
}

// TestSilentConnectionIsReplaced: what a connection that fell silent has not brought comes
// over a second one five seconds later, and counts as no failure.
func TestSilentConnectionIsReplaced(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newSilentRig(t, fault{hang: true}, fault{step: 64 << 10, pause: time.Second})
		began := time.Now()
		r.want()
		if d := time.Since(began); d > rivalAfter+19*time.Second {
			t.Errorf("it took %v", d)
		}
		r.wantStored(true)
		r.wantConnections(2)
		if q := r.up.asked[1]; q != (request{1 << 20, 1 << 20}) {
			t.Errorf("the second connection asked for %+v", q)
		}
		r.wantOnce()
	})
}

// TestContest: the connection that brings the next byte goes on, and the blob is right
// whichever that is, and at the same moment too.
func TestContest(t *testing.T) {
	slowly := fault{step: 64 << 10, pause: 10 * time.Millisecond}
	for name, c := range map[string]struct {
		hush   time.Duration // of the first connection
		second fault
		most   time.Duration
		conns  int
	}{
		"the first goes on before the second":  {5500 * time.Millisecond, fault{step: 64 << 10, pause: time.Second}, 6 * time.Second, 2},
		"the second answers before the first":  {20 * time.Second, slowly, 6 * time.Second, 2},
		"both at once":                         {rivalAfter + time.Millisecond, fault{step: 64 << 10}, 6 * time.Second, 2},
		"the first a moment later":             {rivalAfter + 11*time.Millisecond, slowly, 6 * time.Second, 2},
		"the second is refused":                {10 * time.Second, fault{err: problem(upstream.Denied, 403)}, 11 * time.Second, 2},
		"the second is not answered":           {10 * time.Second, fault{silent: true}, 11 * time.Second, 2},
		"the second falls silent":              {10 * time.Second, fault{cut: -1, hang: true}, 11 * time.Second, 2},
		"the second breaks off":                {10 * time.Second, fault{cut: -1}, 11 * time.Second, 2},
		"the second begins elsewhere":          {10 * time.Second, fault{shift: 7}, 11 * time.Second, 2},
		"the second sends everything":          {10 * time.Second, fault{ignore: true}, 11 * time.Second, 2},
		"the second is of another size":        {10 * time.Second, fault{size: 3 << 20}, 11 * time.Second, 2},
		"the second falls silent after it won": {time.Hour, fault{cut: 100 << 10, hang: true}, 11 * time.Second, 3},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newSilentRig(t, fault{hush: c.hush, step: 64 << 10}, c.second)
				began := time.Now()
				r.want()
				if d := time.Since(began); d > c.most {
					t.Errorf("it took %v", d)
				}
				r.wantStored(true)
				r.wantConnections(c.conns)
			})
		})
	}
}

// TestDeadConnectionLeavesItsRival: if the first connection breaks off while the second one
// is under way, that one goes on, and no third is needed.
func TestDeadConnectionLeavesItsRival(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newSilentRig(t, fault{hush: 6 * time.Second, hang: true}, fault{step: 1 << 20, pause: 2 * time.Second})
		r.want()
		r.wantStored(true)
		r.wantConnections(2)
		r.wantOnce()
	})
}

// TestNoContest: a second connection needs leave, a slot, a part that is missing, and an
// upstream that serves parts.
func TestNoContest(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"switched off":  func(r *rig) { r.g.Segments = 1 },
		"no slot":       func(r *rig) { r.g.Downloads = 1 },
		"a pause of 4s": func(r *rig) { r.up.each = func(int, int64) fault { return fault{cut: 1 << 20, hush: 4 * time.Second} } },
		"many pauses": func(r *rig) {
			r.up.each = func(int, int64) fault { return fault{step: 256 << 10, pause: 4 * time.Second} }
		},
		"a slow store": func(r *rig) { r.up.each, r.shelf.slow = nil, 6*time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newSilentRig(t, fault{hush: 8 * time.Second}, fault{})
				change(r)
				r.want()
				r.wantStored(true)
				r.wantConnections(1)
			})
		})
	}
}

// TestBothAreSilent: a connection that is silent for the whole of Idle has failed, and so
// has its rival.
func TestBothAreSilent(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newSilentRig(t, fault{hang: true}, fault{silent: true})
		began := time.Now()
		r.want()
		if d := time.Since(began); d < 30*time.Second || d > 31*time.Second {
			t.Errorf("it took %v", d)
		}
		r.wantStored(true)
		r.wantConnections(3)
	})
}

// TestContestOfAReaderAlone: a reader that the store cannot help has its silent connection
// replaced too.
func TestContestOfAReaderAlone(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newSilentRig(t, fault{hang: true}, fault{})
		r.shelf.spoolErr = errors.New("no room")
		r.up.heads = true
		began := time.Now()
		r.want()
		if d := time.Since(began); d > 6*time.Second {
			t.Errorf("it took %v", d)
		}
		if _, held := r.g.slots.Held("r"); held != 0 {
			t.Errorf("%d slots are held", held)
		}
	})
}

// TestContestGivesWay: a rival that others need the slot of ends, and the first connection
// goes on.
func TestContestGivesWay(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newSilentRig(t, fault{hush: 20 * time.Second}, fault{silent: true})
		r.g.Downloads, r.g.PerHost = 2, 2
		h := r.join(false)
		defer h.Close()
		time.Sleep(8 * time.Second)
		if _, held := r.g.slots.Held("r"); held != 2 {
			t.Errorf("%d slots are held", held)
		}
		o := r.other(false, "1")
		synctest.Wait()
		if !o.isPlaced() {
			t.Error("another download waits for the rival")
		}
		o.Close()
		if err := h.Wait(client()); err != nil {
			t.Error(err)
		}
		h.Close()
		r.wantStored(true)
	})
}

// TestWonConnectionMayEnd: the end of a reader in the midst of a contest leaves nothing,
// whichever connection is ahead.
func TestWonConnectionMayEnd(t *testing.T) {
	for _, after := range []time.Duration{rivalAfter - time.Millisecond, rivalAfter, rivalAfter + time.Millisecond, rivalAfter + 2*time.Millisecond} {
		story(t, func(t *testing.T) {
			r := newSilentRig(t, fault{hang: true}, fault{step: 64 << 10, pause: time.Millisecond})
			r.g.Orphan = -1
			h := r.join(false)
			time.Sleep(after + time.Millisecond)
			h.Close()
			r.idle()
			if n := r.open(); n != 0 {
				t.Errorf("%d bodies are open", n)
			}
		})
	}
}

// TestChallengeComesTooLate: silence that ended before the second connection was opened
// opens none.
func TestChallengeComesTooLate(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 2<<20)
		r.g.Segments = 8
		ctx, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		body, err := r.up.Blob(ctx, "", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		h := r.join(false)
		defer h.Close()
		c := &contest{f: h.f, ctx: ctx, body: body, stop: stop, start: 0, size: body.Size, end: body.Length}
		defer c.close()
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		c.challenge(0)
		if c.rival != nil {
			t.Error("a second connection was opened after the first one had gone on")
		}
		c.challenge(1)
		if c.rival == nil {
			t.Error("no second connection was opened for silence that lasts")
		}
	})
}
