package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/backoff"
)

const (
	defaultPatience = 2 * time.Second
	// writePatience is how long the write of something small may take, far more than an
	// answer, since clients of object stores try again by themselves.
	writePatience = 30 * time.Second
	// stallTime is how long no byte may move in a transfer to or from Far.
	stallTime = time.Minute
	// outageFails is how many failures in a row make an outage of Far.
	outageFails = 3
)

// outagePause is how long Far is left alone.
var outagePause = backoff.Backoff{First: time.Second, Longest: 10 * time.Second}

var (
	errImpatient = errors.New("it did not answer in time")
	errOutage    = errors.New("it has failed before and is left alone for a moment")
)

// patience is Patience with its default. If there is no limit, it is a long time.
func (t *Tier) patience() time.Duration {
	switch {
	case t.Patience == 0:
		return defaultPatience
	case t.Patience < 0:
		return 1 << 62
	}
	return t.Patience
}

// farCall is a call of Far under way. It is used by one goroutine.
type farCall struct {
	t      *Tier
	parent context.Context
	ctx    context.Context // of the call
	cancel context.CancelCauseFunc
	clock  *time.Timer // ends ctx
	stop   func() bool // lets ctx outlive parent
	tried  func()      // notes the end of a call that tries Far in an outage; nil if this is none
}

// call begins a call of Far that may take no longer than limit, unless there is an outage.
func (t *Tier) call(ctx context.Context, limit time.Duration) (*farCall, error) {
	tried, ok := t.state().outage.enter(ctx, t.patience())
	if !ok {
		return nil, cmp.Or(ctx.Err(), unavailable(errOutage))
	}
	c := &farCall{t: t, parent: ctx, tried: tried}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.stop = context.AfterFunc(ctx, func() { c.cancel(context.Cause(ctx)) })
	c.clock = time.AfterFunc(limit, func() { c.cancel(errImpatient) })
	return c, nil
}

// end ends a call and returns its error: one that Far may answer with is as it is, that of
// a caller who has left is the caller's, and any other says that Far is not available.
func (c *farCall) end(err error) error {
	if c.tried != nil {
		defer c.tried()
	}
	c.clock.Stop()
	c.stop()
	cause := context.Cause(c.ctx)
	c.cancel(nil)
	o := &c.t.state().outage
	if near, ok := errors.AsType[nearError](err); ok {
		return near.error
	}
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrStale), errors.Is(err, ErrFull), errors.Is(err, ErrSize), errors.Is(err, errDamagedCopy):
		o.answered()
		return err
	case c.parent.Err() != nil:
		return c.parent.Err()
	}
	late := errors.Is(cause, errImpatient)
	if late {
		err = cause
	}
	if pause := o.failed(time.Now(), late); pause > 0 {
		c.t.log().Warn("the far store fails and is left alone for a moment", "pause", pause, "err", err)
	}
	return unavailable(err)
}

// opened ends a call whose answer is a reader, which may need the context of the call until
// it is closed.
func (c *farCall) opened() {
	c.clock.Stop()
	c.stop()
	c.answered()
}

// answered notes that Far has answered, although the call goes on.
func (c *farCall) answered() {
	c.t.state().outage.answered()
	if c.tried != nil {
		c.tried()
		c.tried = nil
	}
}

// ask calls Far for no longer than limit. What takes time that is not Far's stops the
// clock.
func (t *Tier) ask(ctx context.Context, limit time.Duration, do func(ctx context.Context, clock *time.Timer) error) error {
	c, err := t.call(ctx, limit)
	if err != nil {
		return err
	}
	return c.end(do(c.ctx, c.clock))
}

func unavailable(err error) error { return fmt.Errorf("%w: the far store: %w", ErrUnavailable, err) }

// outage knows whether Far is to be asked. The zero value asks it.
type outage struct {
	mu     sync.Mutex
	fails  int           // in a row
	out    int           // outages in a row
	until  time.Time     // Far is left alone until then; then one call at a time tries it
	trying chan struct{} // closed at the end of the call that tries it; nil if none does
}

// enter reports whether a call may begin. In an outage one may from time to time, which finds
// out whether it has ended; it calls tried at its end. The others wait for it, but no longer
// than patience: a copy asks for several things at once, and if all but one of them were
// refused, no copy would ever end the outage.
func (o *outage) enter(ctx context.Context, patience time.Duration) (tried func(), ok bool) {
	trying, tried, ok := o.look()
	if trying == nil {
		return tried, ok
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for trying != nil {
		select {
		case <-trying:
		case <-late.C:
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
		trying, tried, ok = o.look()
	}
	return tried, ok
}

// look is enter without waiting: trying is to be waited for, unless it is nil.
func (o *outage) look() (trying <-chan struct{}, tried func(), ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.out == 0:
		return nil, nil, true
	case o.trying != nil:
		return o.trying, nil, false
	case time.Now().Before(o.until):
		return nil, nil, false
	}
	o.trying = make(chan struct{})
	return nil, o.tried, true
}

// tried notes the end of the call that tried Far.
func (o *outage) tried() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.trying)
	o.trying = nil
}

func (o *outage) answered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fails, o.out = 0, 0
}

// failed notes a failure, and returns for how long Far is left alone if an outage begins.
func (o *outage) failed(now time.Time, late bool) (pause time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fails++
	if o.out > 0 && now.Before(o.until) {
		return 0 // one of those that were under way
	}
	if !late && o.fails < outageFails {
		return 0
	}
	began := o.out == 0
	pause = outagePause.Pause(o.out)
	o.out++
	o.until = now.Add(pause)
	if !began {
		return 0
	}
	return pause
}

// farReader reads content of Far.
type farReader struct {
	io.ReadSeekCloser
	call *farCall
}

// Read returns an error that says whose it is. A body that breaks off is a failure of Far.
func (f *farReader) Read(p []byte) (int, error) {
	n, err := f.ReadSeekCloser.Read(p)
	if err != nil && err != io.EOF {
		f.call.t.state().outage.failed(time.Now(), false)
		err = unavailable(err)
	}
	return n, err
}

func (f *farReader) Close() error {
	err := f.ReadSeekCloser.Close()
	f.call.cancel(nil)
	return err
}
