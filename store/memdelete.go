package store

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// Delete implements [Deleter]. The bytes are freed with their last link; a reader
// that is open already can still read them.
func (m *Mem) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if err := checkContent(ctx, repo, d); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repos[repo]
	if r == nil {
		return nil
	}
	info, ok := r.content[d]
	if !ok {
		return nil
	}
	delete(r.content, d)
	m.prune(repo)
	m.used -= memCost(repo, info.Descriptor, info.Source, string(info.Subject))
	b := m.blobs[d]
	if b.drop(info.Origin()); len(b.origins) == 0 {
		delete(m.blobs, d)
		m.used -= b.data.paid
	}
	return nil
}

// DeleteTag implements [Deleter].
func (m *Mem) DeleteTag(ctx context.Context, repo, tag string) error {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.repos[repo]; r != nil {
		if t, ok := r.tags[tag]; ok {
			delete(r.tags, tag)
			m.prune(repo)
			m.used -= memCost(repo, t.Descriptor, t.Source, tag)
		}
	}
	return nil
}
