package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

// digestOf returns the digest that a reference is, or nothing if it is a tag.
func digestOf(reference string) (digest.Digest, error) {
	if ociname.ValidTag(reference) {
		return "", nil
	}
	d := digest.Digest(reference)
	if err := checkDigest(d); err != nil {
		return "", fmt.Errorf("upstream: %s is neither a tag nor a digest", shorten(reference))
	}
	return d, nil
}

// checkDigest accepts what the OCI image spec registers: sha256 and sha512.
func checkDigest(d digest.Digest) error {
	if ociname.ValidDigest(string(d)) {
		return nil
	}
	if err := d.Validate(); err != nil {
		return err // go-digest says what is wrong
	}
	return digest.ErrDigestUnsupported
}

// Resolve implements [Repository]. An upstream that has no HEAD (405, 501), an
// answer that is labelled as encoded, and one that is a page for people, are
// [ErrIncomplete] too. The error of a schema 1 manifest wraps [ErrSchema1].
func (r *repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	want, err := digestOf(reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	op := "HEAD manifest " + reference
	a, err := r.do(ctx, call{op: op, method: http.MethodHead, path: "manifests/" + reference, header: acceptManifests})
	if e, ok := errors.AsType[*Error](err); ok && (e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented) {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer a.close()
	t := mediaType(a.Header)
	if oci.IsSchema1(t) {
		return ocispec.Descriptor{}, r.protocol(op, a.Response, ErrSchema1)
	}
	got, err := digestHeader(a.Header, want)
	if err != nil {
		return ocispec.Descriptor{}, r.protocol(op, a.Response, a.worded(err))
	}
	if a.ContentLength > MaxManifestSize {
		return ocispec.Descriptor{}, r.protocol(op, a.Response, errTooLarge)
	}
	if got == "" && canBeManifest(t) {
		got = want
	}
	if got == "" || a.ContentLength <= 0 || !canBeManifest(t) || a.StatusCode != http.StatusOK || identity(a.Header) != nil {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	return ocispec.Descriptor{MediaType: t, Digest: got, Size: a.ContentLength}, nil
}

// digestHeader returns the digest that the answer claims, if it does. One that
// differs from want is refused, unless it is of another algorithm.
func digestHeader(h http.Header, want digest.Digest) (digest.Digest, error) {
	text := h.Get("Docker-Content-Digest")
	if text == "" {
		return "", nil
	}
	got := digest.Digest(text)
	if err := checkDigest(got); err != nil {
		return "", unusable{"the header Docker-Content-Digest holds no digest that is supported", "the header Docker-Content-Digest holds no digest that is supported"}
	}
	if want == "" || got == want {
		return got, nil
	}
	if got.Algorithm() != want.Algorithm() {
		return want, nil
	}
	return "", &quoting{"the header Docker-Content-Digest says %s", []string{text}, "the header Docker-Content-Digest names another digest than was asked for"}
}

// Manifest implements [Repository]. The error of a schema 1 manifest wraps
// [ErrSchema1].
func (r *repository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	return r.manifest(ctx, reference, nil)
}

// ManifestUnless implements [Conditional] by If-None-Match: with the digest, which
// is the ETag of most registries, and with the ETag that came with the manifest
// if it was another.
func (r *repository) ManifestUnless(ctx context.Context, reference string, known digest.Digest) (ocispec.Descriptor, []byte, error) {
	if err := checkDigest(known); err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("upstream: known manifest %s: %w", shorten(known.String()), err)
	}
	tags := `"` + known.String() + `"`
	if etag, ok := r.engine.etags.Get(etagKey{r.source, known}); ok {
		tags += ", " + etag
	}
	return r.manifest(ctx, reference, http.Header{"If-None-Match": {tags}})
}

// manifest fetches a manifest, on a condition that may be nil.
func (r *repository) manifest(ctx context.Context, reference string, condition http.Header) (ocispec.Descriptor, []byte, error) {
	none := ocispec.Descriptor{}
	want, err := digestOf(reference)
	if err != nil {
		return none, nil, err
	}
	c := call{op: "GET manifest " + reference, method: http.MethodGet, path: "manifests/" + reference, header: http.Header{}, conditional: condition != nil}
	for _, h := range []http.Header{acceptManifests, condition} {
		for k, v := range h {
			c.header[k] = v
		}
	}
	a, err := r.do(ctx, c)
	if err != nil {
		return none, nil, err
	}
	defer a.close()
	switch {
	case a.StatusCode == http.StatusNotModified:
		return none, nil, ErrUnchanged
	case a.StatusCode != http.StatusOK:
		return none, nil, r.protocol(c.op, a.Response, errPart)
	case oci.IsSchema1(mediaType(a.Header)):
		return none, nil, r.protocol(c.op, a.Response, ErrSchema1)
	}
	claimed, err := digestHeader(a.Header, want)
	if err != nil {
		return none, nil, r.protocol(c.op, a.Response, a.worded(err))
	}
	body, err := r.body(c.op, a, MaxManifestSize)
	if err != nil {
		return none, nil, err
	}
	desc, err := describe(body, a.Header, want, claimed)
	if err != nil {
		return none, nil, r.protocol(c.op, a.Response, a.worded(err))
	}
	r.rememberETag(desc.Digest, a.Header)
	return desc, body, nil
}

// etagKey is a manifest whose ETag is not its digest.
type etagKey struct {
	source Source
	digest digest.Digest
}

const (
	// maxETags is how many ETags are remembered.
	maxETags = 4096
	// maxETag is the length of the longest of them.
	maxETag = 256
)

// rememberETag keeps the ETag of a manifest if it is another than its digest.
func (r *repository) rememberETag(d digest.Digest, h http.Header) {
	etag := h.Get("ETag")
	if isETag(etag) && etag != `"`+d.String()+`"` {
		r.engine.etags.Put(etagKey{r.source, d}, etag, 1)
	}
}

// isETag reports whether text is an entity tag (RFC 9110 section 8.8.3) that can
// stand in a list.
func isETag(text string) bool {
	opaque := text
	if len(text) > 2 && text[:2] == "W/" {
		opaque = text[2:]
	}
	if len(text) > maxETag || len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
		return false
	}
	for i := 1; i < len(opaque)-1; i++ {
		if c := opaque[i]; c < '!' || c > '~' || c == '"' {
			return false
		}
	}
	return true
}

var errPart = errors.New("a part, though the whole was asked for")
