package mirror

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// Blob reads from mirrors first. What a mirror has given from the beginning and is asked for
// again soon was not right, or has not been stored: it comes from the host itself then.
func (r repository) Blob(ctx context.Context, d digest.Digest, offset, length int64) (upstream.Body, error) {
	blob := blobKey{r.source, d}
	begins := offset == 0 && length != 1 // one byte asks only whether the blob is there
	if mirrors := r.upstream.mirrorsOf(r.source.Host, false); len(mirrors) > 0 && !r.upstream.doubts(blob, begins) {
		for _, m := range mirrors {
			body, ok := r.blobAt(ctx, m, d, offset, length)
			if ok && begins {
				r.upstream.note(blob)
			}
			if ok {
				return body, nil
			}
			if ctx.Err() != nil {
				break
			}
		}
	}
	return r.Repository.Blob(ctx, d, offset, length)
}

// blobAt opens a blob at a mirror.
func (r repository) blobAt(ctx context.Context, m Mirror, d digest.Digest, offset, length int64) (upstream.Body, bool) {
	c, ok := r.upstream.begin(r.source, m)
	if !ok {
		return upstream.Body{}, false
	}
	limited, cancel := context.WithCancelCause(ctx)
	slow := time.AfterFunc(Patience, func() { cancel(errSlow) })
	body, err := c.repository.Blob(limited, d, offset, length)
	if err == nil && !slow.Stop() { // its time was up just now
		_ = body.Close()
		err = &upstream.Error{Source: m.source(r.source), Op: "GET blob " + d.String(), Class: upstream.Unreachable, Timeout: true, Err: errSlow}
	}
	c.end(ctx, err)
	if err != nil {
		slow.Stop()
		cancel(nil)
		return upstream.Body{}, false
	}
	body.ReadCloser = &mirrored{ReadCloser: body.ReadCloser, ctx: ctx, cancel: cancel, call: c}
	return body, true
}

// mirrored is the body of a blob that a mirror sends. If it breaks off or falls silent, the
// mirror has failed, so that the rest comes from elsewhere.
type mirrored struct {
	io.ReadCloser
	ctx    context.Context // of the caller, who may end the connection for reasons of his own
	cancel context.CancelCauseFunc
	call   call
}

// Read reads from the mirror.
func (b *mirrored) Read(p []byte) (int, error) {
	began := time.Now()
	n, err := b.ReadCloser.Read(p)
	silent := n == 0 && time.Since(began) >= Patience
	if err != nil && !errors.Is(err, io.EOF) && (b.ctx.Err() == nil || silent) {
		b.call.end(context.Background(), &upstream.Error{Class: upstream.Unreachable, Op: "GET blob", Err: err})
	}
	return n, err
}

// Close ends the connection.
func (b *mirrored) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

const (
	// maxGiven is how many blobs are remembered that mirrors have given, and doubtFor is for
	// how long.
	maxGiven = 4096
	doubtFor = 10 * time.Minute
)

// blobKey names a blob as a rule asks for it.
type blobKey struct {
	source upstream.Source
	digest digest.Digest
}

// given remembers the blobs that mirrors have given from the beginning.
type given struct {
	blobs map[blobKey]*gift
	order []blobKey // the oldest first
}

// gift is a blob that a mirror has given.
type gift struct {
	at    time.Time
	doubt bool // it was asked for again
}

// note remembers that a mirror gives a blob. The oldest makes room.
func (u *Upstream) note(b blobKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	g := &u.given
	if g.blobs == nil {
		g.blobs = map[blobKey]*gift{}
	}
	if g.blobs[b] == nil {
		if len(g.order) >= maxGiven {
			delete(g.blobs, g.order[0])
			g.order = g.order[1:]
		}
		g.order = append(g.order, b)
	}
	g.blobs[b] = &gift{at: time.Now()}
}

// doubts reports whether a blob should come from the host itself. If it is asked for from its
// beginning once more, it should from now on.
func (u *Upstream) doubts(b blobKey, begins bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	g := u.given.blobs[b]
	if g == nil || time.Since(g.at) > doubtFor {
		return false
	}
	if begins && !g.doubt {
		g.doubt = true
		if u.Log != nil {
			u.Log.Warn("a blob that a mirror has given is asked for once more, and comes from the host itself", "rule", b.source.Rule, "source", b.source.String(), "digest", b.digest.String())
		}
	}
	return g.doubt
}
