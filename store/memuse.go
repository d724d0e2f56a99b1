package store

import (
	"context"
	"math"
	"time"

	"github.com/opencontainers/go-digest"
)

// RecordUse implements [UseRecorder].
func (m *Mem) RecordUse(repo string, d digest.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.repos[repo]; r != nil {
		if info, ok := r.content[d]; ok && info.IsManifest() {
			info.Use = info.Use.add(time.Now())
			r.content[d] = info
		}
	}
}

// Size implements [Sizer]. Free is what is left of MaxBytes.
func (m *Mem) Size(ctx context.Context) (Size, error) {
	if err := ctx.Err(); err != nil {
		return Size{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := Size{Free: -1}
	for _, b := range m.blobs {
		s.Content += b.data.size
	}
	s.Overhead = m.used - s.Content
	if limit := m.limit(); limit < math.MaxInt64 {
		s.Free = limit - m.used
	}
	return s, nil
}

// RepositorySize implements [Sizer].
func (m *Mem) RepositorySize(ctx context.Context, repo string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := checkRepository(repo); err != nil {
		return 0, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if r := m.repos[repo]; r != nil {
		return r.size, nil
	}
	return 0, nil
}
