package objectstore

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/pullthrough/pullthrough/store"
)

// errNoReplica reports records of a store that does not know whose they are.
var errNoReplica = errors.New("objectstore: records need the name of the replica, since replicas must not share them")

func (s *Store) recordKey(ctx context.Context, kind, key string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := store.CheckRecord(kind, key); err != nil {
		return "", err
	}
	if s.replica == "" {
		return "", errNoReplica
	}
	return s.key("records", s.replica, kind, key)
}

// PutRecord implements [store.Records].
func (s *Store) PutRecord(ctx context.Context, kind, key string, data []byte) error {
	k, err := s.recordKey(ctx, kind, key)
	if err != nil {
		return err
	}
	return s.bucket.Put(ctx, k, data, Always)
}

// Record implements [store.Records].
func (s *Store) Record(ctx context.Context, kind, key string) ([]byte, error) {
	k, err := s.recordKey(ctx, kind, key)
	if err != nil {
		return nil, err
	}
	data, _, err := s.read(ctx, k)
	return data, err
}

// DeleteRecord implements [store.Records].
func (s *Store) DeleteRecord(ctx context.Context, kind, key string) error {
	k, err := s.recordKey(ctx, kind, key)
	if err != nil {
		return err
	}
	return s.bucket.Delete(ctx, k)
}

// RecordKeys implements [store.Records].
func (s *Store) RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		first, err := s.recordKey(ctx, kind, "key")
		if err != nil {
			yield("", err)
			return
		}
		valid := func(key string) bool { return store.CheckRecord(kind, key) == nil }
		for key, err := range s.names(ctx, strings.TrimSuffix(first, "key"), "", "", valid) {
			if !yield(key, err) {
				return
			}
		}
	}
}
