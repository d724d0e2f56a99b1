package store

import (
	"context"
	"iter"
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Repositories implements [Lister]. It yields the names there are when the iteration
// begins.
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

// TagNames implements [Lister]. It yields the tags there are when the iteration
// begins.
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
	check := func() error { return checkContent(ctx, repo, d) }
	return descriptors(m.infos(ctx, repo, check, func(info Info) bool { return info.Subject == d }))
}

// Manifests implements [ManifestLister].
func (m *Mem) Manifests(ctx context.Context, repo string) iter.Seq2[Info, error] {
	check := func() error { return checkRepository(repo) }
	return m.infos(ctx, repo, check, Info.IsManifest)
}

// Blobs implements [BlobLister].
func (m *Mem) Blobs(ctx context.Context, repo string) iter.Seq2[Info, error] {
	check := func() error { return checkRepository(repo) }
	return m.infos(ctx, repo, check, func(info Info) bool { return !info.IsManifest() })
}

// infos yields the content of a repository for which keep holds, in the order of the
// digests. It holds their digests, and looks at each again when it is due. An error of
// check is all that it yields.
func (m *Mem) infos(ctx context.Context, repo string, check func() error, keep func(Info) bool) iter.Seq2[Info, error] {
	digests := sorted(ctx, func() ([]string, error) {
		if err := check(); err != nil {
			return nil, err
		}
		m.mu.RLock()
		defer m.mu.RUnlock()
		var digests []string
		if r := m.repos[repo]; r != nil {
			for d, info := range r.content {
				if keep(info) {
					digests = append(digests, string(d))
				}
			}
		}
		return digests, nil
	})
	return func(yield func(Info, error) bool) {
		for d, err := range digests {
			if err != nil {
				yield(Info{}, err)
				return
			}
			m.mu.RLock()
			var info Info
			ok := false
			if r := m.repos[repo]; r != nil {
				info, ok = r.content[digest.Digest(d)]
			}
			m.mu.RUnlock()
			info.Annotations = maps.Clone(info.Annotations)
			if ok && keep(info) && !yield(info, nil) {
				return
			}
		}
	}
}
