package objectstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// contests is how often SetTag begins anew: each time somebody else has moved the tag.
const contests = 100

// tagRecord is a [store.Tag] as JSON.
type tagRecord struct {
	ocispec.Descriptor
	Source string    `json:"source"`
	Asked  time.Time `json:"asked"`
}

// parseTag returns what a tag says. ok is false if it cannot be one.
func parseTag(data []byte) (t store.Tag, ok bool) {
	var r tagRecord
	if json.Unmarshal(data, &r) != nil {
		return store.Tag{}, false
	}
	t = store.Tag(r).Stored()
	return t, store.CheckTagValue(t) == nil
}

// Tag implements [store.Tags].
func (s *Store) Tag(ctx context.Context, repo, tag string) (store.Tag, error) {
	if err := ctx.Err(); err != nil {
		return store.Tag{}, err
	}
	if err := store.CheckTag(repo, tag); err != nil {
		return store.Tag{}, err
	}
	key, err := s.tagKey(repo, tag)
	if err != nil {
		return store.Tag{}, err
	}
	data, _, err := s.read(ctx, key)
	if err != nil {
		return store.Tag{}, err
	}
	t, ok := parseTag(data)
	if !ok {
		return store.Tag{}, s.damaged(key)
	}
	return t, nil
}

// SetTag implements [store.Tags]: it compares and swaps until nobody is faster.
func (s *Store) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.CheckTag(repo, tag); err != nil {
		return err
	}
	if err := store.CheckTagValue(t); err != nil {
		return err
	}
	key, err := s.tagKey(repo, tag)
	if err != nil {
		return err
	}
	t = t.Stored()
	data, err := json.Marshal(tagRecord(t))
	if err != nil {
		return err
	}
	for n := range contests {
		cond, stays, err := s.contest(ctx, key, t)
		if stays || err != nil {
			return err
		}
		err = s.bucket.Put(ctx, key, data, cond)
		if !errors.Is(err, ErrChanged) {
			return err
		}
		if err := sleep(ctx, min(n, 1)); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s/%s: moved by others %d times meanwhile: %w", s.bucket, key, contests, ErrChanged)
}

// contest looks at the stored tag: either it stays, with the error of SetTag, or t is to be
// written on a condition.
func (s *Store) contest(ctx context.Context, key string, t store.Tag) (cond Condition, stays bool, err error) {
	data, cond, err := s.read(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return IfAbsent, false, nil
	}
	if err != nil {
		return "", false, err
	}
	old, ok := parseTag(data)
	if !ok {
		return cond, false, nil // damaged, so it is replaced
	}
	replaces, err := t.Replaces(old)
	return cond, !replaces, err
}

// DeleteTag implements [store.Deleter].
func (s *Store) DeleteTag(ctx context.Context, repo, tag string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store.CheckTag(repo, tag); err != nil {
		return err
	}
	key, err := s.tagKey(repo, tag)
	if err != nil {
		return err
	}
	return s.bucket.Delete(ctx, key)
}
