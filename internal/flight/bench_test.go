package flight

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// endless is an upstream of zeros that costs next to nothing.
type endless struct {
	upstream.Repository
	size int64
	step int
}

func (e endless) Blob(_ context.Context, _ digest.Digest, off, _ int64) (upstream.Body, error) {
	b := &zeros{left: e.size - off, step: e.step}
	return upstream.Body{ReadCloser: b, Offset: off, Length: b.left, Size: e.size}, nil
}

func (e endless) StatBlob(context.Context, digest.Digest) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{Size: e.size}, nil
}

type zeros struct {
	left int64
	step int
}

func (z *zeros) Close() error { return nil }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.step, int(min(z.left, 1<<30)))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

// BenchmarkFill downloads 256 MiB into a file for so many readers.
func BenchmarkFill(b *testing.B) {
	const size = 256 << 20
	h := digest.SHA256.Hash()
	_, _ = io.Copy(h, io.LimitReader(&zeros{left: size, step: size}, size))
	sum := digest.NewDigest(digest.SHA256, h)
	for _, step := range []int{256 << 10, 4 << 10} {
		for _, readers := range []int{0, 1, 16, 200} {
			b.Run(fmt.Sprintf("read=%dKiB/readers=%d", step>>10, readers), func(b *testing.B) {
				b.SetBytes(size)
				dir := b.TempDir()
				for range b.N {
					g := &Group{Downloads: 8, PerHost: 8, Orphan: 1 << 40, Idle: time.Minute, Answer: time.Minute, Busy: time.Minute}
					req := Request{
						Key: Key{Digest: sum}, Size: size,
						Open:  func(context.Context) (upstream.Repository, error) { return endless{size: size, step: step}, nil },
						Spool: func(context.Context) (store.Spool, error) { return newPaper(dir) },
					}
					fill(b, g, req, readers)
				}
			})
		}
	}
}

func fill(b *testing.B, g *Group, req Request, readers int) {
	ctx := context.Background()
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			h, err := g.Join(ctx, req)
			if err != nil {
				b.Error(err)
				return
			}
			defer h.Close()
			if _, err := h.Header(ctx); err != nil {
				b.Error(err)
			}
			if n, err := h.Send(ctx, nothing{}, nil, 0, req.Size, true); n != req.Size || err != nil {
				b.Error(n, err)
			}
		})
	}
	if readers == 0 {
		req.Job = true
		h, err := g.Join(ctx, req)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Wait(ctx); err != nil {
			b.Fatal(err)
		}
		h.Close()
	}
	wg.Wait()
	_ = g.Close(ctx)
}

// nothing is a reader that costs only its wake-ups.
type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }

// ReadFrom stands for sendfile: it moves the file's offset and copies nothing.
func (nothing) ReadFrom(r io.Reader) (int64, error) {
	l := r.(*io.LimitedReader)
	n := l.N
	l.N = 0
	_, err := l.R.(io.Seeker).Seek(n, io.SeekCurrent)
	return n, err
}
