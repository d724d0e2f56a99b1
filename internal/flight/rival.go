package flight

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/upstream"
)

// rivalAfter is how long a read may bring nothing before a second connection is opened.
const rivalAfter = 5 * time.Second

var (
	errOutrun = errors.New("flight: another connection was faster")
	errOver   = errors.New("flight: the connection is not needed any more")
)

// contest is the body of a connection that a second one may replace. If the first is
// silent for a while, a rival asks for the rest of the same bytes. The one that brings the
// next byte goes on, and the other one is ended. The rival has a spare slot until then,
// and its failure is nobody's. Read and close are used by one goroutine; challenge may be
// called at any time.
type contest struct {
	f     *flight
	ctx   context.Context // of the reader: it outlives the connections
	size  int64           // of the blob, -1 if unknown
	start int64           // of the body
	end   int64           // of the bytes that were promised, -1 if unknown

	body  io.ReadCloser
	stop  context.CancelCauseFunc // ends the connection of body
	first []byte                  // bytes before those of body

	mu     sync.Mutex
	at     int64  // the next byte of body
	rival  *rival // nil if there is none
	closed bool
}

// rival is the second connection of a contest, whose mu guards it.
type rival struct {
	at    int64
	ctx   context.Context
	stop  context.CancelCauseFunc
	over  bool // it has lost
	body  io.ReadCloser
	first []byte        // of body; not empty if it has won
	done  chan struct{} // closed when it has won or ended
}

// Read reads from the connection that is faster.
func (c *contest) Read(p []byte) (n int, err error) {
	if len(c.first) == 0 {
		n, err = c.body.Read(p)
		if n, err = c.settle(n, err); len(c.first) == 0 {
			return n, err
		}
	}
	n = copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

// settle ends the contest, if there is one, after a read of body brought n bytes or err.
// If the rival has won, its first bytes are those that come next.
func (c *contest) settle(n int, err error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rival
	if r != nil && len(r.first) == 0 && n == 0 && err != nil && !errors.Is(err, io.EOF) {
		c.mu.Unlock() // the first connection is dead
		<-r.done
		c.mu.Lock()
	}
	c.rival = nil
	switch {
	case r == nil:
	case len(r.first) == 0:
		r.over = true
		r.stop(errOver)
	default:
		_ = c.body.Close()
		c.body, c.stop, c.first, c.at = r.body, r.stop, r.first, c.at+int64(len(r.first))
		return 0, nil
	}
	c.at += int64(n)
	return n, err
}

// close ends both connections.
func (c *contest) close() {
	c.mu.Lock()
	c.closed = true
	r := c.rival
	if r != nil {
		r.over = true
		r.stop(errOver)
	}
	c.mu.Unlock()
	if r != nil {
		<-r.done
		if r.body != nil {
			_ = r.body.Close()
		}
	}
	_ = c.body.Close()
	c.stop(nil)
}

// challenge opens a second connection because the first n bytes are all that came for a
// while, unless more has come since, there is one already, or no slot is free.
func (c *contest) challenge(n int64) {
	claim := c.f.spareClaim()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.at != c.start+n || c.rival != nil || c.f.group.Segments < 2 || c.end >= 0 && c.at >= c.end {
		return
	}
	lent, release, ok := c.f.group.slots.Spare(c.ctx, claim)
	if !ok {
		return
	}
	r := &rival{at: c.at, done: make(chan struct{})}
	r.ctx, r.stop = context.WithCancelCause(upstream.WithOwnConnection(c.ctx))
	c.rival = r
	go func() {
		defer close(r.done)
		defer release()
		defer context.AfterFunc(lent, func() { r.stop(share.ErrWanted) })()
		if !c.run(r) {
			r.stop(errOver)
		}
	}()
}

// run opens the rival's connection and reads its first bytes. It reports whether it won.
func (c *contest) run(r *rival) bool {
	length := int64(-1)
	if c.end >= 0 {
		length = c.end - r.at
	}
	body, err := c.f.remote.get(r.ctx, r.stop, r.at, length)
	if err != nil {
		c.f.noteShy(err)
		return false
	}
	first := make([]byte, littleRead)
	n := 0
	if c.fits(r, body) {
		n, _ = io.ReadAtLeast(body, first, 1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == 0 || r.over || r.ctx.Err() != nil {
		_ = body.Close()
		return false
	}
	r.body, r.first = body, first[:n]
	c.stop(errOutrun)
	return true
}

// fits reports whether the rival's body has the bytes that are missing.
func (c *contest) fits(r *rival, body upstream.Body) bool {
	return body.Offset == r.at && c.f.remote.checkSize(body.Size, c.size) == nil &&
		(c.end < 0 || body.Length < 0 || body.Offset+body.Length == c.end)
}
