// Package upstream reads from the registries that rules name.
//
// A [Repository] is one upstream repository as one rule sees it. [Client] makes
// them from a [Source] and an authenticator; it speaks the OCI distribution
// protocol over net/http, with oras-go for the token dance. Everything that a
// Repository returns is verified as far as it can be: manifests by digest,
// blobs by length. The digest of a blob is the caller's business, since a blob
// streams.
//
// A HEAD is a saving, never a verdict: what an upstream refuses or does not find
// by HEAD must be asked for by GET before it counts as denied or missing; see
// [Settles].
//
// A list is whole, or it says that it is not: a page that is not the last one has
// a Next, wherever the upstream says that the next page lies.
//
// What the upstream holds is passed on: a manifest or a blob is right if its
// bytes have its digest, whatever else the upstream writes on them.
//
// A rule without a credential has nothing to lose: it takes an anonymous token
// from any token server that the rules for addresses allow; see [Client].
package upstream

import (
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
)

// MaxManifestSize is the largest manifest that is accepted, in bytes.
const MaxManifestSize = 4 << 20

// ErrIncomplete reports that an upstream's answer to HEAD does not tell what was
// asked for, such as the digest, the size or the type of a manifest; GET tells.
var ErrIncomplete = errors.New("upstream: the answer to HEAD does not tell")

// ErrUnchanged reports that a reference still stands for the manifest that the
// caller of [Conditional] knows.
var ErrUnchanged = errors.New("upstream: the manifest is the one that is known")

// Source names what a rule reads. It is comparable and is the key of every map
// that holds something learned from an upstream: nothing learned for one rule
// is used for another.
type Source struct {
	Rule       string // name of the rule
	Host       string // canonical host, with a port if it is not 443
	Repository string // repository at that host
}

// String returns host/repository.
func (s Source) String() string { return s.Host + "/" + s.Repository }

// Opener makes repositories. Implementations must be safe for concurrent use.
type Opener interface {
	// Open returns the repository. It does no I/O; errors are about s and a
	// themselves, and clients get 500 until it succeeds; stored content is
	// served. A nil a is anonymous.
	Open(s Source, a auth.Authenticator) (Repository, error)
}

// Repository is one upstream repository. Implementations must be safe for
// concurrent use.
//
// What goes wrong upstream should be an [*Error], whose Class decides what package
// cache does: [NotFound] and [Denied] are the upstream's word about the content,
// [Limited] holds the rule's requests back for RetryAfter, [Unreachable] has
// stored content served and the question repeated later, [Protocol] is one bad
// answer that says nothing about the next. Any other error is a failure of the
// implementation: clients get 500, and stored content is served.
//
// A Repository that wraps another one should have a method Unwrap() Repository,
// so that [As] finds the optional abilities of the inner one.
type Repository interface {
	// Resolve asks for the descriptor of a tag or digest without its content
	// (HEAD). [ErrIncomplete] if the answer does not tell. What the upstream
	// refuses here it may serve to Manifest: see [Settles].
	Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error)

	// Manifest fetches a manifest by tag or digest (GET). The bytes hash to the
	// descriptor's digest, which is the reference if that is a digest, and are
	// at most [MaxManifestSize] long.
	Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error)

	// Blob opens length bytes of a blob from offset on; length -1 means to the
	// end. What really comes may differ: see [Body]. ctx governs the body too.
	Blob(ctx context.Context, d digest.Digest, offset, length int64) (Body, error)

	// StatBlob asks whether the blob is there for this rule (HEAD). A size of -1
	// is unknown. [ErrIncomplete] if the answer does not tell. What the upstream
	// refuses here it may serve to Blob: see [Settles]. It must follow no redirect
	// where ctx is of [WithoutRedirects].
	StatBlob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error)
}

// Body is what an upstream really sends for a blob, which need not be what it
// was asked for: one that ignores Range sends everything from offset 0. A read
// that ends before Length fails with [io.ErrUnexpectedEOF].
type Body struct {
	io.ReadCloser
	Offset int64 // of the first byte in the blob
	Length int64 // bytes that follow; -1: unknown
	Size   int64 // of the whole blob; -1: unknown
}

// Unwrapper is implemented by a [Repository] that adds something to another one.
type Unwrapper interface{ Unwrap() Repository }

// As finds an optional ability of r, looking through Unwrap.
func As[T any](r Repository) (T, bool) {
	for r != nil {
		if t, ok := r.(T); ok {
			return t, true
		}
		u, ok := r.(Unwrapper)
		if !ok {
			break
		}
		r = u.Unwrap()
	}
	var none T
	return none, false
}

// Conditional is an optional ability of a [Repository]. It saves the body of a
// manifest where the upstream does not answer HEAD.
type Conditional interface {
	// ManifestUnless is Manifest, but [ErrUnchanged] if the upstream says that
	// reference still stands for the manifest known.
	ManifestUnless(ctx context.Context, reference string, known digest.Digest) (ocispec.Descriptor, []byte, error)
}

// Originator is an optional ability of a [Repository]: where its content comes
// from, as scheme://host. Without it https is assumed.
type Originator interface {
	Origin() string
}

// TagLister is an optional ability of a [Repository].
type TagLister interface {
	// Tags returns one page of tags. The query is passed on as it is: n, last,
	// and whatever a former page's Next held. An upstream that does not allow so
	// large an n is asked again with a smaller one.
	Tags(ctx context.Context, query url.Values) (TagPage, error)
}

// TagPage is one page of a tag list.
type TagPage struct {
	Tags []string
	// Next is the query of the next page; nil: this is the last.
	Next url.Values
}

// ReferrerLister is an optional ability of a [Repository].
type ReferrerLister interface {
	// Referrers returns one page of what refers to the manifest d. The query is
	// passed on as it is: artifactType, and whatever a former page's Next held.
	// A filter that the upstream does not apply should be applied by
	// [ReferrerPage.Filter]. An upstream without the referrers API is asked for
	// the fallback tag of the distribution spec; nothing there is an empty page,
	// not an error.
	Referrers(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error)
}

// ReferrerPage is one page of a referrer list.
type ReferrerPage struct {
	Manifests []ocispec.Descriptor
	// FiltersApplied names what the page was filtered by, separated by commas.
	FiltersApplied string
	// Next is the query of the next page; nil: this is the last.
	Next url.Values
}

// Filter leaves of a page what has that artifact type, and says so, unless the
// page says already that it is filtered so. An empty type leaves everything.
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
