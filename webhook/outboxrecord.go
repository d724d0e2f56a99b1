package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pullthrough/pullthrough/internal/recordset"
)

// queued is the record of an event that waits for a receiver.
type queued struct {
	Receiver string    `json:"receiver"`
	Event    Event     `json:"event"`
	Created  time.Time `json:"created"`
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Error    string    `json:"error,omitempty"` // of the last try
}

func recordKey(receiver, event string) string { return recordset.Key(receiver, event) }

// keeper keeps the events that wait: in records, or in their items if the Outbox has
// no Records. It is safe for concurrent use with different items.
type keeper struct {
	records *recordset.Set[queued] // nil if the Outbox has none
	log     *slog.Logger
}

func newKeeper(r Records, kind string, log *slog.Logger) keeper {
	if r == nil {
		return keeper{log: log}
	}
	if kind == "" {
		kind = "outbox"
	}
	s := &recordset.Set[queued]{Records: r, Kind: kind, Check: func(key string, r queued) error {
		if recordKey(r.Receiver, r.Event.ID) != key {
			return errors.New("its event is another one")
		}
		return nil
	}}
	return keeper{s, log}
}

// durable reports whether events outlive the process.
func (k keeper) durable() bool { return k.records != nil }

// write keeps the event of an item and the state of the item. lastError is the text
// of the error of the last try.
func (k keeper) write(ctx context.Context, receiver string, it *item, ev Event, lastError string) error {
	if k.records == nil {
		it.event = &ev
		return nil
	}
	return k.records.Put(ctx, it.key, it.queued(receiver, ev, lastError))
}

// record is the record that write would write.
func (k keeper) record(receiver string, it *item, ev Event, lastError string) (Record, error) {
	c, err := k.records.Change(it.key, it.queued(receiver, ev, lastError))
	return Record(c), err
}

func (it *item) queued(receiver string, ev Event, lastError string) queued {
	return queued{receiver, ev, it.created.UTC(), it.attempts, it.next.UTC(), lastError}
}

// read returns the event of an item.
func (k keeper) read(ctx context.Context, it *item) (Event, error) {
	if it.event != nil {
		return *it.event, nil
	}
	r, err := k.records.Get(ctx, it.key)
	return r.Event, err
}

// erase deletes the record of an item. If that fails, the event is delivered once
// more after a restart.
func (k keeper) erase(ctx context.Context, receiver string, it *item) {
	if it.event != nil {
		return
	}
	if err := k.records.Delete(ctx, it.key); err != nil {
		k.log.Warn("the record of an event cannot be deleted", "receiver", receiver, "event", it.id, "err", err)
	}
}

// discard deletes a record that no item stands for. If that fails, the next start
// discards it.
func (k keeper) discard(ctx context.Context, key string) { _ = k.records.Delete(ctx, key) }

// load calls each with what a former process left. A record that cannot be read is
// logged and stays, so that it is logged again at the next start.
func (k keeper) load(ctx context.Context, each func(key string, r queued)) error {
	if k.records == nil {
		return nil
	}
	err := k.records.Load(ctx, func(key string, r queued, err error) {
		if err != nil {
			k.log.Error("the record of an event cannot be read", "kind", k.records.Kind, "key", key, "err", err)
			return
		}
		each(key, r)
	})
	if err != nil {
		return fmt.Errorf("webhook: the queued events cannot be loaded: %w", err)
	}
	return nil
}
