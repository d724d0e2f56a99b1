package objectstore

import (
	"bytes"
	"context"
	_ "crypto/sha256" // for digests
	_ "crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"os"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/store"
)

// maxContent is the largest content that can be stored.
const maxContent = PartSize * MaxParts

// Create implements [store.Content]. It asks the server nothing.
func (s *Store) Create(ctx context.Context, repo string, want store.Info) (store.Writer, error) {
	if err := checkInfo(ctx, repo, want); err != nil {
		return nil, err
	}
	if _, err := s.linkKey(repo, want.Digest, want.IsManifest()); err != nil {
		return nil, err
	}
	if want.Size > maxContent {
		return nil, tooLarge(want.Size)
	}
	return &writer{s: s, ctx: ctx, repo: repo, want: want, hash: want.Digest.Algorithm().Hash()}, nil
}

func tooLarge(size int64) error {
	return fmt.Errorf("%w: content of %d bytes, there may be %d", store.ErrFull, size, int64(maxContent))
}

// writer sends content in parts as they fill, or in one request if it is smaller than one.
type writer struct {
	s    *Store
	ctx  context.Context // of the whole life
	repo string
	want store.Info

	hash hash.Hash
	size int64
	buf  []byte
	// there says that the bytes were in the bucket when the first part was full; what is
	// written is hashed and not sent then.
	there  bool
	upload Upload // nil if nothing was sent yet
	closed bool
}

// Write implements [io.Writer].
func (w *writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, os.ErrClosed
	}
	size := w.size + int64(len(p))
	if w.want.Size >= 0 && size > w.want.Size {
		return 0, sizeError(w.want.Size, size)
	}
	if size > maxContent {
		return 0, tooLarge(size)
	}
	_, _ = w.hash.Write(p)
	w.size = size
	n := len(p)
	for len(p) > 0 && !w.there {
		if len(w.buf) == PartSize {
			if err := w.send(w.ctx); err != nil {
				return 0, err
			}
			continue
		}
		if w.buf == nil && w.want.Size >= 0 {
			w.buf = make([]byte, 0, min(PartSize, w.want.Size))
		}
		m := min(PartSize-len(w.buf), len(p))
		w.buf = append(w.buf, p[:m]...)
		p = p[m:]
	}
	return n, nil
}

// send sends what is in the buffer as a part, unless it finds the bytes in the bucket.
func (w *writer) send(ctx context.Context) error {
	key := w.s.blobKey(w.want.Digest)
	if w.upload == nil && w.want.Size >= 0 {
		o, err := w.s.bucket.Head(ctx, key)
		if unexpected(err) != nil {
			return err
		}
		if w.there = err == nil && o.Size == w.want.Size; w.there {
			w.buf = nil
			return nil
		}
	}
	if w.upload == nil {
		u, err := w.s.bucket.Begin(ctx, key)
		if err != nil {
			return err
		}
		w.upload = u
	}
	if err := w.upload.Part(ctx, w.buf); err != nil {
		return err
	}
	w.buf = w.buf[:0]
	return nil
}

// Commit implements [store.Writer]. It refuses bytes that have another digest.
func (w *writer) Commit(ctx context.Context) error {
	if w.closed {
		return os.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.want.Size >= 0 && w.size != w.want.Size {
		return sizeError(w.want.Size, w.size)
	}
	if got := digest.NewDigest(w.want.Digest.Algorithm(), w.hash); got != w.want.Digest {
		return fmt.Errorf("%s: bytes that hash to %s cannot be stored as %s", w.s, got, w.want.Digest)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.place(gctx) })
	g.Go(func() error { return w.s.mark(gctx, w.s.originKey(w.want), []byte(w.want.Origin())) })
	if err := g.Wait(); err != nil {
		return err
	}
	return w.s.link(ctx, w.repo, w.want.Stored(w.size))
}

// place makes the bytes an object, unless they are one.
func (w *writer) place(ctx context.Context) error {
	if w.there {
		return nil
	}
	key := w.s.blobKey(w.want.Digest)
	write := func(cond Condition) error { return w.s.bucket.Put(ctx, key, w.buf, cond) }
	if w.upload != nil {
		if len(w.buf) > 0 {
			if err := w.send(ctx); err != nil {
				return err
			}
		}
		write = func(cond Condition) error { return w.upload.Complete(ctx, cond) }
	}
	cond := IfAbsent
	for n := 0; ; n++ {
		err := write(cond)
		if !errors.Is(err, ErrChanged) {
			return err
		}
		// Somebody was faster, or the answer to a former attempt was lost, or what is
		// there is damaged. If nothing is there, another write is under way.
		var same bool
		same, cond, err = w.compare(ctx, key)
		if same || err != nil {
			return err
		}
		if n+1 == attempts {
			return fmt.Errorf("%s/%s cannot be written: %w", w.s.bucket, key, ErrChanged)
		}
		if err := sleep(ctx, n); err != nil {
			return err
		}
	}
}

// compare reports whether the bytes are in the bucket, and on which condition they are to be
// written if not. Bytes that were sent in parts can only be counted.
func (w *writer) compare(ctx context.Context, key string) (same bool, cond Condition, err error) {
	if w.upload != nil {
		o, err := w.s.bucket.Head(ctx, key)
		if err != nil {
			return false, IfAbsent, unexpected(err)
		}
		return o.Size == w.size, IfMatch(o.ETag), nil
	}
	data, cond, err := w.s.read(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, IfAbsent, nil
	case errors.Is(err, errLarge):
		return false, Always, nil
	}
	return err == nil && bytes.Equal(data, w.buf), cond, err
}

// Close implements [store.Writer].
func (w *writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed, w.buf = true, nil
	if w.upload == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), silence)
	defer cancel()
	return w.upload.Abort(ctx)
}
