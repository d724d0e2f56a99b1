package webhook_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// Events that are enlisted are delivered once their records are written, by whoever
// wrote them.
func TestEnlist(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := &store.Mem{}
		a, b := newReceiver("a"), newReceiver("b")
		box := outbox(t, records, func(o *webhook.Outbox) { o.Receivers[1].Scope = "other:*" }, a, b)
		e, err := box.Enlist(t.Context(), records, []webhook.Event{numbered(1), numbered(2), numbered(1)})
		if err != nil || e == nil || len(e.Records) != 2 {
			t.Fatalf("%+v, %v", e, err)
		}
		synctest.Wait()
		wantGot(t, a)
		for _, r := range e.Records {
			if err := records.PutRecord(t.Context(), r.Kind, r.Key, r.Data); err != nil {
				t.Fatal(err)
			}
		}
		e.Done(nil)
		synctest.Wait()
		if got := a.got(); len(got) != 2 {
			t.Errorf("took %q", got)
		}
		wantGot(t, b)
		if n := len(keys(t, records)); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}

// An event whose record was not written is forgotten, and may come again.
func TestEnlistInVain(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := &store.Mem{}
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		e, err := box.Enlist(t.Context(), records, []webhook.Event{numbered(1)})
		if err != nil {
			t.Fatal(err)
		}
		sent := make(chan error)
		go func() { sent <- box.Send(t.Context(), numbered(1)) }() // waits for what becomes of it
		synctest.Wait()
		e.Done(errors.New("the transaction failed"))
		if err := <-sent; err != nil {
			t.Error(err)
		}
		wait(time.Second)
		wantGot(t, a, "event-1")
		// One that is queued already needs no record.
		a.fail(errDown)
		box.send(numbered(2))
		if e, err = box.Enlist(t.Context(), records, []webhook.Event{numbered(2)}); err != nil || e == nil || len(e.Records) != 0 {
			t.Errorf("%+v, %v", e, err)
		}
		e.Done(nil)
		a.recover()
		wait(time.Minute)
		wantGot(t, a, "event-1", "event-2")
	})
}

// uncomparable is a Records that cannot be compared.
type uncomparable struct {
	webhook.Records
	_ []int
}

func TestEnlistElsewhere(t *testing.T) {
	for name, own := range map[string]webhook.Records{"in memory": nil, "others": &store.Mem{}, "uncomparable": uncomparable{Records: &store.Mem{}}} {
		box := &webhook.Outbox{Records: own}
		in := webhook.Records(&store.Mem{})
		if name == "uncomparable" {
			in = own
		}
		if e, err := box.Enlist(t.Context(), in, []webhook.Event{numbered(1)}); e != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}
