package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// What a store of one's own refuses with these functions is what Dir and Mem refuse.
func TestOwnStoresRefuseTheSame(t *testing.T) {
	d := digest.FromString("x")
	m := new(store.Mem)
	for _, repo := range []string{"a", "a/b", "", "../a", "a/../b", "_a", "a//b", "A", strings.Repeat("a", 256), "a/"} {
		_, err := m.Stat(t.Context(), repo, d)
		if refused := err != nil && !errors.Is(err, store.ErrNotFound); refused != (store.CheckContent(repo, d) != nil) {
			t.Errorf("repository %q: Mem says %v, CheckContent %v", repo, err, store.CheckContent(repo, d))
		}
	}
	for _, tag := range []string{"v1", "", "-a", "a/b", "..", strings.Repeat("a", 129)} {
		_, err := m.Tag(t.Context(), "a", tag)
		if refused := err != nil && !errors.Is(err, store.ErrNotFound); refused != (store.CheckTag("a", tag) != nil) {
			t.Errorf("tag %q: Mem says %v, CheckTag %v", tag, err, store.CheckTag("a", tag))
		}
	}
	if store.CheckContent("a", "md5:00") == nil || store.CheckInfo("a", store.Info{Descriptor: ocispec.Descriptor{Digest: d}, Source: "a\x00"}) == nil ||
		store.CheckInfo("a", store.Info{Descriptor: ocispec.Descriptor{Digest: d}, Subject: "x"}) == nil {
		t.Error("a digest, a source or a subject that is none is taken")
	}
	if store.CheckRecord("jobs", ".a") == nil || store.CheckRecord("jobs/x", "a") == nil || store.CheckRecord("jobs", "a") != nil {
		t.Error("the keys of records")
	}
}

// A tag replaces an answer to an earlier request, and any answer of another source.
func TestTagReplaces(t *testing.T) {
	at := time.Unix(1000, 0)
	old := store.Tag{Descriptor: ocispec.Descriptor{Digest: digest.FromString("a")}, Source: "s", Asked: at}
	with := func(d, source string, asked time.Time) store.Tag {
		return store.Tag{Descriptor: ocispec.Descriptor{Digest: digest.FromString(d)}, Source: source, Asked: asked}
	}
	for name, c := range map[string]struct {
		tag      store.Tag
		replaces bool
		err      error
	}{
		"later":                          {with("b", "s", at.Add(1)), true, nil},
		"the same, later":                {with("a", "s", at.Add(1)), true, nil},
		"the same":                       {with("a", "s", at), false, nil},
		"another of the same time":       {with("b", "s", at), true, nil},
		"earlier":                        {with("b", "s", at.Add(-1)), false, store.ErrStale},
		"earlier, and of another source": {with("b", "t", at.Add(-1)), true, nil},
	} {
		if replaces, err := c.tag.Replaces(old); replaces != c.replaces || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", name, replaces, err)
		}
	}
}
