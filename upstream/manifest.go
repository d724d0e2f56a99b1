package upstream

import (
	"bytes"
	"context"
	_ "crypto/sha512" // manifests may be named by sha512
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrSchema1 reports a manifest of Docker's schema 1, which is not supported:
// its digest does not cover its bytes.
var ErrSchema1 = errors.New("upstream: Docker schema 1 manifests are not supported")

// Docker's names of what OCI took over.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// acceptManifests is sent with every question for a manifest, whatever the
// client accepts: what is stored must not depend on who came first.
// It is one line, since some registries read only the first.
var acceptManifests = http.Header{"Accept": {strings.Join([]string{
	ocispec.MediaTypeImageManifest,
	ocispec.MediaTypeImageIndex,
	dockerManifest,
	dockerIndex,
}, ", ")}}

var tagName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// isManifest reports whether t is one of the types that are asked for.
func isManifest(t string) bool {
	switch t {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerManifest, dockerIndex:
		return true
	}
	return false
}

func isSchema1(t string) bool {
	return t == "application/vnd.docker.distribution.manifest.v1+json" || t == "application/vnd.docker.distribution.manifest.v1+prettyjws"
}

// digestOf returns the digest that a reference is, or nothing if it is a tag.
func digestOf(reference string) (digest.Digest, error) {
	if tagName.MatchString(reference) {
		return "", nil
	}
	d := digest.Digest(reference)
	if err := checkDigest(d); err != nil {
		return "", fmt.Errorf("upstream: %q is neither a tag nor a digest", reference)
	}
	return d, nil
}

// checkDigest accepts what the OCI image spec registers: sha256 and sha512.
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return digest.ErrDigestUnsupported
	}
	return nil
}

// Resolve implements [Repository]. An upstream that has no HEAD (405, 501) gives
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
	if isSchema1(t) {
		return ocispec.Descriptor{}, r.protocol(op, a.Response, ErrSchema1)
	}
	got, err := digestHeader(a.Header, want)
	if err != nil {
		return ocispec.Descriptor{}, r.protocol(op, a.Response, err)
	}
	if a.ContentLength > MaxManifestSize {
		return ocispec.Descriptor{}, r.protocol(op, a.Response, errTooLarge)
	}
	if got == "" {
		got = want
	}
	if got == "" || a.ContentLength <= 0 || !isManifest(t) || a.StatusCode != http.StatusOK {
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
		return "", errors.New("the header Docker-Content-Digest holds no digest that is supported")
	}
	if want == "" || got == want {
		return got, nil
	}
	if got.Algorithm() != want.Algorithm() {
		return want, nil
	}
	return "", fmt.Errorf("the header Docker-Content-Digest says %s", got)
}

// Manifest implements [Repository]. The error of a schema 1 manifest wraps
// [ErrSchema1].
func (r *repository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	want, err := digestOf(reference)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	op := "GET manifest " + reference
	a, err := r.do(ctx, call{op: op, method: http.MethodGet, path: "manifests/" + reference, header: acceptManifests})
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	defer a.close()
	if a.StatusCode != http.StatusOK {
		return ocispec.Descriptor{}, nil, r.protocol(op, a.Response, errors.New("a part of a manifest"))
	}
	if isSchema1(mediaType(a.Header)) {
		return ocispec.Descriptor{}, nil, r.protocol(op, a.Response, ErrSchema1)
	}
	claimed, err := digestHeader(a.Header, want)
	if err != nil {
		return ocispec.Descriptor{}, nil, r.protocol(op, a.Response, err)
	}
	body, err := r.body(op, a, MaxManifestSize)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc, err := describe(body, mediaType(a.Header), want, claimed)
	if err != nil {
		return ocispec.Descriptor{}, nil, r.protocol(op, a.Response, err)
	}
	return desc, body, nil
}

// describe verifies a manifest: its digest is want, or else what the upstream
// claimed, or else sha256 of what came.
func describe(body []byte, contentType string, want, claimed digest.Digest) (ocispec.Descriptor, error) {
	if want == "" {
		want = claimed
	}
	if want == "" {
		want = digest.FromBytes(body)
	}
	if got := want.Algorithm().FromBytes(body); got != want {
		return ocispec.Descriptor{}, fmt.Errorf("the manifest's digest is %s, not %s", got, want)
	}
	t, err := typeOf(body, contentType)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: t, Digest: want, Size: int64(len(body))}, nil
}

// typeOf returns the media type of a manifest. The header and the manifest
// must agree, and an image must not look like an index nor the other way
// round, or two clients would see two contents under one digest
// (CVE-2021-41190). A header that says nothing gives way to the manifest.
func typeOf(body []byte, contentType string) (string, error) {
	var m struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
		Manifests     json.RawMessage `json:"manifests"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return "", errors.New("the manifest is not JSON")
	}
	if m.SchemaVersion == 1 || m.FSLayers != nil || isSchema1(m.MediaType) {
		return "", ErrSchema1
	}
	t := contentType
	switch t {
	case "", "application/json", "application/octet-stream", "text/plain":
		t = m.MediaType
	}
	if !isManifest(t) {
		return "", fmt.Errorf("the type %.100q is not that of a manifest", t)
	}
	if m.MediaType != "" && m.MediaType != t {
		return "", fmt.Errorf("the answer says that it is %s, the manifest that it is %.100q", t, m.MediaType)
	}
	index := t == ocispec.MediaTypeImageIndex || t == dockerIndex
	if index && (present(m.Config) || present(m.Layers)) || !index && present(m.Manifests) {
		return "", errors.New("the manifest is an image and an index at once")
	}
	return t, nil
}

func present(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(raw, []byte("null"))
}
