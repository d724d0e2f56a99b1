package flight

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

func TestUpstreamThatMisbehaves(t *testing.T) {
	const size = 1 << 20
	half := fault{cut: size / 2}
	limited := func(d time.Duration) fault {
		e := problem(upstream.Limited, 429)
		e.RetryAfter = d
		return fault{err: e}
	}
	for name, c := range map[string]struct {
		faults []fault // of the connections; the last one for all further ones
		size   int64   // what the manifest says; 0: the truth
		conns  int
		once   bool           // no byte comes twice
		class  upstream.Class // if it fails
		fails  bool
		atMost time.Duration
		least  time.Duration
	}{
		"cut at half":                       {faults: []fault{half, {}}, conns: 2, once: true, atMost: time.Second},
		"cut often":                         {faults: []fault{{cut: 128 << 10}}, conns: 8, once: true, atMost: time.Second},
		"cut, and it looks like the end":    {faults: []fault{{cut: size / 2, clean: true, noLength: true}, {}}, conns: 2, once: true},
		"always at once the end":            {faults: []fault{{cut: -1, clean: true, noLength: true}}, conns: 1 + maxStalls, fails: true, least: time.Second},
		"one byte each time":                {faults: []fault{{cut: 1}}, conns: 1 + maxStalls, fails: true, least: time.Second},
		"ignores Range after a cut":         {faults: []fault{half, {ignore: true}}, conns: 2},
		"ignores Range, is cut again":       {faults: []fault{half, {ignore: true, cut: size * 3 / 4}, {ignore: true}}, conns: 3},
		"another range, then everything":    {faults: []fault{half, {shift: 5}, {ignore: true}}, conns: 3},
		"another range that covers it":      {faults: []fault{half, {shift: 5}}, conns: 3},
		"an earlier range":                  {faults: []fault{half, {shift: -100}}, conns: 2},
		"416 after a cut, then everything":  {faults: []fault{half, {err: problem(upstream.Protocol, 416)}, {}}, conns: 3},
		"416 after a cut, always":           {faults: []fault{half, {err: problem(upstream.Protocol, 416)}}, conns: 3, fails: true},
		"wrong size":                        {faults: []fault{{size: 5 << 20}}, conns: 1, fails: true},
		"wrong size after a cut":            {faults: []fault{half, {size: 5 << 20}}, conns: 2, fails: true},
		"more than announced":               {faults: []fault{{extra: 100, noSize: true, noLength: true}}, conns: 1, fails: true},
		"more than the manifest says":       {faults: []fault{{noSize: true, noLength: true}}, size: size - 1, conns: 1, fails: true},
		"less than the manifest says":       {faults: []fault{{noSize: true, noLength: true}}, size: size + 1, fails: true, conns: 3},
		"falls silent":                      {faults: []fault{{cut: size / 2, hang: true}, {}}, conns: 2, once: true, least: 30 * time.Second, atMost: 31 * time.Second},
		"429 after a cut":                   {faults: []fault{half, limited(20 * time.Second), {}}, conns: 3, once: true, least: 20 * time.Second, atMost: 21 * time.Second},
		"429 after a cut, for long":         {faults: []fault{half, limited(time.Hour)}, conns: 2, fails: true, class: upstream.Limited, atMost: time.Second},
		"429 at first":                      {faults: []fault{limited(time.Second)}, conns: 1, fails: true, class: upstream.Limited, atMost: time.Second},
		"404 at first":                      {faults: []fault{{err: problem(upstream.NotFound, 404)}}, conns: 1, fails: true, class: upstream.NotFound, atMost: time.Second},
		"5xx at first, once":                {faults: []fault{{err: problem(upstream.Unreachable, 503)}, {}}, conns: 2, atMost: time.Second},
		"5xx at first, twice":               {faults: []fault{{err: problem(upstream.Unreachable, 503)}}, conns: 2, fails: true, class: upstream.Unreachable, atMost: time.Second},
		"5xx after a cut, for a while":      {faults: []fault{half, {err: problem(upstream.Unreachable, 503)}, {err: problem(upstream.Unreachable, 503)}, {}}, conns: 4, once: true},
		"denied after a cut":                {faults: []fault{half, {err: problem(upstream.Denied, 403)}}, conns: 2, fails: true, class: upstream.Denied, atMost: time.Second},
		"does not answer after a cut":       {faults: []fault{half, {silent: true}, {}}, conns: 3, once: true, least: 30 * time.Second, atMost: 31 * time.Second},
		"sends the size late":               {faults: []fault{{noSize: true, noLength: true, cut: size / 2}, {}}, conns: 2, once: true},
		"does not tell the size, but lists": {faults: []fault{{noSize: true}}, conns: 1, once: true},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, size)
				if c.size != 0 {
					r.size = c.size
				}
				r.up.each = func(n int, _ int64) fault { return c.faults[min(n, len(c.faults)-1)] }
				began := time.Now()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						got, err := r.get()
						if !c.fails {
							if err != nil || !bytes.Equal(got, r.up.data) {
								t.Errorf("got %d bytes, err %v", len(got), err)
							}
							return
						}
						if err == nil || len(got) > int(r.size-HoldBack) {
							t.Errorf("got %d bytes, err %v", len(got), err)
						}
						if c.class != "" {
							r.wantClass(err, c.class)
						}
					})
				}
				wg.Wait()
				if d := time.Since(began); d < c.least || c.atMost > 0 && d > c.atMost {
					t.Errorf("it took %v", d)
				}
				r.wantStored(!c.fails)
				r.wantConnections(c.conns)
				if c.once {
					r.wantOnce()
				}
			})
		})
	}
}

