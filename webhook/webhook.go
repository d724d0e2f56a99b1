// Package webhook tells others that something was copied or deleted.
//
// An [Event] has the shape of Azure Container Registry's webhook payload. The
// cache sends events to a [Sink] when a copy is complete, never when it is
// merely pulled:
//
//   - the first platform of an index by tag: the index with its tag, the index
//     without, and the platform's manifest: 3 events; a further platform: 1 more
//   - an image without an index by tag: with its tag, and without: 2
//   - a pull by digest: 1; a tag that moves to something new: the same set again
//   - a hit, and a blob: none
//   - [cache.Cache.Delete] of a manifest: a delete event; of a tag: none
//
// An [HTTP] posts events to one receiver, as ACR does or as CloudEvents. An
// [Outbox] in front of receivers delivers at least once: it keeps what is not
// delivered on disk, and a receiver that is slow or down delays nobody. A repeated
// delivery has the same event ID; there is no order. [Sinks] and [Filter] compose.
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
	// Send returns when the event is taken over, durably if that is what the
	// sink is for. An error, whatever it is, means that it was not taken over: the
	// caller tries again later, with the same event ID.
	Send(ctx context.Context, ev Event) error
}

// Batcher is an optional ability of a [Sink]: several events are taken over at
// once, which costs less than one by one.
type Batcher interface {
	// SendAll is Send for all of them. After an error some may have been taken.
	SendAll(ctx context.Context, events []Event) error
}

// SendAll sends events to a sink, at once if it is a [Batcher]. An error is the
// first one; the events after it are not sent.
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

// SinkFunc is a function as a [Sink].
type SinkFunc func(ctx context.Context, ev Event) error

// Send calls f.
func (f SinkFunc) Send(ctx context.Context, ev Event) error { return f(ctx, ev) }

// Sinks sends each event to all of them, one after the other. Errors are joined:
// those that had taken the event get it again.
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

// Filter hands on what it selects and takes the rest over by dropping it.
type Filter struct {
	// Sink gets what is selected. If nil, nobody does.
	Sink Sink
	// Scope selects by repository and tag. If empty, all.
	Scope Scope
	// Actions selects by action. If nil, all.
	Actions []string
	// Select selects by anything. If nil, all.
	Select func(Event) bool
}

// Selects reports whether an event is handed on.
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

// Send implements [Sink].
func (f Filter) Send(ctx context.Context, ev Event) error {
	if f.Sink == nil || !f.Selects(ev) {
		return nil
	}
	return f.Sink.Send(ctx, ev)
}
