package flight

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

func TestWrongBytesNeverEnd(t *testing.T) {
	const size = 300 << 10
	for _, at := range []int64{0, 1, size / 2, size - HoldBack, size - 1} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("byte %d, size known %v", at, known), func(t *testing.T) {
				story(t, func(t *testing.T) {
					r := newRig(t, size)
					if !known {
						r.size = -1
					}
					r.up.each = func(n int, _ int64) fault {
						if n > 0 {
							return fault{}
						}
						return fault{flip: at + 1, noSize: !known, noLength: !known, step: 10 << 10, pause: time.Millisecond}
					}
					var wg sync.WaitGroup
					for i := range 5 {
						wg.Go(func() {
							time.Sleep(time.Duration(i) * 6 * time.Millisecond)
							got, err := r.get()
							if !errors.Is(err, ErrDigest) {
								t.Errorf("error %v", err)
							}
							if len(got) > size-HoldBack {
								t.Errorf("a reader got %d bytes of %d", len(got), size)
							}
						})
					}
					wg.Wait()
					r.wantStored(false)
					if r.shelf.kept != nil {
						t.Error("wrong bytes were kept")
					}
					r.want()
					r.wantStored(true)
					r.wantConnections(2)
				})
			})
		}
	}
}

func TestSmallIsVerifiedBeforeItsHeader(t *testing.T) {
	for _, size := range []int{1, 100, HoldBack} {
		story(t, func(t *testing.T) {
			r := newRig(t, size)
			r.up.each = func(n int, _ int64) fault { return fault{flip: int64(1 - n), pause: time.Second} }
			h := r.join(false)
			if _, err := h.Header(client()); !errors.Is(err, ErrDigest) {
				t.Errorf("%d bytes: Header says %v", size, err)
			}
			h.Close()
			r.wantStored(false)
			r.want()
			r.wantStored(true)
		})
	}
}

func TestNothingAtAllIsABlobToo(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.want()
		r.wantStored(true)
	})
}

func TestUnknownSizeStaysBehindTheFront(t *testing.T) {
	story(t, func(t *testing.T) {
		r := newRig(t, 1<<20)
		r.size = -1
		r.up.each = func(n int, _ int64) fault {
			return fault{noSize: true, noLength: true, step: 32 << 10, pause: time.Second}
		}
		h := r.join(false)
		defer h.Close()
		if size, err := h.Header(client()); size != -1 || err != nil {
			t.Fatal(size, err)
		}
		var w counted
		done := make(chan error)
		go func() {
			_, err := h.Send(client(), &w, nil, 0, -1, true)
			done <- err
		}()
		for i := range 32 {
			synctest.Wait()
			front, _, _ := r.g.Peek(r.key)
			if got := w.n.Load(); got != max(0, front-HoldBack) {
				t.Fatalf("second %d: the front is at %d, the reader has %d", i, front, got)
			}
			time.Sleep(time.Second)
		}
		if err := <-done; err != nil || !bytes.Equal(w.Bytes(), r.up.data) {
			t.Errorf("%d bytes, %v", w.Len(), err)
		}
		r.wantConnections(1)
	})
}

// counted counts what is written, readable by others.
type counted struct {
	bytes.Buffer
	n atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// ReadFrom hides that of the buffer, which counts nothing.
func (c *counted) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }

// The end waits for the digest, however long the front needs to come there: a
// segment may have brought the last bytes long before.
func TestSegmentDoesNotLoosenTheHoldBack(t *testing.T) {
	const size = 24 << 20
	story(t, func(t *testing.T) {
		r := newRig(t, size)
		r.up.each = func(n int, off int64) fault {
			if n == 0 {
				return fault{flip: 9, step: 64 << 10, pause: 100 * time.Millisecond}
			}
			return fault{}
		}
		var got []byte
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { got, err = r.get() })
		wg.Go(func() {
			tail, err := r.cut(size-100, 100)
			if err != nil || !bytes.Equal(tail, r.up.data[size-100:]) {
				t.Errorf("the tail: %v", err)
			}
		})
		wg.Wait()
		r.wantClass(err, upstream.Protocol)
		if len(got) > size-HoldBack || !errors.Is(err, ErrDigest) {
			t.Errorf("got %d of %d, %v", len(got), size, err)
		}
		r.wantStored(false)
	})
}
