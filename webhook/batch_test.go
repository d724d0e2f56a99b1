package webhook_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// batched notes which events came at once.
type batched struct{ got [][]string }

func (b *batched) Send(ctx context.Context, ev webhook.Event) error {
	return b.SendAll(ctx, []webhook.Event{ev})
}

func (b *batched) SendAll(_ context.Context, events []webhook.Event) error {
	var ids []string
	for _, ev := range events {
		ids = append(ids, ev.ID)
	}
	b.got = append(b.got, ids)
	return nil
}

// single is a sink without the ability, that may fail.
type single struct {
	got   []string
	fails string
}

func (s *single) Send(_ context.Context, ev webhook.Event) error {
	if ev.ID == s.fails {
		return errDown
	}
	s.got = append(s.got, ev.ID)
	return nil
}

func TestSendAll(t *testing.T) {
	events := []webhook.Event{numbered(1), numbered(2), numbered(3)}
	events[1].Action = webhook.ActionDelete
	b, one, failing := &batched{}, &single{}, &single{fails: "event-2"}
	sinks := webhook.Sinks{b, webhook.Filter{Sink: b, Actions: []string{webhook.ActionPush}}, one, failing, webhook.Filter{}, webhook.Filter{Sink: b, Actions: []string{webhook.ActionPing}}}
	if err := webhook.SendAll(t.Context(), sinks, events); !errors.Is(err, errDown) {
		t.Errorf("%v", err)
	}
	if len(b.got) != 2 || !slices.Equal(b.got[0], []string{"event-1", "event-2", "event-3"}) || !slices.Equal(b.got[1], []string{"event-1", "event-3"}) {
		t.Errorf("at once: %v", b.got)
	}
	if !slices.Equal(one.got, []string{"event-1", "event-2", "event-3"}) || !slices.Equal(failing.got, []string{"event-1"}) {
		t.Errorf("one by one: %v, %v", one.got, failing.got)
	}
}

// Several events are written at the same time, so that a store can make one write of
// them, and reach those who are to get them.
func TestOutboxSendAll(t *testing.T) {
	tell(t, func(t *testing.T) {
		records := new(faulty)
		var under, most atomic.Int32
		records.on("put", func(string) error {
			most.Store(max(most.Load(), under.Add(1)))
			time.Sleep(time.Second)
			under.Add(-1)
			return nil
		})
		a := newReceiver("a")
		box := outbox(t, records, nil, a)
		if err := box.SendAll(t.Context(), []webhook.Event{numbered(1), numbered(2), numbered(3)}); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		if most.Load() != 3 || len(a.log("event-1")) != 1 || len(a.log("event-3")) != 1 {
			t.Errorf("%d writes at once, %v", most.Load(), a.log("event-3"))
		}
	})
}
