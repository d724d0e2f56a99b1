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
	m.unlink(repo, d)
	return nil
}

// unlink takes content away from a repository. m.mu is held.
func (m *Mem) unlink(repo string, d digest.Digest) {
	r := m.repos[repo]
	if r == nil {
		return
	}
	info, ok := r.content[d]
	if !ok {
		return
	}
	delete(r.content, d)
	b := m.blobs[d]
	r.size -= b.data.size
	m.prune(repo)
	m.used -= memCost(repo, info.Descriptor, info.Source, string(info.Subject))
	if b.drop(info.Origin()); len(b.origins) == 0 {
		delete(m.blobs, d)
		m.used -= b.data.paid
	}
}

// DeleteTag implements [Deleter].
func (m *Mem) DeleteTag(ctx context.Context, repo, tag string) error {
	if err := checkTagged(ctx, repo, tag); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.removeTag(repo, tag, "")
	return nil
}

// removeTag removes a tag if it points to d, or d is empty. m.mu is held.
func (m *Mem) removeTag(repo, tag string, d digest.Digest) {
	r := m.repos[repo]
	if r == nil {
		return
	}
	if t, ok := r.tags[tag]; ok && (d == "" || t.Digest == d) {
		delete(r.tags, tag)
		m.prune(repo)
		m.used -= memCost(repo, t.Descriptor, t.Source, tag)
	}
}
