// Package upstream reads from the registries that rules name.
//
// A [Repository] is one upstream repository as one rule sees it. [Client] makes
// them from a [Source] and an authenticator; it speaks the OCI distribution
// protocol over net/http, with oras-go for the token dance. Everything that a
// Repository returns is verified as far as it can be: manifests by digest,
// blobs by length. The digest of a blob is the caller's business, since a blob
// streams.
package upstream

import (
	"context"
	"errors"
	"io"
	"net/url"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
)

// MaxManifestSize is the largest manifest that is accepted, in bytes.
const MaxManifestSize = 4 << 20

// ErrIncomplete reports that an upstream's answer to HEAD lacks the digest, the
// size or the type of the manifest; GET tells.
var ErrIncomplete = errors.New("upstream: the answer to HEAD lacks digest, size or type")

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
	// themselves. A nil a is anonymous.
	Open(s Source, a auth.Authenticator) (Repository, error)
}

// Repository is one upstream repository. Implementations must be safe for
// concurrent use. What goes wrong upstream is an [*Error].
type Repository interface {
	// Resolve asks for the descriptor of a tag or digest without its content
	// (HEAD). [ErrIncomplete] if the answer does not tell.
	Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error)

	// Manifest fetches a manifest by tag or digest (GET). The bytes hash to the
	// descriptor's digest, which is the reference if that is a digest, and are
	// at most [MaxManifestSize] long.
	Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error)

	// Blob opens length bytes of a blob from offset on; length -1 means to the
	// end. What really comes may differ: see [Body]. ctx governs the body too.
	Blob(ctx context.Context, d digest.Digest, offset, length int64) (Body, error)

	// StatBlob asks whether the blob is there for this rule (HEAD). A size of
	// -1 is unknown.
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

// Originator is an optional ability of a [Repository]: where its content comes
// from, as scheme://host. Without it https is assumed.
type Originator interface {
	Origin() string
}

// TagLister is an optional ability of a [Repository].
type TagLister interface {
	// Tags returns one page of tags. The query is passed on as it is: n, last,
	// and whatever a former page's Next held.
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
	// An upstream without the referrers API is asked for the fallback tag of
	// the distribution spec; nothing there is an empty page, not an error.
	Referrers(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error)
}

// ReferrerPage is one page of a referrer list.
type ReferrerPage struct {
	Manifests []ocispec.Descriptor
	// FiltersApplied is what the upstream says that it filtered by.
	FiltersApplied string
	// Next is the query of the next page; nil: this is the last.
	Next url.Values
}
