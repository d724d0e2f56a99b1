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

// openDir opens a store that is closed at the end.
func openDir(t testing.TB, path string) *store.Dir {
	t.Helper()
	dir, err := store.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return dir
}

func TestShutdownWaitsForWhatIsUnderWay(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(store.Mem)
		a := newReceiver("a")
		a.will(func(context.Context, webhook.Event) error { time.Sleep(5 * time.Second); return nil })
		box := outbox(t, records, func(o *webhook.Outbox) { o.AtOnce = 1 }, a)
		box.send(numbered(1), numbered(2))
		if err := box.Shutdown(t.Context()); err != nil || time.Since(a.began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(a.began))
		}
		wantGot(t, a, "event-1")
		wait(time.Hour)
		if len(a.log("")) != 1 || len(keys(t, records)) != 1 {
			t.Errorf("afterwards: %v, %q", a.log(""), keys(t, records))
		}
	})
}

func TestShutdownCutsAndKeeps(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		a.hang()
		box := outbox(t, records, nil, a)
		box.send(numbered(1), numbered(2))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := box.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(a.began) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(a.began))
		}
		if s := box.state("a"); s.Failures != 0 || s.Queued != 2 || records.count("put") != 2 || len(keys(t, records)) != 2 {
			t.Errorf("what was cut counts: %+v", s)
		}
		if all, _ := box.Deliveries("a"); len(all) != 0 {
			t.Errorf("%+v", all)
		}
		if err := box.Shutdown(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
		a.recover()
		box = outbox(t, records, nil, a)
		if err := box.Start(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if all, _ := box.Deliveries("a"); len(a.got()) != 2 || len(all) != 2 || all[0].Attempt != 1 {
			t.Errorf("%+v", all)
		}
	})
}

func TestSendAfterShutdown(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		box.send(numbered(1))
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		box.send(numbered(2))
		wait(time.Hour)
		wantGot(t, a, "event-1")
		box = outbox(t, records, nil, a)
		if err := box.Start(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantGot(t, a, "event-1", "event-2")

		inMemory := outbox(t, nil, nil, a)
		inMemory.send(numbered(3))
		if err := inMemory.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := inMemory.Send(t.Context(), numbered(4)); !errors.Is(err, webhook.ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}

func TestShutdownOfAnOutboxThatWasNotUsed(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		box.send(numbered(1))
		box = outbox(t, records, nil, a)
		lists := records.count("list")
		if err := box.Shutdown(t.Context()); err != nil || records.count("list") != lists {
			t.Errorf("%v, %d lists", err, records.count("list")-lists)
		}
		box.send(numbered(2)) // kept, and not delivered
		wait(time.Hour)
		wantGot(t, a, "event-1")
		if n := len(keys(t, records)); n != 1 {
			t.Errorf("%d records", n)
		}
	})
}

// testRestart stops an Outbox in the middle of its tries and goes on with another
// one.
func testRestart(t *testing.T, open func() webhook.Records) {
	records := open()
	a, b := newReceiver("a"), newReceiver("b")
	a.fail(errDown)
	box := outbox(t, records, nil, a, b)
	for i := range 5 {
		box.send(numbered(i))
		wait(time.Millisecond)
	}
	wait(time.Minute)
	deliveries, _ := box.Deliveries("a")
	attempts := map[string]int{}
	for _, d := range slices.Backward(deliveries) {
		attempts[d.Event.ID] = d.Attempt
	}
	if err := box.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	before := len(a.log(""))
	records = open()
	a.recover()
	box = outbox(t, records, nil, a, b)
	// Any first use goes on with all of it; this one is about the other receiver.
	if _, err := box.Deliveries("b"); err != nil {
		t.Error(err)
	}
	wait(time.Hour)
	after := a.log("")[before:]
	if len(after) != 5 || len(a.got()) != 5 || len(b.got()) != 5 || len(keys(t, records)) != 0 {
		t.Fatalf("afterwards: %v; b took %q", after, b.got())
	}
	deliveries, _ = box.Deliveries("a")
	for _, d := range deliveries {
		if d.Attempt != attempts[d.Event.ID]+1 || d.Event.Target != pushed.Target || !d.Event.Timestamp.Equal(pushed.Timestamp) {
			t.Errorf("%s: attempt %d after %d; %+v", d.Event.ID, d.Attempt, attempts[d.Event.ID], d.Event)
		}
	}
}

func TestRestartKeepsWhenAnEventIsNext(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(store.Mem)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, records, nil, a)
		box.send(numbered(1))
		wait(time.Minute)
		all, _ := box.Deliveries("a")
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		a.recover()
		box = outbox(t, records, nil, a)
		if err := box.Start(t.Context()); err != nil {
			t.Error(err)
		}
		wait(time.Hour)
		again, _ := box.Deliveries("a")
		if len(again) != 1 || !again[0].Time.Equal(all[0].Next) || again[0].Attempt != all[0].Attempt+1 || all[0].Attempt < 5 {
			t.Errorf("after %+v came %+v", all[0], again)
		}
	})
}

func TestRestart(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(store.Mem)
		testRestart(t, func() webhook.Records { return records })
	})
}

func TestRestartOnDisk(t *testing.T) {
	path := t.TempDir()
	tell(t, func(t *testing.T) {
		var dir *store.Dir
		testRestart(t, func() webhook.Records {
			if dir != nil {
				if err := dir.Close(); err != nil {
					t.Error(err)
				}
			}
			dir = openDir(t, path)
			return dir
		})
	})
}

func TestAClockThatWentBack(t *testing.T) {
	path := t.TempDir()
	// A real clock far ahead of the fake one of synctest, which begins in 2000.
	dir := openDir(t, path)
	stuck := &webhook.Outbox{Records: dir, Receivers: []webhook.Receiver{{Name: "a", Sink: webhook.SinkFunc(func(ctx context.Context, _ webhook.Event) error {
		<-ctx.Done()
		return ctx.Err()
	})}}}
	if err := stuck.Send(t.Context(), numbered(1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = stuck.Shutdown(ctx)
	if err := dir.Close(); err != nil { // what it does outside of the bubble must have ended
		t.Fatal(err)
	}
	tell(t, func(t *testing.T) {
		dir := openDir(t, path)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, dir, nil, a)
		if s := box.state("a"); s.Oldest.After(time.Now()) || s.Queued != 1 {
			t.Errorf("%+v", s)
		}
		wait(25 * time.Hour)
		if n := len(a.log("")); n < 10 || len(box.givenUp()) != 1 {
			t.Errorf("%d tries, given up %v", n, box.givenUp())
		}
	})
}

func TestAReceiverThatIsGone(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(store.Mem)
		a, b := newReceiver("a"), newReceiver("b")
		a.fail(errDown)
		b.fail(errDown)
		box := outbox(t, records, nil, a, b)
		box.send(numbered(1), numbered(2))
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		b.recover()
		box = outbox(t, records, nil, b)
		if err := box.Start(t.Context()); err != nil {
			t.Error(err)
		}
		wait(time.Hour)
		if len(b.got()) != 2 || len(keys(t, records)) != 0 || box.logged.count("events for a receiver that is gone are dropped\" receiver=a events=2") != 1 {
			t.Errorf("b took %q; %d records; log %s", b.got(), len(keys(t, records)), box.logged.text.String())
		}
	})
}
