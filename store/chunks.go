package store

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
)

// chunkSize is how many bytes are allocated at once. Less is allocated for content
// that is known to be smaller.
const chunkSize = 256 << 10

// chunks are bytes in memory that can be written out of order and read
// meanwhile. Readers and the writer's commit share them, nothing is copied. They
// are found by their number, so a write far beyond the others holds one chunk
// and nothing for what lies between.
type chunks struct {
	max int64                   // announced size, or -1 if it is unknown
	pay func(bytes int64) error // called before memory is allocated; may be nil

	mu     sync.RWMutex
	list   map[int64][]byte // by number, chunkSize each; the last may be shorter
	size   int64            // the end of what was written
	paid   int64
	sealed bool // nothing is written any more, so readers need no lock
}

// WriteAt writes p at off. A reader sees all of p or nothing.
func (c *chunks) WriteAt(p []byte, off int64) (int, error) {
	if err := checkSpan(c.max, off, len(p)); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed {
		return 0, os.ErrClosed
	}
	n := 0
	for n < len(p) {
		i, at := (off+int64(n))/chunkSize, (off+int64(n))%chunkSize
		want := min(int64(len(p)-n), chunkSize-at)
		chunk, err := c.chunk(i, at+want)
		if err != nil {
			return n, err
		}
		n += copy(chunk[at:at+want], p[n:])
		c.size = max(c.size, off+int64(n))
	}
	return n, nil
}

// checkSpan refuses n bytes at off that begin before the start, or end beyond the
// announced size (unknown if negative) or beyond what can be counted.
func checkSpan(size, off int64, n int) error {
	switch {
	case off < 0:
		return fmt.Errorf("store: a write at the negative offset %d", off)
	case off > math.MaxInt64-int64(n):
		return fmt.Errorf("%w: %d bytes at %d end beyond any size", ErrSize, n, off)
	case size >= 0 && off+int64(n) > size:
		return sizeError(size, off+int64(n))
	}
	return nil
}

// chunk returns chunk i, at least need bytes long. c.mu is held.
func (c *chunks) chunk(i, need int64) ([]byte, error) {
	old := c.list[i]
	if int64(len(old)) >= need {
		return old, nil
	}
	length := int64(chunkSize)
	switch {
	case c.max >= 0:
		length = min(length, c.max-i*chunkSize)
	case i == 0:
		// Of unknown size and perhaps small: grow by doubling.
		length = min(length, max(4096, need, 2*int64(len(old))))
	}
	if c.pay != nil {
		if err := c.pay(length - int64(len(old))); err != nil {
			return nil, err
		}
	}
	c.paid += length - int64(len(old))
	chunk := make([]byte, length)
	copy(chunk, old)
	if c.list == nil {
		c.list = make(map[int64][]byte)
	}
	c.list[i] = chunk
	return chunk, nil
}

// seal ends the writing.
func (c *chunks) seal() {
	c.mu.Lock()
	c.sealed = true
	c.mu.Unlock()
}

// prefix returns chunks with the first n bytes, to be continued in place of c. Whole
// chunks are shared, so nothing may be written to them below n. It does not call pay:
// the caller accounts for the difference.
func (c *chunks) prefix(n int64) *chunks {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := &chunks{max: c.max, pay: c.pay, size: min(n, c.size), paid: memEntry, list: make(map[int64][]byte)}
	for i, chunk := range c.list {
		start := i * chunkSize
		if start >= p.size {
			continue
		}
		if start+int64(len(chunk)) > p.size {
			part := make([]byte, len(chunk))
			copy(part, chunk[:p.size-start])
			chunk = part
		}
		p.list[i] = chunk
		p.paid += int64(len(chunk))
	}
	return p
}

func (c *chunks) length() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.size
}

// readAt fills p as far as it can. A hole reads as zeros.
func (c *chunks) readAt(p []byte, off int64) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := 0
	for n < len(p) && off < c.size {
		want := min(int64(len(p)-n), c.size-off)
		part := c.part(off, want)
		if part == nil {
			want = min(want, chunkSize-off%chunkSize)
			clear(p[n : n+int(want)])
			part = p[n : n+int(want)]
		} else {
			copy(p[n:], part)
		}
		n += len(part)
		off += int64(len(part))
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// part returns at most want bytes of the chunk at off, from there on. In a hole the
// result is nil. The lock is held or the chunks are sealed.
func (c *chunks) part(off, want int64) []byte {
	chunk, at := c.list[off/chunkSize], off%chunkSize
	if int64(len(chunk)) <= at {
		return nil
	}
	return chunk[at:min(int64(len(chunk)), at+want)]
}

// bytes returns everything in one piece, without a copy if there is only one chunk.
// It is for content that is known to be small.
func (c *chunks) bytes() []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if first := c.list[0]; c.size <= int64(len(first)) {
		return first[:c.size]
	}
	all := make([]byte, c.size)
	for i, chunk := range c.list {
		copy(all[i*chunkSize:], chunk)
	}
	return all
}

// chunkReader reads chunks from a position of its own. It is an io.WriterTo, so
// io.Copy needs no buffer.
type chunkReader struct {
	c      *chunks
	off    int64
	closed bool
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, os.ErrClosed
	}
	n, err := r.c.readAt(p, r.off)
	r.off += int64(n)
	return n, err
}

// WriteTo writes the rest to w. Of sealed chunks it needs no copy.
func (r *chunkReader) WriteTo(w io.Writer) (int64, error) {
	if r.closed {
		return 0, os.ErrClosed
	}
	r.c.mu.RLock()
	sealed, size := r.c.sealed, r.c.size
	r.c.mu.RUnlock()
	if !sealed {
		return io.Copy(w, onlyReader{r})
	}
	var total int64
	for r.off < size {
		part := r.c.part(r.off, size-r.off)
		if part == nil {
			part = make([]byte, min(size-r.off, chunkSize-r.off%chunkSize))
		}
		n, err := w.Write(part)
		r.off += int64(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (r *chunkReader) Seek(offset int64, whence int) (int64, error) {
	if r.closed {
		return 0, os.ErrClosed
	}
	switch whence {
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.c.length()
	case io.SeekStart:
	default:
		return 0, errors.New("store: bad whence")
	}
	if offset < 0 {
		return 0, errors.New("store: seek before the start")
	}
	r.off = offset
	return offset, nil
}

func (r *chunkReader) Close() error {
	if r.closed {
		return os.ErrClosed
	}
	r.closed = true
	return nil
}

// onlyReader hides WriteTo.
type onlyReader struct{ io.Reader }
