package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

var errDown = errors.New("the receiver is down")

// try is one call of a fake receiver.
type try struct {
	id string
	at time.Duration // since the receiver was made
	ok bool
}

// receiver is a fake receiver.
type receiver struct {
	name  string
	began time.Time

	mu    sync.Mutex
	tries []try
	does  func(ctx context.Context, ev webhook.Event) error // nil: takes everything
}

func newReceiver(name string) *receiver { return &receiver{name: name, began: time.Now()} }

// will says what it does from now on.
func (r *receiver) will(does func(ctx context.Context, ev webhook.Event) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.does = does
}

func (r *receiver) fail(err error) {
	r.will(func(context.Context, webhook.Event) error { return err })
}
func (r *receiver) recover() { r.will(nil) }
func (r *receiver) hang() {
	r.will(func(ctx context.Context, _ webhook.Event) error { <-ctx.Done(); return ctx.Err() })
}

func (r *receiver) Send(ctx context.Context, ev webhook.Event) error {
	r.mu.Lock()
	does := r.does
	r.tries = append(r.tries, try{id: ev.ID, at: time.Since(r.began)})
	i := len(r.tries) - 1
	r.mu.Unlock()
	if does != nil {
		if err := does(ctx, ev); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.tries[i].ok = true
	r.mu.Unlock()
	return nil
}

// log returns the tries; of one event if id is not empty.
func (r *receiver) log(id string) (all []try) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.tries {
		if id == "" || c.id == id {
			all = append(all, c)
		}
	}
	return all
}

// got returns the ids that were taken, in order.
func (r *receiver) got() (ids []string) {
	for _, c := range r.log("") {
		if c.ok {
			ids = append(ids, c.id)
		}
	}
	return ids
}

// numbered is the event number i.
func numbered(i int) webhook.Event {
	ev := pushed
	ev.ID, ev.Request = fmt.Sprint("event-", i), nil
	return ev
}

// notes is a log that is kept.
type notes struct {
	mu   sync.Mutex
	text strings.Builder
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) count(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Count(n.text.String(), text)
}

// story is an Outbox with fake receivers in fake time.
type story struct {
	*testing.T
	*webhook.Outbox
	logged *notes
	gaveUp []webhook.Delivery
	mu     sync.Mutex
}

// tell runs a test in fake time. The receivers are called a, b and so on.
func tell(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// outbox makes an Outbox that ends with the test.
func outbox(t *testing.T, records webhook.Records, change func(*webhook.Outbox), receivers ...*receiver) *story {
	s := &story{T: t, logged: &notes{}}
	s.Outbox = &webhook.Outbox{Records: records, Logger: slog.New(slog.NewTextHandler(s.logged, nil)), GaveUp: func(d webhook.Delivery) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gaveUp = append(s.gaveUp, d)
	}}
	for _, r := range receivers {
		s.Receivers = append(s.Receivers, webhook.Receiver{Name: r.name, Sink: r})
	}
	if change != nil {
		change(s.Outbox)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	return s
}

func (s *story) send(events ...webhook.Event) {
	s.Helper()
	for _, ev := range events {
		if err := s.Send(s.Context(), ev); err != nil {
			s.Errorf("%s: %v", ev.ID, err)
		}
	}
	synctest.Wait()
}

func (s *story) state(name string) webhook.ReceiverState {
	for _, state := range s.States() {
		if state.Name == name {
			return state
		}
	}
	s.Fatalf("no state of %q", name)
	return webhook.ReceiverState{}
}

func (s *story) givenUp() []webhook.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.gaveUp)
}

// leftAlone waits for a moment at which a receiver is left alone for more than a
// minute.
func (s *story) leftAlone(name string) {
	s.Helper()
	for range 100 {
		if s.state(name).Paused.After(time.Now().Add(time.Minute)) {
			return
		}
		wait(time.Minute)
	}
	s.Fatalf("%s is not left alone: %+v", name, s.state(name))
}

// wait lets time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// keys are the records of a kind.
func keys(t *testing.T, r webhook.Records) (all []string) {
	t.Helper()
	for key, err := range r.RecordKeys(t.Context(), "outbox") {
		if err != nil {
			t.Error(err)
		}
		all = append(all, key)
	}
	return all
}

func wantGot(t *testing.T, r *receiver, want ...string) {
	t.Helper()
	if got := r.got(); !slices.Equal(got, want) {
		t.Errorf("%s took %q, want %q", r.name, got, want)
	}
}

// faulty is a Records that fails as it is told.
type faulty struct {
	store.Mem
	mu   sync.Mutex
	does map[string]func(key string) error // by "put", "read", "delete", "list"
	n    map[string]int
}

func (f *faulty) on(what string, does func(key string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.does == nil {
		f.does = map[string]func(string) error{}
	}
	f.does[what] = does
}

func (f *faulty) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n[what]
}

func (f *faulty) fails(what, key string) error {
	f.mu.Lock()
	if f.n == nil {
		f.n = map[string]int{}
	}
	f.n[what]++
	does := f.does[what]
	f.mu.Unlock()
	if does == nil {
		return nil
	}
	return does(key)
}

func (f *faulty) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if err := f.fails("put", key); err != nil {
		return err
	}
	return f.Mem.PutRecord(ctx, kind, key, data)
}

func (f *faulty) Record(ctx context.Context, kind, key string) ([]byte, error) {
	if err := f.fails("read", key); err != nil {
		return nil, err
	}
	return f.Mem.Record(ctx, kind, key)
}

func (f *faulty) DeleteRecord(ctx context.Context, kind, key string) error {
	if err := f.fails("delete", key); err != nil {
		return err
	}
	return f.Mem.DeleteRecord(ctx, kind, key)
}

func (f *faulty) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := f.fails("list", ""); err != nil {
			yield("", err)
			return
		}
		f.Mem.RecordKeys(ctx, kind)(yield)
	}
}
