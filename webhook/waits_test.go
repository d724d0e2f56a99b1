package webhook_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// An event waits from when it is taken over until each receiver has it or it is given up,
// over a restart too.
func TestWaits(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := &store.Mem{}
		a, b := newReceiver("a"), newReceiver("b")
		edit := func(o *webhook.Outbox) { o.Queue = 2 }
		box := outbox(t, records, edit, a, b)
		want := func(waits bool, ids ...string) {
			t.Helper()
			if got := box.Waits(t.Context(), ids...); got != waits {
				t.Errorf("%q wait: %v", ids, got)
			}
		}
		want(false)
		want(false, "event-1")
		b.hang()
		box.send(numbered(1))
		want(true, "event-1") // it is on its way
		want(true, "event-0", "event-1")
		want(false, "event-0", "event-2")
		b.fail(errDown)
		wait(5 * time.Minute)
		want(true, "event-1")
		if err := box.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(true, "event-1")
		box = outbox(t, records, edit, a, b)
		want(true, "event-1")
		b.recover()
		wait(time.Hour)
		want(false, "event-1")

		b.fail(errDown)
		for n := 2; n <= 4; n++ {
			box.send(numbered(n))
		}
		wait(time.Minute)
		want(false, "event-2") // it made room
		want(true, "event-3")
		want(true, "event-4")
		wait(30 * time.Hour)
		want(false, "event-3", "event-4") // they are given up
	})
}

// An event that is about to be taken over waits, and one that was not taken over does not.
func TestEnlistedWaits(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := &store.Mem{}
		box := outbox(t, records, nil, newReceiver("a"))
		e, err := box.Enlist(t.Context(), records, []webhook.Event{numbered(1)})
		if err != nil {
			t.Fatal(err)
		}
		if !box.Waits(t.Context(), "event-1") {
			t.Error("it does not wait")
		}
		e.Done(errDown)
		synctest.Wait()
		if box.Waits(t.Context(), "event-1") {
			t.Error("it waits")
		}
	})
}

// waiter is a sink in which one event waits.
type waiter string

func (waiter) Send(context.Context, webhook.Event) error { return nil }
func (w waiter) Waits(_ context.Context, ids ...string) bool {
	return len(ids) == 2 && ids[0] == string(w)
}

// Sinks that pass events on tell what waits behind them; in others, nothing waits.
func TestWaitsBehindOthers(t *testing.T) {
	w, plain := waiter("x"), webhook.SinkFunc(func(context.Context, webhook.Event) error { return nil })
	for i, c := range []struct {
		sink  webhook.Sink
		waits bool
	}{
		{nil, false}, {plain, false}, {w, true}, {webhook.Filter{}, false}, {webhook.Filter{Sink: plain}, false}, {webhook.Filter{Sink: w}, true},
		{webhook.Sinks{}, false}, {webhook.Sinks{plain, webhook.Filter{Sink: w}}, true}, {webhook.Sinks{waiter("y"), plain}, false},
		{&webhook.Outbox{Receivers: []webhook.Receiver{{}}}, true}, // it cannot tell
	} {
		if got := webhook.Waits(t.Context(), c.sink, "x", "z"); got != c.waits {
			t.Errorf("%d: %v", i, got)
		}
	}
}
