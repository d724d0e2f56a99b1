package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
)

// flaky is a bucket whose bodies do not keep what they promise.
type flaky struct {
	*buckettest.Mem
	gets int // of bytes of content
	// body returns what is sent in place of a body: the nth, from 1 on.
	body func(ctx context.Context, n int, body io.Reader) io.Reader
}

func (f *flaky) Get(ctx context.Context, key string, offset int64) (objectstore.Object, io.ReadCloser, error) {
	o, body, err := f.Mem.Get(ctx, key, offset)
	if err == nil && bytes.Contains([]byte(key), []byte("/blobs/")) {
		f.gets++
		body = io.NopCloser(f.body(ctx, f.gets, body))
	}
	return o, body, err
}

// silent is a body of which nothing comes.
type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// flakyStore returns a store with one blob.
func flakyStore(t *testing.T, size int, body func(context.Context, int, io.Reader) io.Reader) (*flaky, *objectstore.Store, []byte) {
	f := &flaky{Mem: new(buckettest.Mem), body: body}
	s := replica(t, f, "")
	data := large(6)[:size]
	put(t, s, "a", blobInfo(data), data)
	return f, s, data
}

func TestBodyThatBreaksOffIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, data := flakyStore(t, 1<<20, func(_ context.Context, n int, body io.Reader) io.Reader {
			switch n {
			case 1:
				return io.LimitReader(body, 1000) // a clean end that comes too early
			case 2:
				return io.MultiReader(io.LimitReader(body, 300000), errReader{})
			}
			return body
		})
		if got := read(t, s, "a", digest.FromBytes(data)); !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, or others", len(got), len(data))
		}
		if f.gets != 3 {
			t.Errorf("%d requests, want 3", f.gets)
		}
	})
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errAway }

func TestServerThatIsSilentIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, data := flakyStore(t, 1<<20, func(ctx context.Context, n int, body io.Reader) io.Reader {
			if n == 1 {
				return io.MultiReader(io.LimitReader(body, 1000), silent{ctx})
			}
			return body
		})
		begin := time.Now()
		if got := read(t, s, "a", digest.FromBytes(data)); !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, or others", len(got), len(data))
		}
		if took := time.Since(begin); f.gets != 2 || took > 35*time.Second {
			t.Errorf("%d requests, %v", f.gets, took)
		}
	})
}

// A body that always breaks off must not be asked for without an end.
func TestReaderGivesUp(t *testing.T) {
	for name, body := range map[string]func(context.Context, int, io.Reader) io.Reader{
		"nothing comes":    func(ctx context.Context, n int, body io.Reader) io.Reader { return silent{ctx} },
		"an error":         func(context.Context, int, io.Reader) io.Reader { return errReader{} },
		"a byte at a time": func(_ context.Context, _ int, body io.Reader) io.Reader { return io.LimitReader(body, 1) },
	} {
		synctest.Test(t, func(t *testing.T) {
			f, s, data := flakyStore(t, 1<<20, body)
			_, r, err := s.Open(t.Context(), "a", digest.FromBytes(data))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if n, err := io.Copy(io.Discard, r); err == nil || f.gets > 10 {
				t.Errorf("%s: %d bytes, %v after %d requests", name, n, err, f.gets)
			}
		})
	}
}

// A reader outlives the call of Open, whose context may have a limit of its own.
func TestReaderOutlivesTheContextOfOpen(t *testing.T) {
	_, s, data := flakyStore(t, 1<<20, func(_ context.Context, _ int, body io.Reader) io.Reader { return body })
	ctx, cancel := context.WithCancel(t.Context())
	_, r, err := s.Open(ctx, "a", digest.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	if _, _, err := s.Open(ctx, "a", digest.FromBytes(data)); !errors.Is(err, context.Canceled) {
		t.Errorf("Open after the end of its context: %v", err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s, data := flakyStore(t, 1000, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f.Before = func(ctx context.Context, method, key string) error {
			if method == "Get" && bytes.Contains([]byte(key), []byte("/blobs/")) {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		begin := time.Now()
		if _, _, err := s.Open(ctx, "a", digest.FromBytes(data)); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > time.Second {
			t.Errorf("Open at a server that does not answer: %v after %v", err, time.Since(begin))
		}
	})
}

// What is read in full needs one request, and one more for each seek to elsewhere.
func TestSeeksAskOnlyWhenTheyMust(t *testing.T) {
	f, s, data := flakyStore(t, 1<<20, func(_ context.Context, _ int, body io.Reader) io.Reader { return body })
	_, r, err := s.Open(t.Context(), "a", digest.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, step := range []struct{ at, gets int64 }{{0, 1}, {50000, 1}, {900000, 2}, {10, 3}, {10 + 4096 + 60000, 3}} {
		if end, err := r.Seek(0, io.SeekEnd); err != nil || end != int64(len(data)) {
			t.Fatal(end, err)
		}
		if _, err := r.Seek(step.at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4096)
		if _, err := io.ReadFull(r, p); err != nil || !bytes.Equal(p, data[step.at:step.at+4096]) {
			t.Errorf("at %d are other bytes, %v", step.at, err)
		}
		if int64(f.gets) != step.gets {
			t.Errorf("after a seek to %d there were %d requests, want %d", step.at, f.gets, step.gets)
		}
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("a seek to before the start succeeds")
	}
	if _, err := r.Seek(0, 7); err == nil {
		t.Error("a seek from nowhere succeeds")
	}
	if _, err := r.Seek(5, io.SeekEnd); err != nil {
		t.Error(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	r.Close()
	if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Close: %v", err)
	}
}
