package webhook_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

func TestAFullQueueDropsTheOldest(t *testing.T) {
	for _, records := range []webhook.Records{nil, new(store.Mem)} {
		tell(t, func(t *testing.T) {
			a := newReceiver("a")
			a.fail(errDown)
			box := outbox(t, records, func(o *webhook.Outbox) { o.Queue = 10 }, a)
			for i := range 25 {
				box.send(numbered(i))
			}
			if s := box.state("a"); s.Queued != 10 || s.Dropped != 15 || s.GaveUp != 0 {
				t.Errorf("%+v", s)
			}
			if records != nil && len(keys(t, records)) != 10 {
				t.Errorf("%d records", len(keys(t, records)))
			}
			var dropped []string
			for _, d := range box.givenUp() {
				if !errors.Is(d.Err, webhook.ErrQueueFull) || d.Error == "" || d.Receiver != "a" || d.Event.Target != pushed.Target {
					t.Errorf("told %+v", d)
				}
				dropped = append(dropped, d.Event.ID)
			}
			for i := range 15 {
				if !slices.Contains(dropped, numbered(i).ID) {
					t.Errorf("dropped %q, want the first 15", dropped)
				}
			}
			if n := box.logged.count("make room"); n != 1 {
				t.Errorf("said %d times", n)
			}
			a.recover()
			wait(time.Hour)
			if got := a.got(); len(got) != 10 || slices.Contains(got, "event-14") || !slices.Contains(got, "event-24") {
				t.Errorf("took %q", got)
			}
			a.fail(errDown) // full again: said again
			for i := range 12 {
				box.send(numbered(100 + i))
			}
			if n := box.logged.count("make room"); n != 2 {
				t.Errorf("said %d times", n)
			}
		})
	}
}

// At the brink a queue is full again with every event; it is not said each time.
func TestAQueueAtTheBrinkSaysSoOnce(t *testing.T) {
	tell(t, func(t *testing.T) {
		a := newReceiver("a")
		next := make(chan error)
		a.will(func(context.Context, webhook.Event) error { return <-next })
		box := outbox(t, nil, func(o *webhook.Outbox) { o.Queue, o.AtOnce = 10, 1 }, a)
		for i := range 50 {
			box.send(numbered(4*i), numbered(4*i+1), numbered(4*i+2), numbered(4*i+3))
			if i > 4 {
				for range 3 {
					next <- nil
					synctest.Wait()
				}
			}
		}
		if n, s := box.logged.count("make room"), box.state("a"); n != 1 || s.Dropped < 30 {
			t.Errorf("said %d times; %+v", n, s)
		}
		close(next)
		synctest.Wait()
	})
}

func TestAQueueOfOneKeepsTheNewest(t *testing.T) {
	tell(t, func(t *testing.T) {
		a := newReceiver("a")
		a.hang()
		box := outbox(t, new(store.Mem), func(o *webhook.Outbox) { o.Queue, o.AtOnce = 1, 1 }, a)
		for i := range 4 { // one is on its way, and does not count
			box.send(numbered(i))
		}
		a.recover()
		wait(time.Hour)
		got := a.got()
		slices.Sort(got)
		if s := box.state("a"); !slices.Equal(got, []string{"event-0", "event-3"}) || s.Dropped != 2 {
			t.Errorf("took %q; %+v", got, s)
		}
	})
}

func TestAnEventThatCannotBeKeptCostsNone(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, records, func(o *webhook.Outbox) { o.Queue = 5 }, a)
		for i := range 5 {
			box.send(numbered(i))
		}
		records.on("put", func(string) error { return store.ErrFull })
		for i := range 20 {
			if err := box.Send(t.Context(), numbered(100+i)); !errors.Is(err, store.ErrFull) {
				t.Errorf("%v", err)
			}
		}
		if s := box.state("a"); s.Queued != 5 || s.Dropped != 0 {
			t.Errorf("%+v", s)
		}
		records.on("put", nil)
		a.recover()
		wait(time.Hour)
		got := a.got()
		slices.Sort(got)
		if !slices.Equal(got, []string{"event-0", "event-1", "event-2", "event-3", "event-4"}) {
			t.Errorf("took %q", got)
		}
	})
}

// A smaller Queue after a restart counts from the next event on.
func TestASmallerQueue(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(store.Mem)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, records, nil, a)
		for i := range 30 {
			box.send(numbered(i))
			wait(time.Millisecond)
		}
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		box = outbox(t, records, func(o *webhook.Outbox) { o.Queue = 10 }, a)
		if s := box.state("a"); s.Queued != 30 {
			t.Errorf("before: %+v", s)
		}
		synctest.Wait()
		box.send(numbered(100))
		if s := box.state("a"); s.Queued != 10 || s.Dropped != 21 || len(keys(t, records)) != 10 {
			t.Errorf("after: %+v", s)
		}
		a.recover()
		wait(time.Hour)
		if got := a.got(); slices.Contains(got, "event-20") || !slices.Contains(got, "event-21") || !slices.Contains(got, "event-100") {
			t.Errorf("took %q, want the newest", got)
		}
	})
}
