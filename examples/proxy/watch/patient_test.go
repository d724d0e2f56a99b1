package watch_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/watch"
)

// TestPatience: a call that hangs keeps nobody, costs one goroutine, and ends by itself.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		goOn := make(chan struct{})
		p := &watch.Patient[int]{Patience: time.Second, Call: func(context.Context) (int, error) {
			if calls.Add(1) == 1 {
				<-goOn
			}
			return 7, nil
		}}
		for i := range 5 {
			begun := time.Now()
			_, err := p.Do(t.Context())
			hangs, ok := errors.AsType[*watch.HangsError](err)
			if took := time.Since(begun); !ok || i == 0 && took != time.Second || i > 0 && took != 0 {
				t.Errorf("%v after %v", err, took)
			}
			if ok && time.Since(hangs.Since) != time.Second {
				t.Error(hangs)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
		close(goOn)
		synctest.Wait()
		if n, err := p.Do(t.Context()); n != 7 || err != nil || calls.Load() != 2 {
			t.Errorf("%d, %v after %d calls", n, err, calls.Load())
		}
	})
}

// TestPatienceOfACaller: a caller that leaves does not end the call of others.
func TestPatienceOfACaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &watch.Patient[int]{Call: func(ctx context.Context) (int, error) {
			time.Sleep(2 * time.Second)
			return 7, ctx.Err()
		}}
		ctx, leave := context.WithTimeoutCause(t.Context(), time.Second, errors.New("it leaves"))
		defer leave()
		go func() {
			if _, err := p.Do(ctx); err == nil || err.Error() != "it leaves" {
				t.Error(err)
			}
		}()
		if n, err := p.Do(t.Context()); n != 7 || err != nil {
			t.Error(n, err)
		}
	})
}
