// Package upstream reads from the registries that rules name.
//
// A [Repository] is one upstream repository as one rule sees it. [Client] makes
// it from a [Source] and an authenticator. The Client speaks the OCI distribution
// protocol over net/http, and oras-go earns its tokens. Everything that a
// Repository returns is verified as far as possible: manifests by digest, blobs
// by length. A blob is a stream, so its digest is left to the caller.
//
// A HEAD saves a GET but decides nothing: content that an upstream refuses or does
// not find by HEAD must be asked for by GET before it counts as denied or missing;
// see [Settles].
//
// A list is never cut short in silence: each page but the last has a Next,
// wherever the upstream says that the next page lies.
//
// A manifest or a blob is right if its bytes have its digest, however the
// upstream labels them.
//
// No upstream can lead a Client deeper inside the network than it lies itself, or
// have it send credentials elsewhere; see [Client].
package upstream

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
)

// MaxManifestSize is the largest manifest that is accepted, in bytes.
const MaxManifestSize = 4 << 20

// ErrIncomplete reports that the response to a HEAD lacks what was asked for, such as
// the digest, the size or the type of a manifest. A GET tells it.
var ErrIncomplete = errors.New("upstream: the answer to HEAD does not tell")

// ErrUnchanged reports that a reference still points to the manifest that the caller of
// [Conditional] knows.
var ErrUnchanged = errors.New("upstream: the manifest is the one that is known")

// Source names what a rule reads. It is comparable, and is the key of every map of what
// was learned from an upstream, so that nothing learned for one rule is used for another.
type Source struct {
	Rule       string // name of the rule
	Host       string // canonical host, with a port if it is not 443
	Repository string // repository at that host
}

// String returns host/repository.
func (s Source) String() string { return s.Host + "/" + s.Repository }

// Opener makes repositories. Implementations must be safe for concurrent use.
type Opener interface {
	// Open returns the repository of s, which is asked with the credential of a. If
	// a is nil, it is asked anonymously. Open does no I/O: its errors are about s and
	// a themselves. While it fails, stored content is served, and requests for other
	// content get a 500.
	Open(s Source, a auth.Authenticator) (Repository, error)
}

// Repository is one upstream repository. Implementations must be safe for
// concurrent use.
//
// A failure of the upstream should be an [*Error], whose Class decides what package
// cache does. [NotFound] and [Denied] are the upstream's decision about the content.
// [Limited] holds the rule's requests back for RetryAfter. After [Unreachable], stored
// content is served and the request is repeated later. [Protocol] is one bad response
// that says nothing about the next. Any other error is a failure of the implementation:
// stored content is served, and requests for other content get a 500.
//
// A Repository may have optional abilities, which [As] finds:
//
//	Without this ability   you lose
//	TagLister              tag lists: clients that ask for one get a 405
//	ReferrerLister         lists of referrers, and their copies beside the image
//	Originator             the scheme: all content counts as fetched over https
//	Conditional            the saved bodies: where HEAD tells nothing, each check of
//	                       a tag fetches its manifest again
//
// A Repository that wraps another one should be an [Unwrapper]: otherwise it has only
// the abilities that it implements itself.
type Repository interface {
	// Resolve returns the descriptor of a tag or digest without its content (HEAD). It
	// returns [ErrIncomplete] if the response does not tell. What the upstream refuses
	// to Resolve it may serve to Manifest; see [Settles].
	Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error)

	// Manifest fetches a manifest by tag or digest (GET). The bytes hash to the
	// descriptor's digest, which is the reference if that is a digest, and are
	// at most [MaxManifestSize] long.
	Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error)

	// Blob opens length bytes of a blob from offset on (GET). If length is -1, it opens
	// the blob to its end. What the upstream sends may differ; see [Body]. The Body can
	// be read only until ctx is done.
	Blob(ctx context.Context, d digest.Digest, offset, length int64) (Body, error)

	// StatBlob finds out whether the upstream has a blob for this rule (HEAD). The size
	// is -1 if it is unknown. It returns [ErrIncomplete] if the response does not tell.
	// What the upstream refuses to StatBlob it may serve to Blob; see [Settles]. It must
	// follow no redirect if ctx is one of [WithoutRedirects].
	StatBlob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error)
}

// Body is what an upstream sends of a blob, which need not be what was asked for: an
// upstream that ignores Range sends everything from offset 0. A body that ends before
// Length bytes fails with [io.ErrUnexpectedEOF].
type Body struct {
	io.ReadCloser
	Offset int64 // of the first byte in the blob
	Length int64 // of the body in bytes, or -1 if it is unknown
	Size   int64 // of the whole blob in bytes, or -1 if it is unknown
	// Via says that another cache sends the body, such as a replica, and which one. Its
	// bytes are not the upstream's and do not count as such, and no further connections
	// are opened to have them sooner. If empty, the upstream sends it.
	Via string
}
