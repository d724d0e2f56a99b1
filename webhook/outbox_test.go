package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

func TestAnEventIsTriedUntilItIsTaken(t *testing.T) {
	tell(t, func(t *testing.T) {
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, new(store.Mem), func(o *webhook.Outbox) { o.LongestPause = 10 * time.Second }, a)
		box.send(numbered(1))
		wait(100 * time.Second)
		a.recover()
		wait(20 * time.Second)
		wantGot(t, a, "event-1")

		tries, chance := a.log(""), false
		for i, c := range tries[1:] {
			least := min(10*time.Second, time.Second<<i)
			pause := c.at - tries[i].at
			if pause < least || pause > least*5/4 {
				t.Errorf("pause %d is %v, want %v to %v", i+1, pause, least, least*5/4)
			}
			chance = chance || pause != least
		}
		if len(tries) < 10 || !chance {
			t.Errorf("%d tries, by chance: %v", len(tries), chance)
		}
		all, err := box.Deliveries("a")
		if err != nil || len(all) != len(tries) {
			t.Fatalf("%d deliveries, %v", len(all), err)
		}
		for i, d := range slices.Backward(all) {
			n := len(all) - i // the newest comes first
			if d.Attempt != n || d.Event.ID != "event-1" || d.Receiver != "a" || (d.Err == nil) != (n == len(all)) {
				t.Errorf("try %d: %+v", n, d)
			}
			if n < len(all) && !d.Next.Equal(a.began.Add(tries[n].at)) {
				t.Errorf("try %d was to be followed at %v, and was at %v", n, d.Next, a.began.Add(tries[n].at))
			}
		}
	})
}

func TestAnHourDownLosesNothing(t *testing.T) {
	for _, records := range []webhook.Records{nil, new(store.Mem)} {
		tell(t, func(t *testing.T) {
			a, b := newReceiver("a"), newReceiver("b")
			a.fail(errDown)
			box := outbox(t, records, nil, a, b)
			var want []string
			for i := range 120 {
				box.send(numbered(i))
				want = append(want, numbered(i).ID)
				wait(30 * time.Second)
			}
			wantGot(t, b, want...)
			if n := len(a.log("")); n > 60 {
				t.Errorf("%d tries while it was down: it is not left alone", n)
			}
			if s := box.state("a"); s.Queued != 120 || s.Failures == 0 || s.Paused.IsZero() {
				t.Errorf("while it was down: %+v", s)
			} else if all, err := box.Deliveries("a"); err != nil || all[0].Next.Before(s.Paused) {
				t.Errorf("the next try is told for %v, the receiver is left alone until %v (%v)", all[0].Next, s.Paused, err)
			}
			a.recover()
			wait(19 * time.Minute) // the longest pause and a quarter
			got := a.got()
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("took %d events, want each of %d once", len(got), len(want))
			}
			if s := box.state("a"); s.Queued != 0 || s.Delivered != 120 || s.Failures != 0 || !s.Paused.IsZero() || !s.Oldest.IsZero() || len(box.givenUp()) != 0 {
				t.Errorf("afterwards: %+v", s)
			}
			// The rest went out in one go when the first was taken.
			log := a.log("")
			first := slices.IndexFunc(log, func(c try) bool { return c.ok })
			if last := log[len(log)-1].at; last != log[first].at {
				t.Errorf("the first was taken at %v, the last at %v", log[first].at, last)
			}
		})
	}
}

// What waits for long after many failures of its receiver does not wait any longer
// when that answers to another one.
func TestAnAnswerEndsTheWaitOfAll(t *testing.T) {
	tell(t, func(t *testing.T) {
		a := newReceiver("a")
		a.fail(errDown)
		box := outbox(t, new(store.Mem), nil, a)
		box.send(numbered(1), numbered(2), numbered(3))
		wait(5 * time.Hour)
		a.recover()
		wait(20 * time.Minute)
		got := slices.DeleteFunc(a.log(""), func(c try) bool { return !c.ok })
		if len(got) != 3 || got[0].at != got[2].at {
			t.Errorf("taken: %v", got)
		}
	})
}

