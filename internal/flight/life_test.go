package flight

import (
	"context"
	"errors"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// A flight that has ended takes no reader, though its spool is still open for one
// that was there before; a reader that comes waits for the next flight.
func TestNoReaderJoinsAFlightThatHasEnded(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		early := r.join(false)
		if err := early.Wait(client()); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := r.g.Peek(r.key); ok {
			t.Error("it seems to be under way")
		}
		ctx, cancel := context.WithTimeout(client(), time.Second)
		defer cancel()
		if h, err := r.g.Join(ctx, r.request()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("joined: %v, %v", h, err)
		}
		early.Close()
		r.want()
		r.wantConnections(2)
	})
}

// Between Writing and done the store is given the blob. After done the blob may be deleted,
// so that nobody may join who would take it for stored.
func TestNobodyJoinsAfterTheWrite(t *testing.T) {
	for name, refused := range map[string]error{"allowed": nil, "refused": errors.New("not now")} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T) {
				r := newRig(t, 1000)
				var steps []string
				req := r.request()
				req.Writing = func() (func(), error) {
					steps = append(steps, "writing")
					return func() {
						steps = append(steps, "done")
						ctx, cancel := context.WithTimeout(client(), time.Second)
						defer cancel()
						if h, err := r.g.Join(ctx, r.request()); err == nil {
							t.Error("a reader joined")
							h.Close()
						}
					}, refused
				}
				req.Stored = func(int64, func() (io.ReadSeekCloser, error)) { steps = append(steps, "stored") }
				h, err := r.g.Join(client(), req)
				if err != nil {
					t.Fatal(err)
				}
				want := []string{"writing", "stored", "done"}
				if refused != nil {
					want = want[:1]
				}
				if err := h.Wait(client()); !errors.Is(err, refused) || !slices.Equal(steps, want) {
					t.Errorf("%v, %v", steps, err)
				}
				h.Close()
				r.wantStored(refused == nil)
			})
		})
	}
}

// That a size is disputed is said before any reader learns it, also when the reader
// reads alone.
func TestDisputedComesBeforeTheReaders(t *testing.T) {
	for name, spoolErr := range map[string]error{"with a spool": nil, "alone": store.ErrFull} {
		story(t, func(t *testing.T) {
			r := newRig(t, 1000)
			r.shelf.spoolErr = spoolErr
			r.up.each = func(int, int64) fault { return fault{size: 1001} }
			disputed := 0
			req := r.request()
			req.Disputed = func() { disputed++ }
			h, err := r.g.Join(client(), req)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			if _, err := h.Header(client()); !errors.Is(err, ErrSize) || disputed == 0 {
				t.Errorf("%s: %v, disputed %d times", name, err, disputed)
			}
		})
	}
}

// A store that cannot open what it has for a reader has failed too.
func TestReaderThatCannotOpenIsAFailureOfTheStore(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.shelf.openErr = func(int) error { return syscall.EMFILE }
		r.want()
		r.wantStored(true)
		failed := func(err error) bool { return errors.Is(err, syscall.EMFILE) }
		if !slices.ContainsFunc(r.failed, failed) {
			t.Errorf("it is not said: %v", r.failed)
		}
	})
}
