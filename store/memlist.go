package store

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Delete implements [Deleter]. Bytes go with their last link; who reads them
// goes on.
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

// sorted yields names in the order of their bytes until ctx is done.
func sorted(ctx context.Context, list func() ([]string, error)) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := list()
		if err != nil {
			yield("", err)
			return
		}
		slices.Sort(names)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(name, nil) {
				return
			}
		}
	}
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

// PutRecord implements [Records].
func (m *Mem) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if err := checkRecord(ctx, kind, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, again := m.records[kind][key]
	need := int64(len(data) - len(old))
	if !again {
		need += memEntry
	}
	if err := m.grow(need); err != nil {
		return err
	}
	if m.records == nil {
		m.records = make(map[string]map[string][]byte)
	}
	if m.records[kind] == nil {
		m.records[kind] = make(map[string][]byte)
	}
	m.records[kind][key] = bytes.Clone(data)
	return nil
}

// Record implements [Records].
func (m *Mem) Record(ctx context.Context, kind, key string) ([]byte, error) {
	if err := checkRecord(ctx, kind, key); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	data, ok := m.records[kind][key]
	if !ok {
		return nil, ErrNotFound
	}
	return bytes.Clone(data), nil
}

// DeleteRecord implements [Records].
func (m *Mem) DeleteRecord(ctx context.Context, kind, key string) error {
	if err := checkRecord(ctx, kind, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.records[kind][key]; ok {
		m.used -= memEntry + int64(len(old))
		delete(m.records[kind], key)
		if len(m.records[kind]) == 0 {
			delete(m.records, kind)
		}
	}
	return nil
}

// RecordKeys implements [Records], as of the first step.
func (m *Mem) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := checkRecord(ctx, kind, "key"); err != nil {
			yield("", err)
			return
		}
		m.mu.RLock()
		keys := slices.Collect(maps.Keys(m.records[kind]))
		m.mu.RUnlock()
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}

// checkRecord checks what every call about a record brings.
func checkRecord(ctx context.Context, kind, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkKey(kind); err != nil {
		return err
	}
	return checkKey(key)
}
