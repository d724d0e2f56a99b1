package webhook_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// counting counts the bytes of the records that are written.
type counting struct {
	webhook.Records
	bytes atomic.Int64
}

func (c *counting) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	c.bytes.Add(int64(len(data)))
	return c.Records.PutRecord(ctx, kind, key, data)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestTenThousandForADeadReceiver(t *testing.T) {
	const events = 10000
	path := t.TempDir()
	tell(t, func(t *testing.T) {
		records := &counting{Records: openDir(t, path)}
		a := newReceiver("a")
		a.fail(errDown)
		wantSmall := func(what string, do func() *story) *story {
			before := heap()
			box := do()
			if s := box.state("a"); s.Queued != events || s.Dropped != 0 {
				t.Errorf("%s: %+v", what, s)
			}
			grew := heap() - before
			if t.Logf("%s: %d KiB of heap, %d bytes for each", what, grew>>10, grew/events); grew > 16<<20 {
				t.Errorf("%s: the heap grew by %d KiB", what, grew>>10)
			}
			return box
		}
		box := wantSmall("queued", func() *story {
			box := outbox(t, records, nil, a)
			for i := 0; i < events; i += 1000 {
				var some []webhook.Event
				for n := range 1000 {
					some = append(some, numbered(i+n))
				}
				if err := box.SendAll(t.Context(), some); err != nil {
					t.Fatal(err)
				}
			}
			return box
		})
		wantOnlyTriesWritten(t, a, records, events)

		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		box = wantSmall("restarted", func() *story { return outbox(t, records, nil, a) })
		a.recover()
		for box.state("a").Queued > 0 {
			wait(time.Second)
		}
		if n := len(a.got()); n != events {
			t.Errorf("%d taken", n)
		}
	})
}

// wantOnlyTriesWritten watches 20 tries that fail: what was tried is written, not what
// waits.
func wantOnlyTriesWritten(t *testing.T, a *receiver, records *counting, events int64) {
	t.Helper()
	wait(0)
	was, tried := records.bytes.Load(), len(a.log(""))
	for len(a.log("")) < tried+20 {
		wait(time.Second)
	}
	n := int64(len(a.log("")) - tried)
	wrote, each := records.bytes.Load()-was, was/events
	if t.Logf("%d tries: %d bytes were written; an event has %d", n, wrote, each); wrote < n*each/2 || wrote > n*(each+200) {
		t.Errorf("for %d tries %d bytes were written; an event has %d", n, wrote, each)
	}
}
