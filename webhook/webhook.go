// Package webhook sends events to other systems when something was copied or
// deleted.
//
// An [Event] has the shape of Azure Container Registry's webhook payload. The
// cache sends events to a [Sink] when a copy is complete, not when content that it
// already has is pulled:
//
//   - The first platform of an index that is pulled by tag gives 3 events: one for
//     the index with its tag, one for the index without a tag, and one for the
//     manifest of the platform. Each further platform gives 1 more.
//   - An image without an index that is pulled by tag gives 2: one with its tag and
//     one without.
//   - A pull by digest gives 1. A tag that moves to new content gives the events of
//     a first pull again.
//   - A hit gives none, and neither does a blob.
//   - [cache.Cache.Delete] of a manifest gives a delete event, that of a tag none.
//
// An [HTTP] posts events to one receiver, as ACR does or as CloudEvents. An
// [Outbox] in front of receivers delivers each event at least once: it keeps events
// on disk until they are delivered, and a receiver that is slow or down delays
// neither copies nor other receivers. A repeated delivery has the same event ID.
// Events may arrive in any order. [Sinks] and [Filter] combine sinks.
//
//	dir, err := store.OpenDir("images")
//	outbox := &webhook.Outbox{Records: dir, Receivers: []webhook.Receiver{
//		{Name: "scanner", Sink: &webhook.HTTP{URL: "https://scanner.example.com/hook"}, Scope: "promoted/api:*"},
//	}}
//	err = outbox.Start(ctx) // delivers what a former process left
//	c := &cache.Cache{Rules: rules, Store: dir, Events: outbox}
//
// Package webhooktest has a receiver for tests.
//
// [cache.Cache.Delete]: https://pkg.go.dev/github.com/pullthrough/pullthrough/cache#Cache.Delete
package webhook

import (
	"context"
	"errors"
	"slices"
)

// Sink takes events. Implementations must be safe for concurrent use.
type Sink interface {
	// Send returns when the sink has taken the event over, durably if that is what
	// the sink is for. Any error means that it has not: the caller then sends the
	// event again later, with the same ID.
	Send(ctx context.Context, ev Event) error
}

// Batcher is an optional ability of a [Sink]: it takes several events over at once,
// which costs less than one by one.
type Batcher interface {
	// SendAll is Send for several events. After an error some of them may have been
	// taken over.
	SendAll(ctx context.Context, events []Event) error
}

// SendAll sends events to a sink, at once if it is a [Batcher]. Without a Batcher it
// stops at the first error and returns that.
func SendAll(ctx context.Context, s Sink, events []Event) error {
	if b, ok := s.(Batcher); ok {
		return b.SendAll(ctx, events)
	}
	for _, ev := range events {
		if err := s.Send(ctx, ev); err != nil {
			return err
		}
	}
	return nil
}

// Waiter is an optional ability of a [Sink] that keeps events until they are delivered: it
// tells whether they still wait. A cache that copies for others with one Store tells these
// by it whether they still have to care for the events; see cache.Teller.
type Waiter interface {
	// Waits reports whether one of the events with these IDs was taken over and is
	// neither delivered nor given up yet. If that cannot be told now, it is true. It must be
	// cheap, and safe for concurrent use.
	Waits(ctx context.Context, ids ...string) bool
}

// Waits reports whether an event waits in a sink. In one that is no [Waiter], or nil, none
// does.
func Waits(ctx context.Context, s Sink, ids ...string) bool {
	w, ok := s.(Waiter)
	return ok && w.Waits(ctx, ids...)
}

// SinkFunc is a function as a [Sink].
type SinkFunc func(ctx context.Context, ev Event) error

// Send calls f.
func (f SinkFunc) Send(ctx context.Context, ev Event) error { return f(ctx, ev) }

// Sinks sends each event to several sinks, one after the other. It joins their
// errors. When the caller sends the event again, sinks that had taken it over get it
// twice.
type Sinks []Sink

// Send implements [Sink].
func (s Sinks) Send(ctx context.Context, ev Event) error {
	var all error
	for _, sink := range s {
		all = errors.Join(all, sink.Send(ctx, ev))
	}
	return all
}

// SendAll implements [Batcher].
func (s Sinks) SendAll(ctx context.Context, events []Event) error {
	var all error
	for _, sink := range s {
		all = errors.Join(all, SendAll(ctx, sink, events))
	}
	return all
}

// Waits implements [Waiter]: an event waits if it does in one of the sinks.
func (s Sinks) Waits(ctx context.Context, ids ...string) bool {
	return slices.ContainsFunc(s, func(sink Sink) bool { return Waits(ctx, sink, ids...) })
}

// Filter is a [Sink] that hands the events it selects to another one and drops the
// rest, as if they were taken over.
type Filter struct {
	// Sink gets the selected events. If nil, they are dropped too.
	Sink Sink
	// Scope selects by repository and tag. If empty, it selects every event.
	Scope Scope
	// Actions selects by action. If nil, every action is selected.
	Actions []string
	// Select selects by any other rule. If nil, it selects every event.
	Select func(Event) bool
}

// Selects reports whether Scope, Actions and Select all select an event.
func (f Filter) Selects(ev Event) bool {
	return f.Scope.Matches(ev) && (f.Actions == nil || slices.Contains(f.Actions, ev.Action)) && (f.Select == nil || f.Select(ev))
}

// SendAll implements [Batcher].
func (f Filter) SendAll(ctx context.Context, events []Event) error {
	var selected []Event
	for _, ev := range events {
		if f.Selects(ev) {
			selected = append(selected, ev)
		}
	}
	if f.Sink == nil || len(selected) == 0 {
		return nil
	}
	return SendAll(ctx, f.Sink, selected)
}

// Waits implements [Waiter].
func (f Filter) Waits(ctx context.Context, ids ...string) bool { return Waits(ctx, f.Sink, ids...) }

// Send implements [Sink].
func (f Filter) Send(ctx context.Context, ev Event) error {
	if f.Sink == nil || !f.Selects(ev) {
		return nil
	}
	return f.Sink.Send(ctx, ev)
}
