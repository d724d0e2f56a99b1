package fleet

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

// fill opens a blob at the upstream, for this replica and those that follow it.
func (r repository) fill(ctx context.Context, h upstream.Hint, k key, offset, length int64) (upstream.Body, error) {
	f := r.f
	f.counts.filled.Add(1)
	done := f.roles.fill(k)
	body, err := r.Repository.Blob(ctx, k.digest, offset, length)
	if err != nil {
		done()
		return body, err
	}
	f.log.Debug("fleet: fills", "self", f.Self, "digest", k.digest.String(), "offset", body.Offset)
	q := &question{f: f, key: k, repository: h.Repository, loop: upstream.Loop(ctx)}
	body.ReadCloser = &filled{ReadCloser: body.ReadCloser, ctx: ctx, q: q, done: sync.OnceFunc(done), pos: body.Offset, last: time.Now()}
	return body, nil
}

// filled is a body from the upstream. After a pause, of the process or of the upstream, it
// asks whether another replica is further with the blob by now, which then is followed.
type filled struct {
	io.ReadCloser
	ctx  context.Context
	q    *question
	done func()
	pos  int64     // of the next byte in the blob
	last time.Time // when the last read ended
}

// Read implements [io.Reader].
func (b *filled) Read(p []byte) (n int, err error) {
	if b.paused() && b.overtaken() {
		return 0, errOvertaken
	}
	n, err = b.ReadCloser.Read(p)
	b.pos += int64(n)
	if b.paused() && err == nil && b.overtaken() {
		return n, errOvertaken
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

// overtaken reports whether another replica is further.
func (b *filled) overtaken() bool {
	f := b.q.f
	others := slices.DeleteFunc(f.rank(b.ctx, b.q.key), func(p string) bool { return p == f.Self })
	peer := b.q.find(b.ctx, others[:min(len(others), maxAsked)], b.pos)
	b.last = time.Now()
	if peer == "" {
		return false
	}
	f.roles.yield(b.q.key)
	f.counts.overtaken.Add(1)
	f.log.Debug("fleet: overtaken", "self", f.Self, "peer", peer, "digest", b.q.digest.String())
	return true
}

// Close implements [io.Closer].
func (b *filled) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}
