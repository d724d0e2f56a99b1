package flight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// receiver takes the bytes of one connection.
type receiver interface {
	// accept checks what the upstream says that it sends. It said so after took.
	accept(body upstream.Body, took time.Duration) error
	// write takes data, which follows on what it took before. stop says that it
	// takes no more from this connection. A *writeError ends the download.
	write(data []byte) (stop bool, err error)
	// judgeConnection says how a connection ended that did not fail: errEnd if
	// bytes are missing that it should have brought. It sent n bytes, of which
	// taken went to write.
	judgeConnection(body upstream.Body, n, taken int64) error
}

// sink takes the bytes of a blob in order, over as many connections as it needs.
type sink interface {
	receiver
	// next returns the bytes that it needs next; an end of -1 means the end of
	// the blob. complete says that it has all.
	next() (want span, complete bool, err error)
	// backOff returns how long to wait before the next connection after err, or
	// the error that the download ends with. It failed at the byte at off after
	// it had brought taken bytes.
	backOff(err error, taken, off int64) (pause time.Duration, final error)
}

// pull fills s until it is complete, over failures while there is progress. t
// is what s decides by.
func (f *flight) pull(ctx context.Context, t *tries, s sink) error {
	for {
		want, complete, err := s.next()
		if err == nil && complete {
			return nil
		}
		taken := int64(0)
		if err == nil {
			taken, err = f.connect(ctx, want, t.whole, s)
		}
		if err == nil {
			t.stalls = 0
			continue
		}
		if e, ok := errors.AsType[*writeError](err); ok {
			return e.err
		}
		if ctx.Err() != nil { // the reason for the end, not what failed because of it
			return context.Cause(ctx)
		}
		pause, err := s.backOff(err, taken, want.start+taken)
		if err != nil {
			return err
		}
		if err := nap(ctx, pause); err != nil {
			return err
		}
	}
}

// connect asks for the bytes of want, or for the whole blob, and gives those of
// want to r. It returns how many r took.
func (f *flight) connect(ctx context.Context, want span, whole bool, r receiver) (taken int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	offset, length := want.start, int64(-1)
	switch {
	case whole:
		offset = 0
	case want.end >= 0:
		length = want.end - want.start
	}
	own, stop := context.WithCancelCause(ctx)
	began := time.Now()
	body, err := f.remote.get(own, stop, offset, length)
	if err != nil {
		stop(nil)
		return 0, err
	}
	reader := &contest{f: f, ctx: ctx, body: body, stop: stop, start: body.Offset, at: body.Offset, size: body.Size, end: -1}
	defer reader.close()
	if body.Length >= 0 {
		reader.end = body.Offset + body.Length
	}
	if body.Offset > want.start || body.Offset < 0 {
		return 0, f.remote.unusable(fmt.Errorf("asked for bytes from %d, got them from %d", want.start, body.Offset))
	}
	if err := r.accept(body, time.Since(began)); err != nil {
		return 0, err
	}
	silent := reader.challenge
	if body.Offset != offset || whole || body.Via != "" { // parts are not to be had, or another cache sends what it has
		silent = func(int64) {}
	}
	skip := want.start - body.Offset // an upstream that ignores ranges sends these too
	n, err := f.group.pump(ctx, cancel, reader, f.least, silent, func(data []byte) (bool, error) {
		d := min(skip, int64(len(data)))
		skip -= d
		if data = data[d:]; len(data) == 0 {
			return false, nil
		}
		stop, err := r.write(data)
		if err == nil {
			taken += int64(len(data))
		}
		return stop, err
	})
	if err == nil {
		err = r.judgeConnection(body, n, taken)
	}
	return taken, err
}
