package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// silence is how long a server may send nothing before it is asked again.
const silence = 30 * time.Second

// skip is how many bytes are read and dropped rather than asked for anew, or left to a
// connection that is then of no more use.
const skip = 64 << 10

// errSilent is why a request ends whose answer stalls.
var errSilent = fmt.Errorf("the server has sent nothing for %v", silence)

// reader reads an object by requests that begin where it is read. A body that breaks off or
// stalls is asked for again from there. It is used by one goroutine.
type reader struct {
	bucket Bucket
	key    string
	size   int64
	pos    int64

	life context.Context // of all requests
	end  context.CancelFunc

	body    io.ReadCloser // nil if none is open
	at      int64         // where body is
	request context.Context
	cancel  context.CancelCauseFunc // of request

	closed bool
	breaks int   // how often a body broke off lately
	broken int64 // where the last one did
}

// newReader returns a reader whose requests end with life.
func newReader(life context.Context, b Bucket, key string, size int64) *reader {
	r := &reader{bucket: b, key: key, size: size}
	r.life, r.end = context.WithCancel(life)
	return r
}

// first asks for the bytes from the start, unless ctx ends, which may be before the reader's
// life does. The error is ErrNotFound if they are not as many as they have to be.
func (r *reader) first(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.end)
	err := r.open()
	if !stop() {
		return ctx.Err()
	}
	return err
}

// open asks for the bytes from pos on.
func (r *reader) open() error {
	ctx, cancel := context.WithCancelCause(r.life)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	o, body, err := r.bucket.Get(ctx, r.key, r.pos)
	quiet.Stop()
	if err == nil && o.Size != r.size {
		_ = body.Close()
		err = fmt.Errorf("%s/%s has %d bytes, expected were %d: %w", r.bucket, r.key, o.Size, r.size, store.ErrNotFound)
	}
	if err != nil {
		err = reason(ctx, err)
		cancel(nil)
		return err
	}
	r.body, r.at, r.request, r.cancel = body, r.pos, ctx, cancel
	return nil
}

// reason returns why a request has failed.
func reason(ctx context.Context, err error) error {
	if context.Cause(ctx) == errSilent {
		return errSilent
	}
	return err
}

// leave closes a body that is whole so far. What little is left of it is read, so that the
// connection can be used again.
func (r *reader) leave() {
	if r.body == nil {
		return
	}
	if left := r.size - r.at; left > 0 && left <= skip {
		cancel := r.cancel
		quiet := time.AfterFunc(time.Second, func() { cancel(nil) })
		_, _ = io.Copy(io.Discard, r.body)
		quiet.Stop()
	}
	r.drop()
}

// drop closes the body.
func (r *reader) drop() {
	_ = r.body.Close()
	r.cancel(nil)
	r.body = nil
}

// ready makes the body begin at pos.
func (r *reader) ready() error {
	if r.body != nil && (r.pos < r.at || r.pos > r.at+skip) {
		r.leave()
	}
	for r.body != nil && r.at < r.pos {
		if _, err := r.read(make([]byte, r.pos-r.at)); err != nil {
			r.drop()
		}
	}
	if r.body == nil {
		return r.open()
	}
	return nil
}

// read fills p from the body, as far as that has bytes at hand.
func (r *reader) read(p []byte) (int, error) {
	cancel := r.cancel
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	n, err := r.body.Read(p)
	quiet.Stop()
	r.at += int64(n)
	if err != nil {
		err = reason(r.request, err)
	}
	return n, err
}

// Read implements [io.Reader].
func (r *reader) Read(p []byte) (int, error) {
	switch {
	case r.closed:
		return 0, os.ErrClosed
	case r.pos >= r.size:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if left := r.size - r.pos; int64(len(p)) > left {
		p = p[:left]
	}
	for {
		n, err := r.try(p)
		if n > 0 {
			return n, nil
		}
		if err == nil { // allowed, and rare
			continue
		}
		if r.pos-r.broken > skip {
			r.breaks = 0
		}
		r.broken = r.pos
		if r.breaks++; r.breaks == attempts || errors.Is(err, store.ErrNotFound) || r.life.Err() != nil {
			return 0, fmt.Errorf("%s/%s from byte %d on: %w", r.bucket, r.key, r.pos, err)
		}
		if err := sleep(r.life, r.breaks-1); err != nil {
			return 0, err
		}
	}
}

// try reads once, and drops a body that is not whole.
func (r *reader) try(p []byte) (int, error) {
	if err := r.ready(); err != nil {
		return 0, err
	}
	n, err := r.read(p)
	r.pos += int64(n)
	if err == nil || r.pos == r.size {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	r.drop()
	return n, err
}

// Seek implements [io.Seeker]. It asks for nothing.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, errors.New("objectstore: a seek from nowhere")
	}
	if offset < 0 {
		return 0, errors.New("objectstore: a seek to before the start")
	}
	r.pos = offset
	return offset, nil
}

// Close implements [io.Closer].
func (r *reader) Close() error {
	r.closed = true
	r.leave()
	r.end()
	return nil
}
