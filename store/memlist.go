package store

import (
	"context"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Repositories implements [Lister], as of the first step.
func (m *Mem) Repositories(ctx context.Context, last string) iter.Seq2[string, error] {
	return sorted(ctx, func() ([]string, error) {
		m.mu.RLock()
		defer m.mu.RUnlock()
		var names []string
		for name, r := range m.repos {
			if name > last && r.listed() {
				names = append(names, name)
			}
		}
		return names, nil
	})
}

func (r *memRepo) listed() bool {
	if len(r.tags) > 0 {
		return true
	}
	for _, info := range r.content {
		if info.IsManifest() {
			return true
		}
	}
	return false
}

// TagNames implements [Lister], as of the first step.
func (m *Mem) TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error] {
	return sorted(ctx, func() ([]string, error) {
		if err := checkRepository(repo); err != nil {
			return nil, err
		}
		m.mu.RLock()
		defer m.mu.RUnlock()
		var names []string
		if r := m.repos[repo]; r != nil {
			for tag := range r.tags {
				if tag > last {
					names = append(names, tag)
				}
			}
		}
		return names, nil
	})
}

// Referrers implements [Lister].
func (m *Mem) Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	return func(yield func(ocispec.Descriptor, error) bool) {
		names := sorted(ctx, func() ([]string, error) {
			if err := checkContent(ctx, repo, d); err != nil {
				return nil, err
			}
			m.mu.RLock()
			defer m.mu.RUnlock()
			var names []string
			if r := m.repos[repo]; r != nil {
				for name, info := range r.content {
					if info.Subject == d {
						names = append(names, string(name))
					}
				}
			}
			return names, nil
		})
		for name, err := range names {
			if err != nil {
				yield(ocispec.Descriptor{}, err)
				return
			}
			info, err := m.Stat(ctx, repo, digest.Digest(name))
			if err == nil && !yield(info.Descriptor, nil) {
				return
			}
		}
	}
}
