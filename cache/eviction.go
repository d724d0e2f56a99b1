package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/store"
)

// Eviction says what a [Cache] gives up so that its store does not grow for ever. The
// zero value gives up nothing; one field is enough to switch it on:
//
//	c := &cache.Cache{Rules: rules, Store: dir, Eviction: cache.Eviction{MaxBytes: 100 << 30}}
//
// What goes are whole images: a manifest with the tags that point to it and with those
// blobs that no other image of its repository names. An index goes with the last of its
// images, and what refers to an image, such as its signature, goes with it. The next pull
// fetches again what has gone.
//
// Images that were pulled again since they were stored stay longer than those that were
// pulled once, and images that are pulled often longer than those that are pulled rarely.
// So a program that pulls ten thousand tags once pushes out what it has pulled itself, and
// not what others use every day. What is being copied stays, and so does what no rule
// covers, since it could not be fetched again.
//
// A store that has copies in a near store, such as [store.Tier], is freed near, of what it
// has elsewhere too: that comes back from there and not from the upstream. All limits are
// those of the near store.
//
// The store needs the abilities [store.ManifestLister], [store.Lister], [store.Deleter]
// and, for MaxBytes and MinFree, [store.Sizer]. [store.UseRecorder] tells what is used;
// without it the images that were stored first go first.
type Eviction struct {
	// MaxBytes is the most bytes of content that the store may have, where what several
	// images share counts once. Eviction begins a little before, at 31/32 of it, and ends
	// at 29/32, since it looks at every image. While there is more nevertheless, because all that is left must stay, blobs
	// are passed on to clients and not stored. If zero, there is no limit.
	MaxBytes int64
	// MinFree is how many bytes the store must have free, as [store.Size] says. For a
	// store.Dir that is beyond its own Dir.MinFree, at which it takes nothing more. If
	// zero, there is no limit.
	MinFree int64
	// MaxAge is how long an image may stay without being pulled. If zero, it may stay for
	// ever.
	MaxAge time.Duration
	// Rules are the most bytes that the images of a rule may take, by the name of the
	// rule. Eviction begins at the limit and ends at 31/32 of it.
	Rules map[string]int64
	// Keep are patterns of what is never given up: "REPOSITORY" for all images of local
	// repositories, "REPOSITORY:TAG" for those that tags point to. A * stands for any
	// characters, so that "base/*" is everything below base, and "*:v1" every tag v1.
	Keep []string
	// Every is how often the store is looked at when nothing is stored. If zero, it is 1
	// minute. After something was stored it is looked at soon.
	Every time.Duration
}

// on reports whether anything is ever given up.
func (v Eviction) on() bool {
	return v.MaxBytes > 0 || v.MinFree > 0 || v.MaxAge > 0 || len(v.Rules) > 0
}

// Check returns an error that says which pattern of Keep cannot be used, or nil.
func (v Eviction) Check() error {
	for _, p := range v.Keep {
		repo, tag, tagged := strings.Cut(p, ":")
		if repo == "" || tagged && tag == "" || strings.ContainsAny(p, "@ ") || strings.Contains(tag, ":") {
			return fmt.Errorf("cache: %q is no pattern of images to keep: REPOSITORY or REPOSITORY:TAG is expected, with * for any characters", p)
		}
	}
	return nil
}

// keeps reports whether Keep has a pattern for a tag, or without a tag for all of a
// repository.
func (v Eviction) keeps(repository, tag string) bool {
	for _, p := range v.Keep {
		repo, tagPattern, tagged := strings.Cut(p, ":")
		if tagged == (tag != "") && wildcard(repo, repository) && wildcard(tagPattern, tag) {
			return true
		}
	}
	return false
}

// keepsTags reports whether Keep has a pattern for tags of a repository.
func (v Eviction) keepsTags(repository string) bool {
	for _, p := range v.Keep {
		if repo, _, tagged := strings.Cut(p, ":"); tagged && wildcard(repo, repository) {
			return true
		}
	}
	return false
}

// wildcard matches a name with a pattern in which * stands for any characters.
func wildcard(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	for ok {
		var part string
		if part, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(name, part)
		}
		var at int
		if at = strings.Index(name, part); at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return false
}

// Evicted is what was given up.
type Evicted struct {
	Images int   // manifests
	Bytes  int64 // of content that nothing names any more
	// Unmet says which limits could not be met, in words: all that is left must stay. It
	// is nil if they are met.
	Unmet []string
}

// Evict gives up now what the limits of Eviction ask for, and returns what that was. A
// Cache with an Eviction does so by itself. An error of the store ends it; what was given
// up until then has gone. A store that cannot list or delete is an error that wraps
// [errors.ErrUnsupported].
func (c *Cache) Evict(ctx context.Context) (Evicted, error) {
	e := c.engine()
	gone, err := e.evictor.pass(ctx)
	if err != nil {
		return gone, fmt.Errorf("cache: evict: %w", err)
	}
	return gone, nil
}

// Sizes is how much is stored.
type Sizes struct {
	Store store.Size
	// Rules and Repositories are the bytes of the images of each rule and of each
	// repository. What several images share counts once in each sum. Images that no rule
	// covers belong to the rule "".
	Rules, Repositories map[string]int64
}

// Sizes looks at everything that is stored and returns how much it is. That takes some
// tens of microseconds for each image. A store that cannot tell is an error that wraps
// [errors.ErrUnsupported].
func (c *Cache) Sizes(ctx context.Context) (Sizes, error) {
	e := c.engine()
	sizer, ok := store.As[store.Sizer](e.local.near)
	if !ok {
		return Sizes{}, fmt.Errorf("cache: sizes: the store does not know its size: %w", errors.ErrUnsupported)
	}
	size, err := sizer.Size(ctx)
	if err != nil {
		return Sizes{}, fmt.Errorf("cache: sizes: %w", err)
	}
	scan, err := e.evictor.scan(ctx)
	if err != nil {
		return Sizes{}, fmt.Errorf("cache: sizes: %w", err)
	}
	s := scan.graph.Sizes()
	return Sizes{Store: size, Rules: s.Rules, Repositories: s.Repositories}, nil
}
