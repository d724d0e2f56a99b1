package webhook_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/pullthrough/pullthrough/internal/durable"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

func perSecond(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s") }

// BenchmarkEnqueue is Send with a receiver that never answers, beside the plain
// cost of what it cannot do without: an append of as many bytes, and a sync.
func BenchmarkEnqueue(b *testing.B) {
	b.Run("append and fdatasync", func(b *testing.B) {
		var disk durable.Disk
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		data, _ := json.Marshal(numbered(1))
		for b.Loop() {
			if _, err := f.Write(data); err != nil {
				b.Fatal(err)
			}
			if err := disk.Sync(f); err != nil {
				b.Fatal(err)
			}
		}
		perSecond(b)
	})
	for _, c := range []struct {
		name       string
		goroutines int
		records    func(*testing.B) webhook.Records
	}{
		{"Dir, 1 goroutine", 1, benchDir}, {"Dir, 16 goroutines", 16, benchDir},
		{"Mem, 1 goroutine", 1, benchMem}, {"Mem, 16 goroutines", 16, benchMem},
		{"memory, 1 goroutine", 1, benchMemory}, {"memory, 16 goroutines", 16, benchMemory},
	} {
		b.Run(c.name, func(b *testing.B) {
			box := &webhook.Outbox{Records: c.records(b), Queue: 1 << 30, Receivers: []webhook.Receiver{{Name: "a", Sink: webhook.SinkFunc(
				func(ctx context.Context, _ webhook.Event) error { <-ctx.Done(); return ctx.Err() })}}}
			if err := box.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			defer stop(box)
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(max(1, c.goroutines/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			send := func() {
				if err := box.Send(b.Context(), numbered(int(n.Add(1)))); err != nil {
					b.Error(err)
				}
			}
			if c.goroutines == 1 {
				for range b.N {
					send()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						send()
					}
				})
			}
			b.StopTimer()
			perSecond(b)
		})
	}
}

// BenchmarkDrain delivers what waits.
func BenchmarkDrain(b *testing.B) {
	for name, records := range map[string]func(*testing.B) webhook.Records{"Dir": benchDir, "Mem": benchMem, "memory": benchMemory} {
		b.Run(name, func(b *testing.B) {
			kept := records(b)
			var n atomic.Int64
			open, done := make(chan struct{}), make(chan struct{})
			box := &webhook.Outbox{Records: kept, Queue: 1 << 30, Receivers: []webhook.Receiver{{Name: "a", Sink: webhook.SinkFunc(func(context.Context, webhook.Event) error {
				<-open
				if n.Add(1) == int64(b.N) {
					close(done)
				}
				return nil
			})}}}
			for i := range b.N {
				if err := box.Send(b.Context(), numbered(i)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			close(open)
			<-done
			b.StopTimer()
			perSecond(b)
			stop(box)
		})
	}
}

func stop(box *webhook.Outbox) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = box.Shutdown(ctx)
}

func benchDir(b *testing.B) webhook.Records { return openDir(b, b.TempDir()) }

func benchMem(*testing.B) webhook.Records { return new(store.Mem) }

func benchMemory(*testing.B) webhook.Records { return nil }
