package store

import (
	"context"
	"io"
	"slices"
	"sync"
)

// memKept is a spool between Keep and the next Spool call.
type memKept struct {
	data *chunks
	p    Progress
}

// Spool implements [Spooler].
func (m *Mem) Spool(ctx context.Context, repo string, want Info) (Spool, error) {
	if err := checkInfo(ctx, repo, want); err != nil {
		return nil, err
	}
	key := keyOf(repo, want)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spools[key] != nil {
		return nil, key.busy()
	}
	s := &memSpool{m: m, key: key, repo: repo, want: want}
	if k := m.kept[key]; k != nil {
		delete(m.kept, key)
		s.data, s.had, s.vouched = k.data, k.p, k.p
	} else {
		var err error
		if s.data, err = m.begin(want.Size); err != nil {
			return nil, err
		}
	}
	if m.spools == nil {
		m.spools, m.kept = make(map[spoolKey]*memSpool), make(map[spoolKey]*memKept)
	}
	m.spools[key] = s
	return s, nil
}

type memSpool struct {
	m    *Mem
	key  spoolKey
	repo string
	want Info
	data *chunks
	had  Progress

	mu        sync.Mutex
	vouched   Progress
	committed bool
	closed    bool
}

func (s *memSpool) WriteAt(p []byte, off int64) (int, error) { return s.data.WriteAt(p, off) }

func (s *memSpool) Open() (io.ReadSeekCloser, error) { return &chunkReader{c: s.data}, nil }

func (s *memSpool) Commit(ctx context.Context, got Info) error {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.committed {
		return errClosed
	}
	if n := s.data.length(); got.Size >= 0 && n != got.Size {
		return sizeError(got.Size, n)
	}
	if err := s.m.commit(s.repo, got, s.data); err != nil {
		return err
	}
	s.committed = true
	return nil
}

// Progress implements [Checkpointer].
func (s *memSpool) Progress() Progress { return s.had }

// Checkpoint implements [Checkpointer].
func (s *memSpool) Checkpoint(p Progress) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.committed {
		return errClosed
	}
	if err := checkProgress(p, s.data.length()); err != nil {
		return err
	}
	p.Hash, p.Spans = slices.Clone(p.Hash), slices.Clone(p.Spans)
	s.vouched = p
	return nil
}

// Keep implements [Checkpointer].
func (s *memSpool) Keep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.committed || s.vouched.Front == 0 {
		return s.close()
	}
	// What nothing vouches for is given up; readers that are open keep it.
	kept := &memKept{data: s.data.prefix(s.vouched.end()), p: s.vouched}
	s.data.seal()
	s.closed = true
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.used += kept.data.paid - s.data.paid
	s.m.kept[s.key] = kept
	delete(s.m.spools, s.key)
	return nil
}

func (s *memSpool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close()
}

// close is Close with s.mu held.
func (s *memSpool) close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if !s.committed {
		s.m.release(s.data)
	}
	s.m.mu.Lock()
	delete(s.m.spools, s.key)
	s.m.mu.Unlock()
	return nil
}
