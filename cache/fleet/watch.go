package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	silence       = time.Second            // no byte for so long: the other side is asked whether it lives
	headerSilence = 300 * time.Millisecond // the same before the header
	probeTime     = silence / 2            // how long the other side may take to say so
)

// errSilent is why a connection to a replica is cut.
var errSilent = errors.New("fleet: a replica fell silent")

// watched is a body from another replica. It is cut when the other one is silent and does
// not say that it still brings the blob.
type watched struct {
	q      question
	peer   string
	ctx    context.Context // the caller's
	own    context.Context // of the request
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	left   int64 // -1 if the length is unknown
	got    int64
	coming bool // the other side did not have all of the blob when it answered

	epoch  time.Time
	since  atomic.Int64 // when the wait that is under way began, after epoch; -1: none is
	header atomic.Bool  // it has come
	over   atomic.Bool
	timer  *time.Timer
	close  sync.Once
	done   func()
}

// newWatched watches a request that is about to be sent.
func newWatched(ctx context.Context, q question, peer string, done func()) *watched {
	w := &watched{q: q, peer: peer, ctx: ctx, epoch: time.Now(), done: done, left: -1}
	w.own, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(time.Hour, w.look)
	w.timer.Reset(headerSilence) // not before the field is set, which look reads
	return w
}

// answered returns the body of the answer, which is w.
func (w *watched) answered(body io.ReadCloser, length int64, coming bool) io.ReadCloser {
	w.body, w.left, w.coming = body, length, coming
	w.since.Store(-1)
	w.header.Store(true)
	return w
}

// look asks whether the other side lives, if it has been silent for long enough, and looks
// again later.
func (w *watched) look() {
	if w.over.Load() {
		return
	}
	patience, answer := silence, probeTime
	if !w.header.Load() {
		patience, answer = headerSilence, headerSilence
	}
	left := patience
	if since := w.since.Load(); since >= 0 {
		left -= time.Since(w.epoch) - time.Duration(since)
	}
	if left <= 0 {
		ctx, stop := context.WithTimeout(w.ctx, answer)
		said := w.q.asked(ctx, w.peer)
		stop()
		if said.who != w.peer {
			w.cancel(errSilent)
			return
		}
		left = silence // its upstream is slow
	}
	w.timer.Reset(max(left, silence/4))
}

// Read implements [io.Reader]. Trouble with the replica is [io.ErrUnexpectedEOF].
func (w *watched) Read(p []byte) (int, error) {
	w.since.Store(int64(time.Since(w.epoch)))
	n, err := w.body.Read(p)
	w.since.Store(-1)
	w.got += int64(n)
	w.q.f.counts.received.Add(int64(n))
	if w.left >= 0 {
		w.left -= int64(n)
	}
	if err == nil || err == io.EOF && w.left <= 0 {
		return n, err
	}
	switch f := w.q.f; {
	case w.ctx.Err() != nil:
		w.leftAlone()
	case errors.Is(context.Cause(w.own), errSilent):
		f.failed(w.peer, err)
	default: // it may live, and its upstream not; the next request shows whether it does
		f.counts.failures.Add(1)
		f.doubts.drags(w.q.key, w.peer, !w.coming)
	}
	return n, fmt.Errorf("fleet: replica %s: %w (%v)", w.peer, io.ErrUnexpectedEOF, err)
}

// leftAlone notes that the reader has gone. If it waited for long and got nothing, the other
// one is not worth asking again, although it says that it brings the blob.
func (w *watched) leftAlone() {
	if w.got == 0 && time.Since(w.epoch) > silence {
		w.q.f.doubts.drags(w.q.key, w.peer, !w.coming)
	}
}

// stop ends the watch and the request.
func (w *watched) stop() {
	w.over.Store(true)
	w.timer.Stop()
	w.cancel(nil)
}

// Close implements [io.Closer].
func (w *watched) Close() (err error) {
	w.close.Do(func() {
		if w.got > 0 {
			w.q.f.doubts.partOf(w.q.key, w.peer, !w.coming)
		}
		w.stop()
		err = w.body.Close()
		w.done()
	})
	return err
}
