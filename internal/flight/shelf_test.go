package flight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// shelf is a store for one blob that checks how it is used.
type shelf struct {
	t *testing.T
	// Faults: how many times Spool fails; the byte that cannot be written; the
	// commits and the Opens that fail.
	spoolErr  error
	full      int64
	commitErr error
	// slow is how long a write takes.
	slow time.Duration
	// beforeCommit is called before a commit.
	beforeCommit func()
	// beforeCheckpoint is called before a checkpoint.
	beforeCheckpoint func()
	openErr          func(n int) error
	// plain spools have no checkpoints.
	plain bool
	// linked makes Spool say ErrStored once the blob is there.
	linked bool

	mu          sync.Mutex
	tape        *tape // that is open
	kept        *tape
	spools      int
	opens       int
	files       int // handles that are open
	stored      []byte
	keeps       int
	checkpoints []store.Progress
}

func (s *shelf) spool(ctx context.Context) (store.Spool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spools++
	if s.linked && s.stored != nil {
		return nil, ErrStored
	}
	if s.spoolErr != nil {
		return nil, s.spoolErr
	}
	if s.tape != nil {
		s.t.Error("a second spool is asked for while one is open")
		return nil, errors.New("busy")
	}
	t := &tape{s: s}
	if k := s.kept; k != nil {
		s.kept = nil
		t.had = k.vouched
		end := k.vouched.Front
		t.written = t.written.add(0, end)
		for _, s := range k.vouched.Spans {
			t.written, end = t.written.add(s.Start, s.End), s.End
		}
		t.data = slices.Clone(k.data[:end])
		t.vouched = k.vouched
	}
	s.tape = t
	if s.plain {
		return struct{ store.Spool }{t}, nil
	}
	return t, nil
}

// check is called at the end.
func (s *shelf) check() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tape != nil {
		s.t.Error("the spool is not closed")
	}
	if s.files != 0 {
		s.t.Errorf("%d readers of the spool are not closed", s.files)
	}
}

// tape is a spool in memory. It refuses to be written twice, and to be read
// where it was not written.
type tape struct {
	s   *shelf
	had store.Progress

	mu      sync.RWMutex
	data    []byte
	written ranges
	vouched store.Progress
	writes  int
	ended   bool // closed or kept
	done    bool // committed
}

func (t *tape) WriteAt(p []byte, off int64) (int, error) {
	time.Sleep(t.s.slow)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writes++
	end := off + int64(len(p))
	if t.ended || t.done {
		t.s.t.Error("written after the end")
	}
	if t.written.end(off) > off {
		t.s.t.Errorf("byte %d is written twice", off)
	} else if n := t.written.next(off); n >= 0 && n < end {
		t.s.t.Errorf("byte %d is written twice", n)
	}
	var err error
	if full := t.s.full; full > 0 && end > full {
		p, end, err = p[:max(0, full-off)], max(off, full), syscall.ENOSPC
		if len(p) == 0 {
			return 0, err
		}
	}
	if end > int64(len(t.data)) {
		t.data = slices.Grow(t.data, int(end)-len(t.data))[:end]
	}
	copy(t.data[off:], p)
	if err == nil { // what failed is as if it was not there
		t.written = t.written.add(off, end)
	}
	return len(p), err
}

func (t *tape) Open() (io.ReadSeekCloser, error) {
	t.mu.RLock()
	ended := t.ended
	t.mu.RUnlock()
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.opens++
	if t.s.openErr != nil {
		if err := t.s.openErr(t.s.opens); err != nil {
			return nil, err
		}
	}
	if ended {
		return nil, errors.New("opened after the end")
	}
	t.s.files++
	return &file{t: t}, nil
}

func (t *tape) Commit(ctx context.Context, got store.Info) error {
	if t.s.beforeCommit != nil {
		t.s.beforeCommit()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.s.commitErr; err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.written.end(0) != got.Size || int64(len(t.data)) != got.Size {
		t.s.t.Errorf("Commit of %d bytes, %v are there", got.Size, t.written)
	}
	t.done = true
	t.s.mu.Lock()
	t.s.stored = t.data
	t.s.mu.Unlock()
	return nil
}

func (t *tape) Progress() store.Progress { return t.had }

func (t *tape) Checkpoint(p store.Progress) error {
	if t.s.beforeCheckpoint != nil {
		t.s.beforeCheckpoint()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.done {
		t.s.t.Error("checkpoint after the end")
	}
	if t.written.end(0) < p.Front {
		t.s.t.Errorf("checkpoint at %d, present is %v", p.Front, t.written)
	}
	for _, s := range p.Spans {
		if s.Start <= p.Front || t.written.end(s.Start) < s.End {
			t.s.t.Errorf("checkpoint at %d with %v, present is %v", p.Front, s, t.written)
		}
	}
	t.vouched = p
	t.s.mu.Lock()
	t.s.checkpoints = append(t.s.checkpoints, p)
	t.s.mu.Unlock()
	return nil
}

func (t *tape) Keep() error {
	t.end()
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.keeps++
	if t.vouched.Front > 0 {
		t.s.kept = t
	}
	return nil
}

func (t *tape) Close() error { t.end(); return nil }

func (t *tape) end() {
	t.mu.Lock()
	if t.ended {
		t.s.t.Error("closed twice")
	}
	t.ended = true
	t.mu.Unlock()
	t.s.mu.Lock()
	t.s.tape = nil
	t.s.mu.Unlock()
}

// file is a reader of a tape.
type file struct {
	t      *tape
	off    int64
	closed bool
}

func (f *file) Read(p []byte) (int, error) {
	f.t.mu.RLock()
	defer f.t.mu.RUnlock()
	end := f.t.written.end(f.off)
	n := copy(p, f.t.data[min(f.off, end):end])
	f.off += int64(n)
	if n == 0 && len(p) > 0 {
		f.t.s.t.Errorf("byte %d is read and is not there: %v", f.off, f.t.written)
		return 0, io.EOF
	}
	return n, nil
}

func (f *file) Seek(off int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, fmt.Errorf("whence %d", whence)
	}
	f.off = off
	return off, nil
}

func (f *file) Close() error {
	if f.closed {
		f.t.s.t.Error("a reader is closed twice")
	}
	f.closed = true
	f.t.s.mu.Lock()
	f.t.s.files--
	f.t.s.mu.Unlock()
	return nil
}
