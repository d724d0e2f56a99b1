package webhook_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// The form of a record and its key must not change: an event that an older version
// kept is delivered.
func TestTheFormOfRecords(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		const key = "a84a86c8112b36c6477c8dc711e93478"
		const record = `{"receiver":"a","event":{"id":"event-1","timestamp":"1999-12-31T23:00:00Z","action":"push",` +
			`"target":{"mediaType":"m","size":7,"digest":"sha256:abc","length":7,"repository":"library/alpine","tag":"3"}},` +
			`"created":"1999-12-31T23:00:00Z","attempts":2,"next":"2000-01-01T00:05:00Z","error":"the receiver is down"}`
		if err := records.PutRecord(t.Context(), "outbox", key, []byte(record)); err != nil {
			t.Fatal(err)
		}
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, records, nil, a) // the clock of a bubble begins in 2000
		if err := box.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wait(4 * time.Minute)
		if c := a.log(""); len(c) != 0 {
			t.Errorf("tried before its time: %v", c)
		}
		wait(2 * time.Minute)
		deliveries, err := box.Deliveries("a")
		if err != nil || len(deliveries) == 0 {
			t.Fatalf("%v, %v", deliveries, err)
		}
		last := deliveries[len(deliveries)-1]
		if ev := last.Event; last.Attempt != 3 || ev.ID != "event-1" || ev.Target.Tag != "3" || ev.Target.Size != 7 || !ev.Timestamp.Equal(time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC)) {
			t.Errorf("%+v", last)
		}
		if all := keys(t, records); len(all) != 1 || all[0] != key {
			t.Errorf("the record has moved to %q", all)
		}
		a.recover()
		wait(time.Hour)
		wantGot(t, a, "event-1")
	})
}
