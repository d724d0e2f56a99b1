package fleet

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// fill opens a blob at the upstream, for this replica and those that follow it. done undoes
// what [roles.fill] noted.
func (r repository) fill(ctx context.Context, h upstream.Hint, k key, offset, length int64, done func()) (upstream.Body, error) {
	f := r.f
	f.counts.filled.Add(1)
	began := time.Now()
	body, err := r.Repository.Blob(ctx, k.digest, offset, length)
	if err != nil {
		if ctx.Err() == nil {
			f.refused.add(k)
		}
		done()
		return body, err
	}
	f.log.Debug("fleet: fills", "self", f.Self, "digest", k.digest.String(), "offset", body.Offset)
	q := &question{f: f, key: k, repository: h.Repository, loop: upstream.Loop(ctx)}
	body.ReadCloser = &filled{ReadCloser: body.ReadCloser, ctx: ctx, q: q, done: sync.OnceFunc(done), pos: body.Offset, last: began}
	return body, nil
}

// filled is a body from the upstream. After a pause, of the process or of the upstream, it
// asks whether another replica is further with the blob by now, which then is followed.
type filled struct {
	io.ReadCloser
	ctx   context.Context
	q     *question
	done  func()
	pos   int64     // of the next byte in the blob
	last  time.Time // when the last read ended
	ahead string    // the replica that is further; empty if none is
}

// Read implements [io.Reader].
func (b *filled) Read(p []byte) (n int, err error) {
	if b.paused() { // the process was stopped
		b.look()
	}
	if b.overtaken() {
		return 0, errOvertaken
	}
	n, err = b.ReadCloser.Read(p)
	b.pos += int64(n)
	if b.paused() && err == nil { // the upstream is slow
		b.look()
	}
	return n, err
}

// errOvertaken ends a body, so that the rest of the blob is asked for.
var errOvertaken = fmt.Errorf("fleet: another replica is further: %w", io.ErrUnexpectedEOF)

// paused reports whether nothing has happened for a while.
func (b *filled) paused() bool {
	since := time.Since(b.last)
	b.last = time.Now()
	return since > silence
}

// look asks whether another replica is further. It asks those too that seemed dead, since it
// may be this one that could not be reached.
func (b *filled) look() {
	f := b.q.f
	b.ahead = b.q.find(b.ctx, Rank(f.members(b.ctx), b.q.source, b.q.digest), b.pos)
	b.last = time.Now()
}

// overtaken reports whether another replica is further and is to be followed, for which
// those that follow this one must have gone: they have if it was stopped, although that may
// not have been noticed yet.
func (b *filled) overtaken() bool {
	f := b.q.f
	if b.ahead == "" || !f.roles.yield(b.q.key) {
		return false
	}
	f.counts.overtaken.Add(1)
	f.log.Debug("fleet: overtaken", "self", f.Self, "peer", b.ahead, "digest", b.q.digest.String())
	return true
}

// Close implements [io.Closer].
func (b *filled) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}
