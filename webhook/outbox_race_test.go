package webhook_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// crowd is what TestManyAtOnce has in common: two receivers, of which every fifth
// try fails.
type crowd struct {
	*testing.T
	records webhook.Records
	tries   atomic.Int64

	mu    sync.Mutex
	taken [2]map[string]int
}

const senders, each = 50, 20

func (c *crowd) open() *webhook.Outbox {
	box := &webhook.Outbox{Records: c.records, FirstPause: time.Microsecond, LongestPause: time.Millisecond}
	for i, name := range []string{"a", "b"} {
		box.Receivers = append(box.Receivers, webhook.Receiver{Name: name, Sink: webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
			if c.tries.Add(1)%5 == 0 {
				return errDown
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.taken[i][ev.ID]++
			return nil
		})})
	}
	return box
}

func (c *crowd) send(box *webhook.Outbox, sender int) {
	for i := range each {
		if err := box.Send(c.Context(), numbered(sender*each+i)); err != nil {
			c.Error(err)
		}
	}
}

func (c *crowd) ask(box *webhook.Outbox) {
	for i := range 100 {
		box.States()
		if _, err := box.Deliveries("a"); err != nil {
			c.Error(err)
		}
		if err := box.Resend(c.Context(), "b", numbered(i).ID); err != nil && !errors.Is(err, webhook.ErrNoEvent) && !errors.Is(err, webhook.ErrClosed) {
			c.Error(err)
		}
		if _, err := box.Ping(c.Context(), "a"); err != nil && !errors.Is(err, webhook.ErrClosed) {
			c.Error(err)
		}
	}
}

// until waits, at most a minute.
func (c *crowd) until(what string, done func() bool) {
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.Error("a minute was not enough until", what)
			return
		}
	}
}

// 50 goroutines send, others ask and resend, and the Outbox is stopped and
// followed by another one in the middle of it.
func TestManyAtOnce(t *testing.T) {
	c := &crowd{T: t, records: openDir(t, t.TempDir()), taken: [2]map[string]int{{}, {}}}
	box := c.open()
	var all sync.WaitGroup
	for s := range senders {
		all.Go(func() { c.send(box, s) })
	}
	for range 4 {
		all.Go(func() { c.ask(box) })
	}
	all.Go(func() { // what is sent after that is kept for the next one
		c.until("a quarter is taken", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return len(c.taken[0]) > senders*each/4
		})
		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	all.Wait()

	box = c.open()
	if err := box.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.until("nothing is queued", func() bool { s := box.States(); return s[0].Queued+s[1].Queued == 0 })
	if err := box.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for i := range c.taken {
		for j := range senders * each {
			if c.taken[i][numbered(j).ID] == 0 {
				t.Fatalf("receiver %d: event %d is lost", i, j)
			}
		}
	}
	if n := len(keys(t, c.records)); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// Without failures and restarts everything is delivered exactly once.
func TestManyAtOnceExactlyOnce(t *testing.T) {
	for name, records := range map[string]webhook.Records{"memory": nil, "Mem": new(store.Mem), "Dir": openDir(t, t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			var n, again atomic.Int64
			var seen sync.Map
			done := make(chan struct{})
			box := &webhook.Outbox{Records: records, Receivers: []webhook.Receiver{{Name: "a", Sink: webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
				if _, dup := seen.LoadOrStore(ev.ID, true); dup {
					again.Add(1)
				}
				if n.Add(1) == 1000 {
					close(done)
				}
				return nil
			})}}}
			var all sync.WaitGroup
			for s := range 50 {
				all.Go(func() {
					for i := range 20 {
						if err := box.Send(t.Context(), numbered(s*20+i)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			<-done
			if err := box.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if s := box.States()[0]; s.Delivered != 1000 || s.Queued != 0 || again.Load() != 0 {
				t.Errorf("%+v, %d twice", s, again.Load())
			}
		})
	}
}
