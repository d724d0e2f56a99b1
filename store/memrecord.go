package store

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
)

// PutRecord implements [Records].
func (m *Mem) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	if err := checkRecord(ctx, kind, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.putRecord(kind, key, data)
}

// putRecord puts a record. m.mu is held.
func (m *Mem) putRecord(kind, key string, data []byte) error {
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
	m.deleteRecord(kind, key)
	return nil
}

// deleteRecord deletes a record. m.mu is held.
func (m *Mem) deleteRecord(kind, key string) {
	if old, ok := m.records[kind][key]; ok {
		m.used -= memEntry + int64(len(old))
		delete(m.records[kind], key)
		if len(m.records[kind]) == 0 {
			delete(m.records, kind)
		}
	}
}

// RecordKeys implements [Records]. It yields the keys there are when the iteration
// begins.
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
