package store

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// Spool implements [Spooler]. Content of at most 16 KiB is held in memory and has no file
// before the first checkpoint.
func (d *Dir) Spool(ctx context.Context, repo string, want Info) (Spool, error) {
	if err := checkInfo(ctx, repo, want); err != nil {
		return nil, err
	}
	if err := d.room(); err != nil {
		return nil, err
	}
	c, err := contentOf(want.Digest)
	if err != nil {
		return nil, err
	}
	key := keyOf(repo, want)
	p, free := d.take(key.name())
	if !free {
		return nil, key.busy()
	}
	s := &dirSpool{d: d, key: key, repo: repo, want: want, c: c, name: p.name, part: d.partPath(p.name), at: p.at}
	if err := s.open(); err != nil {
		d.leave(p, !p.at.IsZero()) // what was there still is
		return nil, d.wrap("spool", repo, c, err)
	}
	return s, nil
}

type dirSpool struct {
	d    *Dir
	key  spoolKey
	repo string
	want Info
	c    content
	name string // of the part
	part string // the path of its file
	had  Progress
	end  atomic.Int64 // the end of what was written
	mem  *chunks      // small content; nil if all is in file

	// work serializes Checkpoint, Commit, Keep and Close, and is held while they wait
	// for the disk. mu guards the fields after it, and is not held meanwhile.
	work    sync.Mutex
	mu      sync.RWMutex
	file    *os.File  // nil while all is in mem
	path    string    // where Open finds the file
	vouched bool      // the index vouches for what is in file
	placed  bool      // the bytes are in blobs/
	done    bool      // committed
	at      time.Time // of the last checkpoint
	closed  bool
}

// open takes up what is there, or begins anew.
func (s *dirSpool) open() error {
	defer s.d.lockPart(s.name).Unlock() // remove may be at it
	if p, ok := s.d.readProgress(s.name, &s.key); ok && (s.want.Size < 0 || p.Size < 0 || p.Size == s.want.Size) {
		f, err := durable.OpenWrite(s.part)
		if err != nil {
			return err
		}
		if err := s.d.disk.Truncate(f, p.end()); err != nil {
			f.Close()
			return err
		}
		s.file, s.path, s.had, s.vouched = f, s.part, p, true
		s.end.Store(p.end())
		return nil
	}
	if 0 <= s.want.Size && s.want.Size <= smallContent {
		if !s.at.IsZero() { // of another size
			if err := s.clear(); err != nil {
				return err
			}
		}
		s.mem = &chunks{max: s.want.Size}
		return nil
	}
	return s.begin()
}

// clear removes what is there of the spool.
func (s *dirSpool) clear() error { return s.d.removePart(s.name) }

// begin creates the file. It clears what is there before: the index would vouch for the
// new bytes.
func (s *dirSpool) begin() error {
	if err := s.clear(); err != nil {
		return err
	}
	f, err := s.d.disk.CreateFile(s.part)
	if err != nil {
		return err
	}
	s.file, s.path = f, s.part
	return nil
}

func (s *dirSpool) WriteAt(p []byte, off int64) (int, error) {
	if err := checkSpan(s.want.Size, off, len(p)); err != nil {
		return 0, err
	}
	s.mu.RLock()
	file, over := s.file, s.placed || s.closed
	if s.mem != nil && !over {
		defer s.mu.RUnlock() // spill copies what is there, then sets file
		n, err := s.mem.WriteAt(p, off)
		if err != nil || file == nil {
			return n, err
		}
	} else {
		s.mu.RUnlock()
	}
	if over {
		return 0, errClosed
	}
	err := s.d.writing(len(p))
	if err == nil {
		err = s.d.disk.Writing(file)
	}
	if err != nil {
		return 0, s.d.wrap("write", s.repo, s.c, err)
	}
	n, err := file.WriteAt(p, off)
	for {
		end := s.end.Load()
		if off+int64(n) <= end || s.end.CompareAndSwap(end, off+int64(n)) {
			break
		}
	}
	return n, s.d.wrap("write", s.repo, s.c, err)
}

func (s *dirSpool) length() int64 {
	if s.mem != nil {
		return s.mem.length()
	}
	return s.end.Load()
}

