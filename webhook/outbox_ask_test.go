package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

func TestResend(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, records, func(o *webhook.Outbox) { o.LongestPause = time.Hour }, a)
		for i := range 20 {
			box.send(numbered(i))
		}
		wait(90 * time.Minute)
		box.leftAlone("a")
		// One that waits is the next one, whatever else is due.
		a.recover()
		if err := box.Resend(t.Context(), "a", "event-17"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		got := a.got()
		if len(got) != 20 || got[0] != "event-17" {
			t.Errorf("took %q", got)
		}
		// One that was taken goes out again, and is kept until it is taken.
		a.fail(errDown)
		if err := box.Resend(t.Context(), "a", "event-3"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(keys(t, records)); n != 1 {
			t.Errorf("%d records", n)
		}
		a.recover()
		wait(2 * time.Second)
		if c := a.log("event-3"); !c[len(c)-1].ok || len(a.got()) != 21 || len(keys(t, records)) != 0 {
			t.Errorf("%v", c)
		}
		for _, c := range []struct {
			receiver, event string
			want            error
		}{{"a", "event-99", webhook.ErrNoEvent}, {"b", "event-3", webhook.ErrNoReceiver}} {
			if err := box.Resend(t.Context(), c.receiver, c.event); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		}
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := box.Resend(t.Context(), "a", "event-3"); !errors.Is(err, webhook.ErrClosed) {
			t.Errorf("after shutdown: %v", err)
		}
	})
}

// Resend of an event that was just given up must not lose the new one to the end
// of the old one.
func TestResendWhileTheRecordIsErased(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		erased := make(chan error)
		records.on("delete", func(string) error { return <-erased })
		box.send(numbered(1)) // taken; its record is being deleted
		wantGot(t, a, "event-1")
		sent := make(chan error, 1)
		go func() { sent <- box.Send(t.Context(), numbered(1)) }()
		synctest.Wait()
		if len(sent) != 0 {
			t.Fatal("it was taken for one that waits")
		}
		a.fail(errDown)
		erased <- nil
		records.on("delete", nil)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(keys(t, records)); n != 1 {
			t.Errorf("%d records of the new one", n)
		}
		a.recover()
		wait(time.Minute)
		wantGot(t, a, "event-1", "event-1")
	})
}

func TestPing(t *testing.T) {
	tell(t, func(t *testing.T) {
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, new(store.Mem), func(o *webhook.Outbox) {
			o.LongestPause = 4 * time.Hour
			o.Receivers[0].Scope, o.Receivers[0].Actions = "other:v1", []string{webhook.ActionPush, webhook.ActionPing}
		}, a)
		d, err := box.Ping(t.Context(), "a")
		if err != nil || !errors.Is(d.Err, errDown) || d.Error != errDown.Error() || d.Event.Action != webhook.ActionPing || d.Receiver != "a" || d.Attempt != 1 {
			t.Errorf("%+v, %v", d, err)
		}
		if s := box.state("a"); s.Queued != 0 || s.Failures != 0 {
			t.Errorf("a ping is queued or counted: %+v", s)
		}
		for i := range 20 {
			ev := numbered(i)
			ev.Target.Repository = "other"
			box.send(ev)
		}
		wait(5 * time.Hour)
		box.leftAlone("a")
		a.recover()
		if d, err = box.Ping(t.Context(), "a"); err != nil || d.Err != nil {
			t.Errorf("%v, %v", d.Err, err)
		}
		synctest.Wait()
		if n := len(a.got()); n != 21 {
			t.Errorf("after a ping that arrived %d were taken", n)
		}
		all, _ := box.Deliveries("a")
		if !slices.ContainsFunc(all, func(o webhook.Delivery) bool { return o.Event.ID == d.Event.ID }) {
			t.Error("the ping is not among the deliveries")
		}
		if _, err := box.Ping(t.Context(), "b"); !errors.Is(err, webhook.ErrNoReceiver) {
			t.Errorf("%v", err)
		}
		a.hang()
		if d, err := box.Ping(t.Context(), "a"); err != nil || !errors.Is(d.Err, context.DeadlineExceeded) || d.Duration != time.Minute {
			t.Errorf("a ping that hangs: %+v, %v", d, err)
		}
		hung := make(chan webhook.Delivery)
		go func() {
			d, _ := box.Ping(t.Context(), "a")
			hung <- d
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { _ = box.Shutdown(ctx) }()
		if d := <-hung; !errors.Is(d.Err, context.Canceled) || d.Duration != time.Second {
			t.Errorf("a ping that Shutdown cuts: %+v", d)
		}
		if _, err := box.Ping(t.Context(), "a"); !errors.Is(err, webhook.ErrClosed) {
			t.Errorf("after shutdown: %v", err)
		}
	})
}

