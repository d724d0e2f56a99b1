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

// Resolve implements [Repository]. It also returns [ErrIncomplete] if the upstream has no
// HEAD (405, 501), and for a response that is labelled as encoded or is a page for
// people. The error of a schema 1 manifest wraps [ErrSchema1].
func (r *repository) Resolve(ctx context.Context, reference string) (desc ocispec.Descriptor, err error) {
	ctx, o := r.begin(ctx, OpResolve, reference)
	defer o.end(&err)
	want, err := digestOf(reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	op := "HEAD manifest " + reference
	resp, err := r.requests.do(ctx, call{op: op, method: http.MethodHead, path: "manifests/" + reference, header: acceptManifests})
	if e, ok := errors.AsType[*Error](err); ok && (e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented) {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer resp.close()
	t := mediaType(resp.Header)
	if oci.IsSchema1(t) {
		return ocispec.Descriptor{}, r.failures.unusable(op, resp.Response, ErrSchema1)
	}
	got, err := digestHeader(resp.Header, want)
	if err != nil {
		return ocispec.Descriptor{}, r.failures.unusable(op, resp.Response, resp.quoted(err))
	}
	if resp.ContentLength > MaxManifestSize {
		return ocispec.Descriptor{}, r.failures.unusable(op, resp.Response, errTooLarge)
	}
	if got == "" && canBeManifest(t) {
		got = want
	}
	if got == "" || resp.ContentLength <= 0 || !canBeManifest(t) || resp.StatusCode != http.StatusOK || checkEncoding(resp.Header) != nil {
		return ocispec.Descriptor{}, ErrIncomplete
	}
	return ocispec.Descriptor{MediaType: t, Digest: got, Size: resp.ContentLength}, nil
}

// digestHeader returns the digest that a response claims to have, or nothing. If want is
// not empty, a digest that differs from it is refused, unless its algorithm is another
// one: then want is returned.
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
func (r *repository) Manifest(ctx context.Context, reference string) (desc ocispec.Descriptor, body []byte, err error) {
	ctx, o := r.begin(ctx, OpManifest, reference)
	defer o.end(&err)
	return r.manifest(ctx, reference, nil)
}

// ManifestUnless implements [Conditional] by If-None-Match. It sends the digest, which
// most registries use as ETag, and the ETag that the manifest came with if that is
// another.
func (r *repository) ManifestUnless(ctx context.Context, reference string, known digest.Digest) (desc ocispec.Descriptor, body []byte, err error) {
	if err := checkDigest(known); err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("upstream: known manifest %s: %w", shorten(known.String()), err)
	}
	tags := `"` + known.String() + `"`
	if etag, ok := r.etags.Get(etagKey{r.source, known}); ok {
		tags += ", " + etag
	}
	ctx, o := r.begin(ctx, OpManifest, reference)
	defer o.end(&err)
	return r.manifest(ctx, reference, http.Header{"If-None-Match": {tags}})
}

// manifest fetches a manifest. If condition is not nil, its headers are sent too, and a
// 304 is [ErrUnchanged].
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
	resp, err := r.requests.do(ctx, c)
	if err != nil {
		return none, nil, err
	}
	defer resp.close()
	switch {
	case resp.StatusCode == http.StatusNotModified:
		return none, nil, ErrUnchanged
	case resp.StatusCode != http.StatusOK:
		return none, nil, r.failures.unusable(c.op, resp.Response, errPart)
	case oci.IsSchema1(mediaType(resp.Header)):
		return none, nil, r.failures.unusable(c.op, resp.Response, ErrSchema1)
	}
	claimed, err := digestHeader(resp.Header, want)
	if err != nil {
		return none, nil, r.failures.unusable(c.op, resp.Response, resp.quoted(err))
	}
	body, err := r.requests.readBody(c.op, resp, MaxManifestSize)
	if err != nil {
		return none, nil, err
	}
	desc, err := describe(body, resp.Header, want, claimed)
	if err != nil {
		return none, nil, r.failures.unusable(c.op, resp.Response, resp.quoted(err))
	}
	r.rememberETag(desc.Digest, resp.Header)
	return desc, body, nil
}

// etagKey identifies a manifest whose ETag is not its digest.
type etagKey struct {
	source Source
	digest digest.Digest
}

const (
	// maxETags is how many ETags are remembered.
	maxETags = 4096
	// maxETag is the length in bytes of the longest of them.
	maxETag = 256
)

// rememberETag remembers the ETag of a manifest unless it is its digest.
func (r *repository) rememberETag(d digest.Digest, h http.Header) {
	etag := h.Get("ETag")
	if isETag(etag) && etag != `"`+d.String()+`"` {
		r.etags.Put(etagKey{r.source, d}, etag, 1)
	}
}

// isETag reports whether text is an entity tag (RFC 9110 section 8.8.3) that can be sent
// in a list of them.
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