// Open opens the file once more; small content is read from memory.
func (s *dirSpool) Open() (io.ReadSeekCloser, error) {
	if s.mem != nil {
		return &chunkReader{c: s.mem}, nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	f, _, err := durable.OpenRead(s.path)
	if err != nil {
		return nil, s.d.wrap("open", s.repo, s.c, err)
	}
	return f, nil
}

func (s *dirSpool) Commit(ctx context.Context, got Info) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	got, err := s.key.fill(got, s.want)
	if err != nil {
		return err
	}
	if err := checkInfo(ctx, s.repo, got); err != nil {
		return err
	}
	s.work.Lock()
	defer s.work.Unlock()
	if s.done || s.closed {
		return errClosed
	}
	n := s.length()
	if got.Size >= 0 && n != got.Size {
		return sizeError(got.Size, n)
	}
	if s.file != nil && !s.placed {
		if err := s.d.disk.Sync(s.file); err != nil {
			return s.d.wrap("commit", s.repo, s.c, err)
		}
	}
	var also func(t dirTx)
	if s.vouched {
		also = func(t dirTx) { t.Delete(inPartial, []byte(s.name)) }
	}
	if s.file != nil || s.placed {
		err = s.d.commitFile(s.repo, s.c, got.Stored(n), s.place, also)
	} else {
		err = s.commitMemory(got.Stored(n), also)
	}
	if err != nil {
		return s.d.wrap("commit", s.repo, s.c, err)
	}
	s.done = true
	return nil
}

// place moves the file to path, once. s.work is held.
func (s *dirSpool) place(path string) error {
	if s.placed {
		return stillThere(path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.d.disk.Rename(s.part, path); err != nil {
		return err
	}
	s.file.Close() // it must not be written to any more
	if s.mem != nil {
		s.mem.seal()
	}
	s.path, s.placed = path, true
	return nil
}

// commitMemory commits content that has no file. s.work is held.
func (s *dirSpool) commitMemory(info Info, also func(t dirTx)) error {
	s.mem.seal()
	if err := s.d.commitSmall(s.repo, s.c, info, s.mem.bytes(), also); err != nil {
		return err
	}
	s.mu.Lock()
	s.placed = true
	s.mu.Unlock()
	return nil
}

// Progress implements [Checkpointer].
func (s *dirSpool) Progress() Progress { return s.had }

// Checkpoint implements [Checkpointer].
func (s *dirSpool) Checkpoint(p Progress) error {
	s.work.Lock()
	defer s.work.Unlock()
	if s.placed || s.closed {
		return errClosed
	}
	if err := checkProgress(p, s.length()); err != nil {
		return err
	}
	err := s.spill()
	if err == nil {
		err = s.d.disk.Sync(s.file)
	}
	if err == nil {
		err = s.d.writeProgress(s.name, s.key, p)
	}
	if err == nil {
		s.vouched, s.at = true, time.Now()
	}
	return s.d.wrap("checkpoint", s.repo, s.c, err)
}

// spill writes content that is in memory only to a file. s.work is held.
func (s *dirSpool) spill() error {
	if s.file != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(); err != nil {
		return err
	}
	err := s.d.disk.Writing(s.file)
	if err == nil {
		_, err = s.file.Write(s.mem.bytes())
	}
	if err != nil {
		s.file.Close()
		s.file = nil
		err = errors.Join(err, s.d.disk.Remove(s.part))
	}
	return err
}

// Keep implements [Checkpointer].
func (s *dirSpool) Keep() error { return s.finish(true) }

func (s *dirSpool) Close() error { return s.finish(false) }

func (s *dirSpool) finish(keep bool) error {
	s.work.Lock()
	defer s.work.Unlock()
	if s.closed {
		return nil
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	if s.mem != nil {
		s.mem.seal()
	}
	p := part{name: s.name, at: s.at}
	kept := keep && s.vouched && !s.placed
	if kept {
		if st, err := s.file.Stat(); err == nil {
			p.size = durable.Used(st)
		}
	}
	defer s.d.leave(p, kept)
	if s.file == nil || s.done || kept {
		if s.file != nil {
			s.file.Close()
		}
		return nil
	}
	s.file.Close()
	err := s.clear()
	if s.placed { // but not linked
		err = errors.Join(err, s.d.removeFile(s.c))
	}
	return s.d.wrap("close", s.repo, s.c, err)
}