func TestDeliveriesAreARing(t *testing.T) {
	tell(t, func(t *testing.T) {
		a, b := newReceiver("a"), newReceiver("b")
		box := outbox(t, nil, func(o *webhook.Outbox) { o.Recent = 3 }, a, b)
		if all, err := box.Deliveries("a"); err != nil || all == nil || len(all) != 0 {
			t.Errorf("%v, %v", all, err)
		}
		for i := range 8 {
			box.send(numbered(i))
			all, err := box.Deliveries("a")
			var want []string
			for j := i; j >= max(0, i-2); j-- {
				want = append(want, numbered(j).ID)
			}
			var got []string
			for _, d := range all {
				got = append(got, d.Event.ID)
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("after %d: %q, want %q (%v)", i+1, got, want, err)
			}
		}
		if _, err := box.Deliveries("c"); !errors.Is(err, webhook.ErrNoReceiver) {
			t.Errorf("%v", err)
		}
		all, _ := box.Deliveries("a")
		data, err := json.Marshal(all[0])
		if got := fields(t, data); err != nil || got[".receiver"] != "string a" || got[".event.action"] != "string push" || got[".attempt"] != "float64 1" {
			t.Errorf("%s, %v", data, err)
		}
	})
}

func TestStates(t *testing.T) {
	tell(t, func(t *testing.T) {
		a, b := newReceiver("a"), newReceiver("b")
		a.hang()
		box := outbox(t, new(store.Mem), nil, a, b)
		start := time.Now().UTC()
		box.send(numbered(1))
		wait(time.Second)
		box.send(numbered(2))
		want := []webhook.ReceiverState{{Name: "a", Queued: 2, Oldest: start}, {Name: "b", Delivered: 2}}
		if got := box.States(); !slices.Equal(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
		a.fail(errDown)
		wait(2 * time.Minute)
		s := box.state("a")
		if s.Failures < 3 || !s.Oldest.Equal(start) || s.Queued != 2 {
			t.Errorf("%+v", s)
		}
		data, err := json.Marshal(box.state("b"))
		if want := `{"name":"b","queued":0,"failures":0,"delivered":2,"gaveUp":0,"dropped":0}`; err != nil || string(data) != want {
			t.Errorf("%s, %v", data, err)
		}
	})
}

func TestReceiversSelect(t *testing.T) {
	tell(t, func(t *testing.T) {
		a, b, c := newReceiver("a"), newReceiver("b"), newReceiver("c")
		records := new(faulty)
		box := outbox(t, records, func(o *webhook.Outbox) {
			o.Receivers[0].Scope = "hello-world:v1"
			o.Receivers[1].Actions = []string{webhook.ActionDelete}
			o.Receivers[2].Scope = "other:*"
		}, a, b, c)
		untagged := numbered(2)
		untagged.Target.Tag = ""
		box.send(numbered(1), untagged, deleted)
		wantGot(t, a, "event-1")
		wantGot(t, b, deleted.ID)
		wantGot(t, c)
		if records.count("put") != 2 {
			t.Errorf("%d records", records.count("put"))
		}
	})
}

func TestOutboxThatCannotWork(t *testing.T) {
	a := newReceiver("a")
	for name, receivers := range map[string][]webhook.Receiver{
		"no name":   {{Sink: a}},
		"no sink":   {{Name: "a"}},
		"the same":  {{Name: "a", Sink: a}, {Name: "a", Sink: a}},
		"bad scope": {{Name: "a", Sink: a, Scope: "*"}},
		"bad URL":   {{Name: "a", Sink: &webhook.HTTP{URL: "ftp://x"}}},
	} {
		box := &webhook.Outbox{Receivers: receivers}
		if err := box.Start(t.Context()); !errors.Is(err, webhook.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
		if err := box.Send(t.Context(), pushed); !errors.Is(err, webhook.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
		_, err := box.Deliveries("a")
		_, perr := box.Ping(t.Context(), "a")
		if rerr := box.Resend(t.Context(), "a", "1"); !errors.Is(err, webhook.ErrConfig) || !errors.Is(perr, webhook.ErrConfig) || !errors.Is(rerr, webhook.ErrConfig) || box.States() != nil {
			t.Errorf("%s: %v, %v, %v", name, err, perr, rerr)
		}
		if err := box.Shutdown(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(a.log("")) != 0 {
		t.Error("something was delivered")
	}
	if err := (&webhook.Outbox{}).Send(t.Context(), pushed); err != nil { // without receivers
		t.Error(err)
	}
}
