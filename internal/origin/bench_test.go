package origin

import (
	"context"
	"log/slog"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// ready is an upstream that answers at once, so that what is measured is the way there.
type ready struct{ upstream.Repository }

func (ready) Resolve(context.Context, string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{Size: 1}, nil
}

func (r ready) Open(upstream.Source, auth.Authenticator) (upstream.Repository, error) { return r, nil }

// askReady returns a function that asks for a tag once, on a client's request.
func askReady(tb testing.TB) func() {
	set, err := rule.NewSet(rule.Rule{Name: "a", Source: "registry.example.com/a/*", Target: "a/*"})
	if err != nil {
		tb.Fatal(err)
	}
	ended, end := context.WithCancelCause(context.Background())
	tb.Cleanup(func() { end(nil) })
	o := New(Config{Rules: set, Upstream: ready{}, ID: "here", MaxHops: 3, Requests: 256, RequestsPerHost: 64,
		AnswerTimeout: 10 * time.Second, SlotTimeout: 5 * time.Second, Ended: ended, Log: slog.New(slog.DiscardHandler)})
	r, err := o.Find(context.Background(), "a/x")
	if err != nil {
		tb.Fatal(err)
	}
	client, leave := context.WithCancel(context.Background()) // as that of a request
	tb.Cleanup(leave)
	r = r.Under(client)
	return func() {
		slot, err := r.Slot(client, false)
		if err != nil {
			tb.Fatal(err)
		}
		defer slot.Release()
		if desc, err := slot.Resolve(client, "v1"); err != nil || desc.Size != 1 {
			tb.Fatal(desc, err)
		}
	}
}

// BenchmarkAsk is what a request to an upstream costs before the upstream is asked.
func BenchmarkAsk(b *testing.B) {
	ask := askReady(b)
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}

// A request that need not wait for its slot costs one time limit and its place in the life
// of the process, and no more.
func TestARequestIsCheap(t *testing.T) {
	ask := askReady(t)
	if n := testing.AllocsPerRun(100, ask); n > 17 {
		t.Errorf("%v allocations, want at most 17", n)
	}
}
