package webhook_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/internal/recordset"
	"github.com/pullthrough/pullthrough/webhook"
)

var errDisk = errors.New("the disk is broken")

func broken(string) error { return errDisk }

func TestPutFails(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a, b := newReceiver("a"), newReceiver("b")
		box := outbox(t, records, nil, a, b)
		n := 0
		records.on("put", func(key string) error { // for the second receiver, once
			if key == recordset.Key("b", "event-1") && n == 0 {
				n++
				return errDisk
			}
			return nil
		})
		if err := box.Send(t.Context(), numbered(1)); !errors.Is(err, errDisk) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		wantGot(t, a, "event-1") // it need not wait for the caller to come back
		wantGot(t, b)
		if s := box.state("b"); s.Queued != 0 {
			t.Errorf("%+v", s)
		}
		box.send(numbered(1))
		wantGot(t, b, "event-1")

		// A try whose outcome cannot be written is followed by another one.
		records.on("put", nil)
		a.fail(errDown)
		box.send(numbered(2))
		records.on("put", broken)
		wait(10 * time.Second)
		if c := a.log("event-2"); len(c) < 3 || box.logged.count("cannot be written") == 0 {
			t.Errorf("%v", c)
		}
		a.recover()
		wait(time.Minute)
		if c := a.log("event-2"); !c[len(c)-1].ok {
			t.Errorf("%v", c)
		}
	})
}

func TestDeleteFails(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		records.on("delete", broken)
		box.send(numbered(1))
		wait(time.Hour)
		if s := box.state("a"); s.Queued != 0 || s.Delivered != 1 || box.logged.count("cannot be deleted") != 1 {
			t.Errorf("%+v", s)
		}
		records.on("delete", nil)
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		box = outbox(t, records, nil, a)
		if err := box.Start(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantGot(t, a, "event-1", "event-1") // at least once, with one id
	})
}

func TestReadFails(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		records.on("read", broken)
		box.send(numbered(1), numbered(2))
		wait(time.Hour)
		wantGot(t, a)
		if s := box.state("a"); s.Queued != 2 || s.Failures != 0 || box.logged.count("cannot be read; it is tried again") < 4 {
			t.Errorf("%+v", s)
		}
		records.on("read", nil)
		wait(20 * time.Minute)
		if got := a.got(); len(got) != 2 {
			t.Errorf("took %q", got)
		}

		records.on("read", broken)
		box.send(numbered(3))
		wait(25 * time.Hour)
		up := box.givenUp()
		if s := box.state("a"); s.Queued != 0 || s.GaveUp != 1 || len(up) != 1 || up[0].Event.ID != "event-3" || !errors.Is(up[0].Err, errDisk) || len(keys(t, records)) != 0 {
			t.Errorf("%+v; told %+v", s, up)
		}
	})
}

func TestShutdownWhileRecordsAreRead(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		ctx, cancel := context.WithCancel(t.Context())
		records.on("read", func(string) error { time.Sleep(time.Second); return errDisk })
		box.send(numbered(1))
		cancel()
		if err := box.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if n := box.logged.count("cannot be read"); n != 0 || len(keys(t, records)) != 1 {
			t.Errorf("said %d times; %d records", n, len(keys(t, records)))
		}
	})
}

func TestDamagedRecords(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, records, nil, a)
		for i := range 4 {
			box.send(numbered(i))
		}
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		all := keys(t, records)
		whole, err := records.Record(t.Context(), "outbox", all[2])
		if err != nil {
			t.Fatal(err)
		}
		for key, data := range map[string][]byte{all[0]: []byte("{"), all[1]: whole} { // torn, and another one's
			if err := records.PutRecord(t.Context(), "outbox", key, data); err != nil {
				t.Fatal(err)
			}
		}
		a.recover()
		box = outbox(t, records, nil, a)
		if err := box.Start(t.Context()); err != nil {
			t.Error(err)
		}
		wait(time.Hour)
		if n := len(a.got()); n != 2 || box.logged.count("cannot be read") != 2 || box.logged.count("unexpected end of JSON") != 1 || box.logged.count("another one") != 1 {
			t.Errorf("%d taken; log %s", n, box.logged.text.String())
		}
	})
}

func TestListFails(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, records, nil, a)
		box.send(numbered(1))
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		a.recover()
		records.on("list", broken)
		box = outbox(t, records, nil, a)
		for _, err := range []error{box.Start(t.Context()), box.Send(t.Context(), numbered(2))} {
			if !errors.Is(err, errDisk) {
				t.Errorf("%v", err)
			}
		}
		records.on("list", nil) // it is not broken for ever
		box.send(numbered(2))
		wait(time.Hour)
		if got := a.got(); len(got) != 2 {
			t.Errorf("took %q", got)
		}
	})
}

func TestDuplicatesAreNotQueuedTwice(t *testing.T) {
	for _, records := range []webhook.Records{nil, new(faulty)} {
		tell(t, func(t *testing.T) {
			a := newReceiver("a")
			a.fail(errDown)
			box := outbox(t, records, nil, a)
			box.send(numbered(1), numbered(1))
			wait(time.Minute)
			box.send(numbered(1), numbered(1))
			if s := box.state("a"); s.Queued != 1 {
				t.Errorf("%+v", s)
			}
			a.recover()
			wait(time.Hour)
			wantGot(t, a, "event-1")
		})
	}
}

// Who sends an event again that is just being written must not be told that it is
// kept before it is.
func TestDuplicateOfOneThatIsBeingWritten(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		written := make(chan error)
		records.on("put", func(string) error { return <-written })
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- box.Send(t.Context(), numbered(1)) }()
		synctest.Wait()
		go func() { second <- box.Send(t.Context(), numbered(1)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := box.Send(ctx, numbered(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the third, which has no time: %v", err)
		}
		if len(first)+len(second) != 0 {
			t.Fatal("told before it was written")
		}
		written <- errDisk
		if err := <-first; !errors.Is(err, errDisk) {
			t.Errorf("the first: %v", err)
		}
		written <- nil // the second writes itself
		if err := <-second; err != nil {
			t.Errorf("the second: %v", err)
		}
		synctest.Wait()
		wantGot(t, a, "event-1")
	})
}

func TestEventsWithoutID(t *testing.T) {
	tell(t, func(t *testing.T) {
		a, b := newReceiver("a"), newReceiver("b")
		box := outbox(t, new(faulty), nil, a, b)
		ev := pushed
		ev.ID = ""
		box.send(ev, ev)
		got, other := a.got(), b.got()
		slices.Sort(got)
		slices.Sort(other)
		if len(got) != 2 || got[0] == "" || got[0] == got[1] || !slices.Equal(got, other) {
			t.Errorf("a took %q, b %q", got, other)
		}
	})
}

// vague is a Deliverer that tells nothing.
type vague struct{ *receiver }

func (v vague) Deliver(ctx context.Context, ev webhook.Event) webhook.Delivery {
	return webhook.Delivery{Err: v.Send(ctx, ev)}
}

func TestADelivererThatTellsNothing(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, records, func(o *webhook.Outbox) { o.Receivers[0].Sink = vague{a} }, a)
		box.send(numbered(1))
		wait(5 * time.Second)
		var mu sync.Mutex
		var last webhook.Event
		a.will(func(_ context.Context, ev webhook.Event) error {
			mu.Lock()
			defer mu.Unlock()
			last = ev
			return nil
		})
		wait(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if all, _ := box.Deliveries("a"); last.Target != pushed.Target || all[0].Event.ID != "event-1" || all[0].Time.IsZero() {
			t.Errorf("the last try was %+v; deliveries %+v", last, all)
		}
	})
}