// The same for one whose failure is just being written when the answer comes.
func TestAnAnswerWhileAFailureIsWritten(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		answer, written := make(chan error), make(chan error)
		a.will(func(_ context.Context, ev webhook.Event) error {
			if ev.ID == "event-1" {
				return errDown
			}
			return <-answer
		})
		box.send(numbered(2))
		puts := 0
		records.on("put", func(string) error {
			if puts++; puts == 2 {
				return <-written
			}
			return nil
		})
		box.send(numbered(1))
		answer <- nil
		synctest.Wait()
		a.recover()
		written <- nil
		synctest.Wait()
		wantGot(t, a, "event-2", "event-1")
	})
}

func TestAHangingReceiverDelaysNobody(t *testing.T) {
	tell(t, func(t *testing.T) {
		a, b := newReceiver("a"), newReceiver("b")
		a.hang()
		box := outbox(t, new(store.Mem), func(o *webhook.Outbox) { o.Timeout = 90 * time.Second }, a, b)
		for i := range 10 {
			box.send(numbered(i))
		}
		if time.Since(a.began) != 0 || len(b.got()) != 10 || b.log("")[9].at != 0 {
			t.Errorf("after %v: %v", time.Since(a.began), b.log(""))
		}
		if n := len(a.log("")); n != 4 {
			t.Errorf("%d at once, want 4", n)
		}
		wait(90*time.Second - 1)
		if s := box.state("a"); s.Failures != 0 || s.Queued != 10 {
			t.Errorf("before the timeout: %+v", s)
		}
		wait(1)
		if s := box.state("a"); s.Failures != 4 || s.Queued != 10 {
			t.Errorf("after the timeout: %+v", s)
		}
		wait(time.Hour)
		for i, c := range a.log("")[4:] { // in trouble: one at a time
			if before := a.log("")[i+3]; c.at-before.at < 90*time.Second {
				t.Errorf("try %d at %v, the one before at %v", i+4, c.at, before.at)
			}
		}
	})
}

func TestOneEventDoesNotHoldBackOthers(t *testing.T) {
	for _, status := range []int{400, 403, 404, 413, 422, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			tell(t, func(t *testing.T) {
				a := newReceiver("a")
				a.will(func(_ context.Context, ev webhook.Event) error {
					if ev.ID == "poison" {
						return &webhook.StatusError{Host: "h", StatusCode: status}
					}
					return nil
				})
				box := outbox(t, new(store.Mem), nil, a)
				poison := pushed
				poison.ID = "poison"
				box.send(poison)
				wait(2 * time.Hour) // alone: no reason to leave the receiver alone either
				for i := range 600 {
					at := time.Since(a.began)
					box.send(numbered(i))
					if c := a.log(numbered(i).ID); len(c) != 1 || !c[0].ok || c[0].at != at {
						t.Fatalf("event %d, sent at %v: %v", i, at, c)
					}
					wait(time.Minute)
				}
				// Twelve hours: 10 pauses of up to 8.5 minutes, and then 15 or more each,
				// but for one that the first answer to another event may cut short.
				if n := len(a.log("poison")); n < 40 || n > 60 {
					t.Errorf("%d tries of the one that fails", n)
				}
			})
		})
	}
}

func TestTwoThatFailHoldBackOthersForMoments(t *testing.T) {
	tell(t, func(t *testing.T) {
		a := newReceiver("a")
		a.will(func(_ context.Context, ev webhook.Event) error {
			if strings.HasPrefix(ev.ID, "poison") {
				return errDown
			}
			return nil
		})
		box := outbox(t, new(store.Mem), nil, a)
		for _, id := range []string{"poison-1", "poison-2"} {
			ev := pushed
			ev.ID = id
			box.send(ev)
		}
		wait(3 * time.Hour)
		for i := range 300 {
			at := time.Since(a.began)
			box.send(numbered(i))
			wait(time.Minute)
			if c := a.log(numbered(i).ID); len(c) != 1 || c[0].at > at+1250*time.Millisecond {
				t.Fatalf("event %d, sent at %v: %v", i, at, c)
			}
		}
		if n := len(a.log("poison-1")) + len(a.log("poison-2")); n > 100 {
			t.Errorf("%d tries of the two that fail", n)
		}
	})
}

