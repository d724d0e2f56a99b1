package origin

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// slow is an upstream that answers after a while, unless its caller has left.
type slow struct {
	upstream.Repository
	source upstream.Source
	after  time.Duration
}

func (s slow) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	select {
	case <-time.After(s.after):
		return ocispec.Descriptor{Digest: digest.FromString(reference)}, nil
	case <-ctx.Done():
		return ocispec.Descriptor{}, &upstream.Error{Source: s.source, Class: upstream.Unreachable, Owner: upstream.Caller, Err: context.Cause(ctx)}
	}
}

func (s slow) Open(source upstream.Source, _ auth.Authenticator) (upstream.Repository, error) {
	s.source = source
	return s, nil
}

func (s slow) Blob(context.Context, digest.Digest, int64, int64) (upstream.Body, error) {
	return upstream.Body{}, &upstream.Error{Source: s.source, Class: upstream.NotFound}
}

// inBubble has a Repo whose upstream answers after a while.
func inBubble(t *testing.T, after time.Duration, test func(t *testing.T, r Repo, end context.CancelCauseFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		set, err := rule.NewSet(rule.Rule{Name: "a", Source: "registry.example.com/a/*", Target: "a/*"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancelCause(t.Context())
		defer end(nil)
		o := New(Config{Rules: set, Upstream: slow{after: after}, ID: "here", MaxHops: 3, Requests: 1, RequestsPerHost: 1,
			AnswerTimeout: 10 * time.Second, SlotTimeout: 5 * time.Second, Ended: ctx, Log: slog.New(slog.DiscardHandler)})
		r, err := o.Find(t.Context(), "a/x")
		if err != nil {
			t.Fatal(err)
		}
		test(t, r, end)
	})
}

// slotOf takes a slot that must be free.
func slotOf(t *testing.T, r Repo) Slot {
	t.Helper()
	slot, err := r.Slot(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// TestAnswerTimeout: an upstream that does not answer within this cache's own limit is
// slow, and that is remembered; a caller's shorter patience says nothing about it.
func TestAnswerTimeout(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, r Repo, _ context.CancelCauseFunc) {
		slot := slotOf(t, r)
		defer slot.Release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := slot.Resolve(ctx, "v1")
		if u, ok := errors.AsType[*upstream.Error](err); !ok || u.Timeout || u.Owner != upstream.Caller {
			t.Errorf("a caller's deadline: %+v", err)
		}
		if err, _ := r.Down(); err != nil {
			t.Errorf("a caller's deadline counts as trouble: %v", err)
		}
		begun := time.Now()
		_, err = slot.Resolve(t.Context(), "v1")
		if u, ok := errors.AsType[*upstream.Error](err); !ok || !u.Timeout || u.Owner != upstream.Home || time.Since(begun) != 10*time.Second {
			t.Errorf("the limit of this cache: %+v after %s", err, time.Since(begun))
		}
		if err, _ := r.Down(); err == nil {
			t.Error("a slow upstream is no trouble")
		}
	})
}

// TestSlots: a request waits for its slot as long as SlotTimeout, or for the end of its
// caller or of the process.
func TestSlots(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, r Repo, end context.CancelCauseFunc) {
		slot := slotOf(t, r)
		begun := time.Now()
		if _, err := r.Slot(t.Context(), false); !errors.Is(err, ErrBusy) || time.Since(begun) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		left := errors.New("the client has left")
		ctx, leave := context.WithCancelCause(t.Context())
		leave(left)
		if _, err := r.Slot(ctx, false); err != left {
			t.Error(err)
		}
		slot.Release()
		if _, err := r.Slot(ctx, false); err != left {
			t.Error(err)
		}
		slot = slotOf(t, r)
		over := errors.New("the process ends")
		time.AfterFunc(time.Second, func() { end(over) })
		if _, err := r.Slot(t.Context(), false); err != over {
			t.Error(err)
		}
		if _, err := slot.Resolve(t.Context(), "v1"); err != over {
			t.Error(err)
		}
		slot.Release()
		if _, err := r.Slot(t.Context(), false); err != over {
			t.Error(err)
		}
	})
}

// TestTheProcessEnds: requests end with the process.
func TestTheProcessEnds(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, r Repo, end context.CancelCauseFunc) {
		slot := slotOf(t, r)
		defer slot.Release()
		time.AfterFunc(time.Second, func() { end(errors.New("the process ends")) })
		begun := time.Now()
		if _, err := slot.Resolve(t.Context(), "v1"); err == nil || time.Since(begun) != time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

// TestConnect: each connection of a download is opened by the rule as it is then, and none
// when the rule is gone.
func TestConnect(t *testing.T) {
	set, err := rule.NewSet(rule.Rule{Name: "a", Source: "registry.example.com/a/*", Target: "a/*"})
	if err != nil {
		t.Fatal(err)
	}
	opened := &openings{}
	o := New(Config{Rules: set, Upstream: opened, ID: "here", MaxHops: 3, Requests: 1, RequestsPerHost: 1,
		AnswerTimeout: time.Second, SlotTimeout: time.Second, Ended: t.Context(), Log: slog.New(slog.DiscardHandler)})
	r, err := o.Find(t.Context(), "a/x")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		up, err := r.Connect(t.Context(), -1)
		if err != nil || len(opened.with) != 1 {
			t.Fatalf("opened %d times, %v", len(opened.with), err)
		}
		if _, err := up.Blob(t.Context(), digest.FromString("x"), 0, -1); err == nil {
			t.Error("the upstream has a blob")
		}
	}
	if err := set.SetAuth("a", auth.Anonymous{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Connect(t.Context(), -1); err != nil || len(opened.with) != 2 || opened.with[1] != auth.Authenticator(auth.Anonymous{}) {
		t.Errorf("opened with %v, %v", opened.with, err)
	}
	if err := set.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Connect(t.Context(), -1); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	if n := o.Counts().Connections; n != 2 { // what is opened and sends nothing is none
		t.Errorf("%d connections", n)
	}
}

// openings notes the credentials that repositories are opened with.
type openings struct{ with []auth.Authenticator }

func (o *openings) Open(source upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	o.with = append(o.with, a)
	return slow{source: source}, nil
}
