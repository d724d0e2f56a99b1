package upstream

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Unwrapper is implemented by a [Repository] that adds something to another one, so
// that [As] finds the optional abilities of the inner one. The wrapper decides about
// all that it has a method for: an ability of its own hides that of the inner one, and
// an ability that would take the place of one of its methods is not found below it.
type Unwrapper interface{ Unwrap() Repository }

// As finds an optional ability of r. Abilities that add something are looked for through
// Unwrap, and the outermost Repository that has one wins: [TagLister], [ReferrerLister],
// [Originator], and any type that this package does not know.
//
// An ability that does in another way what a method of Repository does is looked for in
// r alone: [Conditional], which is used in place of Manifest. An inner one would bypass
// the Manifest of the wrapper.
func As[T any](r Repository) (T, bool) {
	for r != nil {
		if t, ok := r.(T); ok {
			return t, true
		}
		u, ok := r.(Unwrapper)
		if !ok || replacesMethod[T]() {
			break
		}
		r = u.Unwrap()
	}
	var none T
	return none, false
}

// replacesMethod reports whether the ability T takes the place of a method of
// [Repository].
func replacesMethod[T any]() bool {
	switch any((*T)(nil)).(type) {
	case *Conditional:
		return true
	}
	return false
}

// Conditional is an optional ability of a [Repository]. It saves the body of a manifest
// if the upstream has no HEAD. Where it is there it is used in place of Manifest, so
// [As] does not find that of a wrapped Repository; a wrapper that wants it implements it.
type Conditional interface {
	// ManifestUnless is like Manifest, but returns [ErrUnchanged] if the upstream says
	// that reference still points to the manifest known.
	ManifestUnless(ctx context.Context, reference string, known digest.Digest) (ocispec.Descriptor, []byte, error)
}

// Originator is an optional ability of a [Repository]. Without it, https is assumed.
type Originator interface {
	// Origin returns where the content comes from, as scheme://host.
	Origin() string
}

// TagLister is an optional ability of a [Repository].
type TagLister interface {
	// Tags returns one page of tags. The query is passed on as it is: n, last, or the
	// Next of a former page. If the upstream does not allow so large an n, Tags tries
	// smaller ones.
	Tags(ctx context.Context, query url.Values) (TagPage, error)
}

// TagPage is one page of a tag list.
type TagPage struct {
	Tags []string
	// Next is the query of the next page. If nil, this page is the last.
	Next url.Values
}

// ReferrerLister is an optional ability of a [Repository].
type ReferrerLister interface {
	// Referrers returns one page of the manifests that refer to the manifest d. The
	// query is passed on as it is: artifactType, or the Next of a former page. A filter
	// that the upstream does not apply should be applied by [ReferrerPage.Filter]. If
	// the upstream lacks the referrers API, the fallback tag of the distribution spec
	// takes its place; if that does not exist, the page is empty, and there is no error.
	Referrers(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error)
}

// ReferrerPage is one page of a referrer list.
type ReferrerPage struct {
	Manifests []ocispec.Descriptor
	// FiltersApplied names what the page was filtered by, separated by commas.
	FiltersApplied string
	// Next is the query of the next page. If nil, this page is the last.
	Next url.Values
}

// Filter returns the page with the manifests of one artifact type alone, and with
// FiltersApplied saying so. If the page was filtered by artifact type already, or the
// type is empty, Filter returns it as it is.
func (p ReferrerPage) Filter(artifactType string) ReferrerPage {
	const filter = "artifactType"
	for name := range strings.SplitSeq(p.FiltersApplied, ",") {
		if strings.TrimSpace(name) == filter {
			return p
		}
	}
	if artifactType == "" {
		return p
	}
	p.Manifests = slices.DeleteFunc(slices.Clone(p.Manifests), func(m ocispec.Descriptor) bool { return m.ArtifactType != artifactType })
	p.FiltersApplied = filter
	return p
}