// After a failure the next flight must come right, with what the first one left.
func TestNextFlightIsRight(t *testing.T) {
	const size = 1 << 20
	for name, first := range map[string]fault{
		"wrong size":          {size: 5 << 20},
		"wrong size, kept":    {size: 5 << 20},
		"more than announced": {extra: 100, noSize: true, noLength: true},
		"wrong byte":          {flip: 17},
	} {
		story(t, func(t *testing.T) {
			r := newRig(t, size)
			r.up.each = func(n int, _ int64) fault {
				if n == 0 {
					return first
				}
				return fault{}
			}
			if _, err := r.get(); err == nil {
				t.Errorf("%s: no error", name)
			}
			r.wantStored(false)
			r.want()
			r.wantStored(true)
			r.wantConnections(2)
		})
	}
}

func TestWrongSizeComesBeforeTheHeader(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{size: 7} }
		h := r.join(false)
		defer h.Close()
		_, err := h.Header(client())
		r.wantClass(err, upstream.Protocol)
		if !errors.Is(err, ErrSize) {
			t.Error(err)
		}
	})
}

func TestSilentUpstreamIsATimeoutAndEnds(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{silent: true} }
		h := r.join(false)
		began := time.Now()
		_, err := h.Header(client())
		h.Close()
		e, ok := errors.AsType[*upstream.Error](err)
		if !ok || !e.Timeout || time.Since(began) != 20*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		r.idle()
		if d := time.Since(began); d > 62*time.Second {
			t.Errorf("the flight went on for %v", d)
		}
		r.wantConnections(1) // nobody waits for a second
	})
}

// A disk that takes long is not an upstream that sends nothing.
func TestSlowStoreIsNotASilentUpstream(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.shelf.slow = time.Minute
		r.g.Answer = time.Hour
		r.want()
		r.wantStored(true)
		r.wantConnections(1)
	})
}

var errNoRule = errors.New("no rule")

func TestRuleGoneAtAConnection(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.up.each = func(int, int64) fault { return fault{cut: 512 << 10} }
		r.up.gone = func() error {
			if len(r.up.asked) > 0 {
				return errNoRule
			}
			return nil
		}
		if got, err := r.get(); !errors.Is(err, errNoRule) || len(got) > 512<<10 {
			t.Errorf("got %d, %v", len(got), err)
		}
		r.wantStored(false)
		r.wantConnections(1)
		if r.shelf.kept != nil {
			t.Error("it was kept")
		}
	})
}

func TestRuleGoneAtACheckpoint(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 40<<20)
		r.up.each = func(int, int64) fault { return fault{step: 64 << 10, pause: 10 * time.Millisecond} }
		r.up.gone = func() error {
			r.up.mu.Lock()
			defer r.up.mu.Unlock()
			if r.up.opens > 2 { // the connection, the first checkpoint
				return errNoRule
			}
			return nil
		}
		if _, err := r.get(); !errors.Is(err, errNoRule) {
			t.Errorf("error %v", err)
		}
		r.wantStored(false)
		if r.up.total > 17<<20 {
			t.Errorf("%d bytes came", r.up.total)
		}
	})
}

// However a flight is ended, that is what its readers hear: not an upstream or
// a rule that failed because of it.
func TestEndHasItsOwnReason(t *testing.T) {
	until := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, change := range map[string]func(r *rig, req *Request){
		"the upstream does not answer": func(r *rig, _ *Request) {
			r.up.each = func(int, int64) fault { return fault{silent: true} }
		},
		"the rule is being asked": func(_ *rig, req *Request) {
			req.Open = func(ctx context.Context) (upstream.Repository, error) { return nil, until(ctx) }
		},
		"the spool is being made": func(_ *rig, req *Request) {
			req.Spool = func(ctx context.Context) (store.Spool, error) { return nil, until(ctx) }
		},
		"the body comes": func(r *rig, _ *Request) {
			r.up.each = func(int, int64) fault { return fault{step: 1000, pause: time.Minute} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, HoldBack)
				r.leave(1000, HoldBack)
				req := r.request()
				change(r, &req)
				h, err := r.g.Join(client(), req)
				if err != nil {
					t.Fatal(err)
				}
				defer h.Close()
				done := make(chan error)
				go func() { _, err := h.Header(client()); done <- err }()
				time.Sleep(time.Second)
				_ = r.g.Close(context.Background())
				if err := <-done; !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				if len(r.failed) != 0 {
					t.Errorf("the store is blamed: %v", r.failed)
				}
				if r.shelf.kept == nil {
					t.Error("the progress is lost")
				}
			})
		})
	}
}
