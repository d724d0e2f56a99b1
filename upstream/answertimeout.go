package upstream

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

type answerTimeoutKey struct{}

// WithAnswerTimeout returns a context in which d, if positive, takes the place of
// [Client.AnswerTimeout]: it is the time limit for the header of each response. A call
// with such a context may take at least d, even if [Client.TotalTimeout] is less. If d
// is not positive, WithAnswerTimeout returns ctx.
func WithAnswerTimeout(ctx context.Context, d time.Duration) context.Context {
	if d <= 0 {
		return ctx
	}
	return context.WithValue(ctx, answerTimeoutKey{}, d)
}

// answerTimeoutOf returns the limit that [WithAnswerTimeout] put into ctx, or 0.
func answerTimeoutOf(ctx context.Context) time.Duration {
	d, _ := ctx.Value(answerTimeoutKey{}).(time.Duration)
	return d
}

// answerTimeoutError reports a response whose header did not come in time. It is like
// the error of net/http for the same.
type answerTimeoutError struct{}

func (answerTimeoutError) Error() string        { return "upstream: no header of the response in time" }
func (answerTimeoutError) Timeout() bool        { return true }
func (answerTimeoutError) Temporary() bool      { return true }
func (answerTimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// endsWithin reports whether ctx has a deadline that comes before d has passed, so that
// a time limit of d would never be noticed.
func endsWithin(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= d
}

// answerLimit is the time limit for the header of a response, from when its request was
// written: connecting has limits of its own.
type answerLimit struct {
	time.Duration
	atOnce bool // the time runs from the start, for a transport that may not tell when it writes
	// abort ends the context of the whole call. If nil, one is made for the request.
	abort context.CancelCauseFunc
}

// roundTrip sends req by rt in ctx and waits for the header of the response. What
// net/http does is told to trace.
func (l answerLimit) roundTrip(ctx context.Context, rt http.RoundTripper, req *http.Request, trace *httptrace.ClientTrace) (*http.Response, error) {
	abort, cancel := l.abort, context.CancelCauseFunc(nil)
	if abort == nil {
		// The body of a response is read in this context too, so it ends with that of
		// the call, and here only in the case of an error.
		ctx, cancel = context.WithCancelCause(ctx)
		abort = cancel
	}
	t := &answerTimer{limit: l.Duration, expire: abort}
	if l.atOnce {
		t.start()
	} else {
		trace.WroteRequest = func(httptrace.WroteRequestInfo) { t.start() }
	}
	resp, err := rt.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if t.stop() {
		if err == nil {
			discard(resp)
		}
		err = answerTimeoutError{}
	}
	if err != nil && cancel != nil {
		cancel(err)
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// answerTimer ends the wait for a response. Its methods may be called concurrently:
// net/http may tell that it wrote a request when the response is there already.
type answerTimer struct {
	limit  time.Duration
	expire context.CancelCauseFunc // gets an answerTimeoutError

	mu      sync.Mutex
	timer   *time.Timer // nil before start
	expired bool
	stopped bool
}

// start starts the timer, or starts it anew: net/http writes a request once more if a
// kept connection turns out to be closed.
func (t *answerTimer) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped || t.expired:
	case t.timer != nil:
		t.timer.Reset(t.limit)
	default:
		t.timer = time.AfterFunc(t.limit, t.fire)
	}
}

func (t *answerTimer) fire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.expired = true
		t.expire(answerTimeoutError{})
	}
}

// stop stops the timer and reports whether it had expired.
func (t *answerTimer) stop() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
	return t.expired
}
