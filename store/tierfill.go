package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// smallFar is the size up to which content of Far is read at once.
	smallFar = 64 << 10
	// heldBack is how much at the end of a blob waits for its digest.
	heldBack = 64 << 10
	// aheadMost is how far beyond what has come a reader waits for it.
	aheadMost = 1 << 20
	// fillPause is how long a reader waits for the next bytes before it asks by itself.
	fillPause = 10 * time.Second
)

// fill is a blob of Far that comes near while it is read: one download for any number of
// readers, which belongs to none of them. It is safe for concurrent use.
type fill struct {
	t         *Tier
	repo      string
	info      Info
	deletions int64 // before Far was asked
	spool     Spool // of Near

	mu    sync.Mutex
	front int64         // bytes that have come
	state fillState     // of what has come
	more  chan struct{} // closed when one of them changes
}

type fillState int

const (
	fillRuns    fillState = iota
	fillWhole             // the digest matches
	fillDamaged           // it does not
	fillBroken            // Far or Near failed, or the Tier was closed
)

// fills are those under way. The zero value works.
type fills struct {
	begins turns // one of a digest at a time begins
	mu     sync.Mutex
	under  map[farKey]*fill
}

// join returns a reader of content that is coming near, unless something was deleted since
// it began.
func (t *Tier) join(k farKey) (Info, io.ReadSeekCloser, bool) {
	s := t.state()
	s.fills.mu.Lock()
	f := s.fills.under[k]
	s.fills.mu.Unlock()
	if f == nil || f.deletions != s.memory.deletions.Load() {
		return Info{}, nil, false
	}
	r, err := f.open()
	if err != nil {
		return Info{}, nil, false
	}
	return f.info, r, true
}

// follow returns a reader that follows a blob that comes near, which begins unless another
// reader came at the same moment: r reads it far. If that cannot be, the result is nil, and r
// is still the caller's.
func (t *Tier) follow(ctx context.Context, repo string, info Info, deletions int64, r io.ReadSeekCloser) io.ReadSeekCloser {
	release, err := t.state().fills.begins.take(ctx, info.Digest)
	if err != nil {
		return nil
	}
	defer release()
	if _, joined, ok := t.join(linkOf(repo, info.Digest)); ok {
		_ = r.Close()
		return joined
	}
	return t.fill(repo, info, deletions, r)
}

// fill begins to bring a blob near that r reads far.
func (t *Tier) fill(repo string, info Info, deletions int64, r io.ReadSeekCloser) io.ReadSeekCloser {
	near, ok := As[Spooler](t.Near)
	s, k := t.state(), linkOf(repo, info.Digest)
	if !ok || info.Size < 0 || !s.work.reserve(k) {
		return nil
	}
	spool, err := near.Spool(s.work.ctx, repo, info)
	if err != nil { // full, or a download of the cache is at it
		s.work.release(k)
		return nil
	}
	if c, ok := spool.(Checkpointer); ok && c.Progress().Front > 0 {
		_ = c.Keep() // a download from the upstream goes on from there
		s.work.release(k)
		return nil
	}
	f := &fill{t: t, repo: repo, info: info, deletions: deletions, spool: spool, more: make(chan struct{})}
	reader, err := f.open()
	if err == nil {
		s.fills.set(k, f)
		if s.work.run(k, func(ctx context.Context) { f.run(ctx, r); s.fills.set(k, nil) }) {
			return reader
		}
		s.fills.set(k, nil)
		_ = reader.Close()
	}
	_ = spool.Close()
	s.work.release(k)
	return nil
}

func (s *fills) set(k farKey, f *fill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		delete(s.under, k)
		return
	}
	if s.under == nil {
		s.under = make(map[farKey]*fill)
	}
	s.under[k] = f
}

// run brings the blob near.
func (f *fill) run(ctx context.Context, far io.ReadSeekCloser) {
	defer f.spool.Close()
	err := f.copy(ctx, far)
	_ = far.Close()
	switch {
	case errors.Is(err, errDamagedCopy):
		f.t.damaged(f.repo, f.info)
		f.to(fillDamaged)
	case err != nil:
		f.to(fillBroken)
	default:
		f.to(fillWhole)
		err = f.spool.Commit(ctx, f.info)
	}
	if err != nil {
		if ctx.Err() == nil {
			f.t.log().Warn("content of the far store cannot be brought near", "repository", f.repo, "digest", f.info.Digest.String(), "err", err)
		}
		return
	}
	if f.t.state().memory.deletions.Load() != f.deletions {
		f.t.confirm(ctx, f.repo, f.info.Digest)
	}
}