// A receiver that refuses everything, as one that wants a new token does, is left
// alone like one that is down.
func TestAReceiverThatRefusesEverythingIsLeftAlone(t *testing.T) {
	for _, status := range []int{401, 403, 404, 410, 429} {
		tell(t, func(t *testing.T) {
			a := newReceiver("a")
			a.fail(&webhook.StatusError{StatusCode: status})
			box := outbox(t, new(store.Mem), nil, a)
			for i := range 200 {
				box.send(numbered(i))
			}
			wait(time.Hour)
			if n := len(a.log("")); n > 40 {
				t.Errorf("%d: %d tries in an hour", status, n)
			}
			a.recover()
			wait(19 * time.Minute)
			if n := len(a.got()); n != 200 {
				t.Errorf("%d: %d taken afterwards", status, n)
			}
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	tell(t, func(t *testing.T) {
		a := newReceiver("a")
		box := outbox(t, new(store.Mem), nil, a)
		slow, begun := make(chan error), make(chan struct{})
		a.will(func(_ context.Context, ev webhook.Event) error {
			switch ev.ID {
			case "event-0": // was under way before, and is taken afterwards
				return <-slow
			case "event-1":
				<-begun // event-2 is under way, too
				return &webhook.StatusError{StatusCode: 429, RetryAfter: 10 * time.Minute}
			case "event-2":
				close(begun)
			}
			return nil
		})
		box.send(numbered(0), numbered(1), numbered(2))
		wait(time.Minute)
		slow <- nil
		a.recover()
		box.send(numbered(3))
		wait(9*time.Minute - 1)
		if s := box.state("a"); !s.Paused.Equal(a.began.Add(10*time.Minute)) || len(a.got()) != 2 {
			t.Errorf("took %q; %+v", a.got(), s)
		}
		all, _ := box.Deliveries("a")
		if d := all[1]; d.Event.ID != "event-1" && all[2].Event.ID != "event-1" || !slices.ContainsFunc(all, func(d webhook.Delivery) bool { return d.Next.Equal(a.began.Add(10 * time.Minute)) }) {
			t.Errorf("deliveries %+v", all)
		}
		wait(1)
		if got := a.got(); len(got) != 4 {
			t.Errorf("afterwards: %q", got)
		}
	})
}

func TestGiveUp(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(store.Mem)
		a, b := newReceiver("a"), newReceiver("b")
		a.fail(&webhook.StatusError{Host: "h", StatusCode: 502})
		box := outbox(t, records, nil, a, b)
		box.send(numbered(1))
		wait(24*time.Hour - 1)
		if s := box.state("a"); s.Queued != 1 || len(box.givenUp()) != 0 || len(keys(t, records)) != 1 {
			t.Errorf("before a day: %+v, %v", s, box.givenUp())
		}
		wait(20 * time.Minute)
		if s := box.state("a"); s.Queued != 0 || s.GaveUp != 1 || s.Delivered != 0 || len(keys(t, records)) != 0 {
			t.Errorf("after a day: %+v", s)
		}
		tries := a.log("")
		up := box.givenUp()
		if len(up) != 1 || up[0].Event.ID != "event-1" || up[0].Attempt != len(tries) || up[0].Receiver != "a" || up[0].Err == nil || !up[0].Next.IsZero() {
			t.Errorf("told %+v after %d tries", up, len(tries))
		}
		if box.logged.count("is given up") != 1 {
			t.Error("the log does not say so")
		}
		a.recover()
		wait(24 * time.Hour)
		if len(a.got()) != 0 {
			t.Error("it was delivered after it was given up")
		}
		if err := box.Resend(t.Context(), "a", "event-1"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantGot(t, a, "event-1")
	})
}

// An event that is a day old because the process was down gets a few tries.
func TestAnOldEventIsNotGivenUpAtOnce(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(store.Mem)
		a := newReceiver("a")
		a.hang()
		box := outbox(t, records, nil, a)
		box.send(numbered(1), numbered(2))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := box.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("shutdown: %v", err)
		}
		wait(48 * time.Hour)
		a.fail(errDown)
		box = outbox(t, records, nil, a)
		if err := box.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(2500 * time.Millisecond)
		if s := box.state("a"); s.GaveUp != 0 {
			t.Errorf("given up after %v", a.log(""))
		}
		a.recover()
		wait(time.Minute)
		if got := a.got(); len(got) != 2 {
			t.Errorf("took %q", got)
		}
	})
}
