package objectstore

import (
	"context"
	"crypto/rand"
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
	// By is a word of the call that wrote it, which so knows its own hand.
	By string `json:"by,omitempty"`
}

// parseTag returns what a tag says and the word of who wrote it. ok is false if it cannot be
// a tag.
func parseTag(data []byte) (t store.Tag, by string, ok bool) {
	var r tagRecord
	if json.Unmarshal(data, &r) != nil {
		return store.Tag{}, "", false
	}
	t = store.Tag{Descriptor: r.Descriptor, Source: r.Source, Asked: r.Asked}.Stored()
	return t, r.By, store.CheckTagValue(t) == nil
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
	t, _, ok := parseTag(data)
	if !ok {
		return store.Tag{}, s.damaged(key)
	}
	return t, nil
}

// SetTag implements [store.Tags].
func (s *Store) SetTag(ctx context.Context, repo, tag string, t store.Tag) error {
	_, err := s.MoveTag(ctx, repo, tag, t)
	return err
}

// MoveTag implements [store.Mover]: it compares and swaps until nobody is faster.
func (s *Store) MoveTag(ctx context.Context, repo, tag string, t store.Tag) (former store.Tag, err error) {
	if err := ctx.Err(); err != nil {
		return store.Tag{}, err
	}
	if err := store.CheckTag(repo, tag); err != nil {
		return store.Tag{}, err
	}
	if err := store.CheckTagValue(t); err != nil {
		return store.Tag{}, err
	}
	m := tagMove{s: s, tag: t.Stored(), by: rand.Text()}
	if m.key, err = s.tagKey(repo, tag); err != nil {
		return store.Tag{}, err
	}
	data, err := json.Marshal(tagRecord{m.tag.Descriptor, m.tag.Source, m.tag.Asked, m.by})
	if err != nil {
		return store.Tag{}, err
	}
	for n := range contests {
		cond, stays, err := m.look(ctx)
		if stays || err != nil {
			return m.former, err
		}
		err = s.bucket.Put(ctx, m.key, data, cond)
		if !errors.Is(err, ErrChanged) {
			return m.former, err
		}
		if err := sleep(ctx, min(n, 1)); err != nil {
			return store.Tag{}, err
		}
	}
	return store.Tag{}, fmt.Errorf("%s/%s: moved by others %d times meanwhile: %w", s.bucket, m.key, contests, ErrChanged)
}

// tagMove is a tag while it is moved.
type tagMove struct {
	s      *Store
	key    string
	tag    store.Tag
	by     string
	former store.Tag // what was there at the last look
}

// look looks at the stored tag: either it stays, with the error of MoveTag, or the new one is
// to be written on a condition. If it is there by this very call, whose answer was lost, what
// was there at the look before is the former one.
func (m *tagMove) look(ctx context.Context) (cond Condition, stays bool, err error) {
	data, cond, err := m.s.read(ctx, m.key)
	if errors.Is(err, store.ErrNotFound) {
		m.former = store.Tag{}
		return IfAbsent, false, nil
	}
	if err != nil {
		return "", false, err
	}
	old, by, ok := parseTag(data)
	switch {
	case ok && by == m.by:
		return "", true, nil
	case !ok: // damaged, so it is replaced
		m.former = store.Tag{}
		return cond, false, nil
	}
	m.former = old
	replaces, err := m.tag.Replaces(old)
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