// copy copies the bytes and compares their digest.
func (f *fill) copy(ctx context.Context, far io.Reader) error {
	v, buf := f.info.Digest.Verifier(), make([]byte, 128<<10)
	for off := int64(0); off < f.info.Size; {
		n, err := far.Read(buf[:min(int64(len(buf)), f.info.Size-off)])
		if n > 0 {
			_, _ = v.Write(buf[:n])
			if _, werr := f.spool.WriteAt(buf[:n], off); werr != nil {
				return werr
			}
			off += int64(n)
			f.comes(off)
		}
		if err == io.EOF && off < f.info.Size {
			return fmt.Errorf("%w: %d of %d bytes of %s", errDamagedCopy, off, f.info.Size, f.info.Digest)
		}
		if err != nil && err != io.EOF {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if !v.Verified() {
		return fmt.Errorf("%w: %s in %s", errDamagedCopy, f.info.Digest, f.repo)
	}
	return nil
}

func (f *fill) comes(front int64) { f.change(func() { f.front = front }) }
func (f *fill) to(s fillState)    { f.change(func() { f.state = s }) }

func (f *fill) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.more)
	f.more = make(chan struct{})
}

var errLeaveFill = errors.New("store: the reader goes on by itself")

// wait waits until there are bytes at pos, and returns where they end. The error is
// errLeaveFill if they are not worth waiting for.
func (f *fill) wait(pos int64) (end int64, err error) {
	timer := time.NewTimer(fillPause)
	defer timer.Stop()
	for {
		f.mu.Lock()
		front, state, more := f.front, f.state, f.more
		f.mu.Unlock()
		if end = front; state != fillWhole {
			end = min(front, f.info.Size-heldBack)
		}
		switch {
		case state == fillDamaged:
			return 0, fmt.Errorf("%w: %s in %s", errDamagedCopy, f.info.Digest, f.repo)
		case pos < end:
			return end, nil
		case state == fillBroken, pos > front+aheadMost && pos < f.info.Size-heldBack:
			return 0, errLeaveFill
		}
		select {
		case <-more:
		case <-timer.C:
			return 0, errLeaveFill
		}
	}
}

// open returns a reader.
func (f *fill) open() (io.ReadSeekCloser, error) {
	h, err := f.spool.Open()
	if err != nil {
		return nil, err
	}
	return &fillReader{f: f, near: h}, nil
}

// fillReader reads a blob that comes near: what has come from there, and what lies far ahead
// of it, or does not come, far. It is used by one goroutine.
type fillReader struct {
	f      *fill
	near   io.ReadSeekCloser
	far    io.ReadSeekCloser // nil as long as it follows
	pos    int64
	closed bool
}

func (r *fillReader) Read(p []byte) (n int, err error) {
	switch {
	case r.closed:
		return 0, os.ErrClosed
	case r.pos >= r.f.info.Size:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	from, end := r.far, r.f.info.Size
	if from == nil {
		from = r.near
		if end, err = r.f.wait(r.pos); errors.Is(err, errLeaveFill) {
			err = r.leave()
			from, end = r.far, r.f.info.Size
		}
		if err != nil {
			return 0, err
		}
	}
	if _, err := from.Seek(r.pos, io.SeekStart); err != nil {
		return 0, err
	}
	n, err = from.Read(p[:min(int64(len(p)), end-r.pos)])
	r.pos += int64(n)
	if err == io.EOF && r.pos < r.f.info.Size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// leave opens a reader of its own far.
func (r *fillReader) leave() error {
	t := r.f.t
	c, err := t.call(context.Background(), t.patience())
	if err != nil {
		return err
	}
	_, far, err := t.Far.Open(c.ctx, r.f.repo, r.f.info.Digest)
	if err != nil {
		return c.end(err)
	}
	c.opened()
	whole := newWholeReader(t, r.f.repo, r.f.info, &farReader{far, c})
	r.far = whole
	r.f.mu.Lock()
	front := r.f.front
	r.f.mu.Unlock()
	if front < r.pos {
		return nil // a range
	}
	if _, err := r.near.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return whole.begins(r.near, r.pos)
}

func (r *fillReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.f.info.Size
	}
	if offset < 0 || whence < io.SeekStart || whence > io.SeekEnd {
		return 0, os.ErrInvalid
	}
	r.pos = offset
	return offset, nil
}

func (r *fillReader) Close() error {
	if r.closed {
		return os.ErrClosed
	}
	r.closed = true
	err := r.near.Close()
	if r.far != nil {
		err = errors.Join(err, r.far.Close())
	}
	return err
}
