package storetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/store"
)

func tagChecks() []Check {
	return []Check{
		{"tags/round trip", "A tag reads back with its descriptor, its source and its time to the nanosecond; for a tag that was not set, the error is ErrNotFound.", law(tagRoundTrip)},
		{"tags/apart", "Tags with one name in different repositories are different, and so are tags that differ only in case.", law(tagsApart)},
		{"tags/stale", "SetTag with an earlier time returns ErrStale and changes nothing; with a later one it moves the tag.", law(tagStale)},
		{"tags/again", "Setting a tag to the value that it has is no error.", law(tagAgain)},
		{"tags/source", "SetTag with another source always replaces the tag.", law(tagSource)},
		{"tags/atomic", "Reading a tag while it moves returns one value as a whole, and the newest value stays.", law(tagAtomic)},
	}
}

// noon returns a time for a tag, with nanoseconds.
func noon(after time.Duration) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC).Add(after)
}

func tag(to string, source string, asked time.Time) store.Tag {
	return store.Tag{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(to), Size: int64(len(to))},
		Source:     source, Asked: asked,
	}
}

func (k *kit) wantTag(repo, name string, want store.Tag) {
	got, err := k.s.Tag(k.ctx, repo, name)
	ok(err, "Tag %s:%s", repo, name)
	if got.Digest != want.Digest || got.Size != want.Size || got.MediaType != want.MediaType || got.Source != want.Source || !got.Asked.Equal(want.Asked) {
		failf("tag %s:%s: got %+v, want %+v", repo, name, got, want)
	}
}

func (k *kit) setTag(repo, name string, t store.Tag) {
	ok(k.s.SetTag(k.ctx, repo, name, t), "SetTag %s:%s", repo, name)
}

func tagRoundTrip(k *kit) {
	_, err := k.s.Tag(k.ctx, "a/b", "v1")
	is(err, store.ErrNotFound, "Tag of a repository that is not there")
	want := tag("one", originA+"/x", noon(0))
	k.setTag("a/b", "v1", want)
	k.wantTag("a/b", "v1", want)
	_, err = k.s.Tag(k.ctx, "a/b", "v2")
	is(err, store.ErrNotFound, "Tag that was not set")
	long := strings.Repeat("Ab", 64)
	k.setTag("a/b", long, want)
	k.wantTag("a/b", long, want)
	now := tag("two", originA+"/x", time.Now()) // with a monotonic reading
	k.setTag("a/b", "now", now)
	k.wantTag("a/b", "now", now)
}

func tagsApart(k *kit) {
	names := []string{"latest", "Latest", "LATEST", "latesT", "latest_1", "_latest"}
	for i, name := range names {
		k.setTag("a", name, tag(fmt.Sprint(i), originA+"/x", noon(0)))
	}
	for i, name := range names {
		k.wantTag("a", name, tag(fmt.Sprint(i), originA+"/x", noon(0)))
		for _, other := range []string{"b", "a/b"} {
			_, err := k.s.Tag(k.ctx, other, name)
			is(err, store.ErrNotFound, "Tag %s of %s", name, other)
		}
	}
}

func tagStale(k *kit) {
	newest := tag("two", originA+"/x", noon(2))
	k.setTag("a", "v1", newest)
	is(k.s.SetTag(k.ctx, "a", "v1", tag("one", originA+"/x", noon(1))), store.ErrStale, "SetTag with an earlier time")
	k.wantTag("a", "v1", newest)
	is(k.s.SetTag(k.ctx, "a", "v1", tag("two", originA+"/x", noon(1))), store.ErrStale, "SetTag with an earlier time and the same digest")
	k.wantTag("a", "v1", newest)
	newer := tag("three", originA+"/x", noon(3))
	k.setTag("a", "v1", newer)
	k.wantTag("a", "v1", newer)
}

func tagAgain(k *kit) {
	t := tag("one", originA+"/x", noon(1))
	for range 3 {
		k.setTag("a", "v1", t)
		k.wantTag("a", "v1", t)
	}
}

func tagSource(k *kit) {
	k.setTag("a", "v1", tag("one", originA+"/x", noon(time.Hour)))
	other := tag("two", originA+"/y", noon(0))
	k.setTag("a", "v1", other)
	k.wantTag("a", "v1", other)
	third := tag("two", originB+"/y", noon(-time.Hour))
	k.setTag("a", "v1", third)
	k.wantTag("a", "v1", third)
}

func tagAtomic(k *kit) {
	const n = 16
	answer := func(i int) store.Tag {
		return tag(strings.Repeat("x", i+1), originA+"/x", noon(time.Duration(i)))
	}
	k.together(n, func(i int) {
		for j := range 4 {
			at := (i + 5*j) % n
			err := k.s.SetTag(k.ctx, "a", "v1", answer(at))
			if err != nil && !errors.Is(err, store.ErrStale) {
				ok(err, "SetTag")
			}
			got, err := k.s.Tag(k.ctx, "a", "v1")
			ok(err, "Tag after SetTag")
			if got.Size < 1 || got.Size > n || got.Digest != answer(int(got.Size-1)).Digest || !got.Asked.Equal(answer(int(got.Size-1)).Asked) {
				failf("a mixture of two values: %+v", got)
			}
			if got.Asked.Before(answer(at).Asked) {
				failf("after SetTag with %v the tag has an earlier time: %v", answer(at).Asked, got.Asked)
			}
		}
	})
	k.wantTag("a", "v1", answer(n-1))
}
