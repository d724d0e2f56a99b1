package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
)

// ErrSchema1 reports a manifest of Docker's schema 1, which is not supported:
// its digest does not cover its bytes.
var ErrSchema1 = errors.New("upstream: Docker schema 1 manifests are not supported")

// acceptManifests is sent with every request for a manifest, whatever the client
// accepts, since what is stored must not depend on which client came first. It also
// accepts every other type, since registries hold manifests that this package does
// not know. It is one header line, since some registries read only the first.
var acceptManifests = http.Header{"Accept": {strings.Join(oci.ManifestTypes(), ", ") + ", */*"}}

// maxMediaType is the length in bytes of the longest media type that is passed on.
const maxMediaType = 255

// mediaType returns the media type of a Content-Type without its parameters.
func mediaType(h http.Header) string {
	value := h.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(value); err == nil || errors.Is(err, mime.ErrInvalidMediaParameter) {
		return t
	}
	t, _, _ := strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// checkEncoding refuses a response whose label says that its body is not the content
// itself. The label on content with a digest does not matter if the bytes match.
func checkEncoding(h http.Header) error {
	for _, v := range h.Values("Content-Encoding") {
		if v = strings.TrimSpace(v); v != "" && !strings.EqualFold(v, "identity") {
			return unusable{"the answer is encoded, though identity was asked for", "the answer is encoded, though identity was asked for"}
		}
	}
	return nil
}

// isVague reports whether a media type tells nothing, since servers label everything
// with it.
func isVague(t string) bool {
	switch t {
	case "", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain":
		return true
	}
	return false
}

// isPage reports whether t is the media type of a page for people, such as the sign-on
// page of a proxy that responds to everything with 200.
func isPage(t string) bool { return t == "text/html" || t == "application/xhtml+xml" }

// canBeManifest reports whether t may be the media type of a manifest: a known one, or
// another specific type below application/.
func canBeManifest(t string) bool {
	if oci.IsManifest(t) {
		return true
	}
	parsed, _, err := mime.ParseMediaType(t)
	kind, _, _ := strings.Cut(parsed, "/")
	return err == nil && parsed == t && len(t) <= maxMediaType && !isVague(t) && kind == "application" && !isPage(t) && !oci.IsSchema1(t)
}

// describe verifies a manifest and returns its descriptor. Its digest must be want. If
// that is empty, it must be the digest that the upstream claimed; if that is empty too,
// the digest is the sha256 of the body.
func describe(body []byte, h http.Header, want, claimed digest.Digest) (ocispec.Descriptor, error) {
	if want == "" {
		want = claimed
	}
	named := want != ""
	if !named {
		want = digest.FromBytes(body)
	}
	if got := want.Algorithm().FromBytes(body); got != want {
		if err := checkEncoding(h); err != nil {
			return ocispec.Descriptor{}, err
		}
		return ocispec.Descriptor{}, &quoting{"the manifest's digest is " + got.String() + ", not %s", []string{want.String()}, "the manifest does not match its digest"}
	}
	t, err := typeOf(body, mediaType(h), named)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: t, Digest: want, Size: int64(len(body))}, nil
}

// manifestShape holds the fields by which kinds of manifests are told apart.
type manifestShape struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Config        json.RawMessage `json:"config"`
	Layers        json.RawMessage `json:"layers"`
	Manifests     json.RawMessage `json:"manifests"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// typeOf returns the media type of a manifest. Header and manifest must agree, and an
// image must not look like an index nor the other way round, or two clients would see
// different content under one digest (CVE-2021-41190). A vague type in the header is
// replaced by the one in the manifest; if the manifest has none, its shape decides. An
// unknown type is accepted only if the manifest is named by a digest, which vouches for
// its bytes.
func typeOf(body []byte, contentType string, named bool) (string, error) {
	var m manifestShape
	if err := json.Unmarshal(body, &m); err != nil {
		return "", unusable{"the manifest is not JSON", "the manifest is not JSON"}
	}
	if m.SchemaVersion == 1 || m.FSLayers != nil || oci.IsSchema1(m.MediaType) || oci.IsSchema1(contentType) {
		return "", ErrSchema1
	}
	t := contentType
	if isVague(t) {
		t = m.MediaType
	}
	if t == "" {
		t = m.guess()
	}
	switch {
	case !canBeManifest(t):
		return "", &quoting{"the type %s is not that of a manifest", []string{t}, "the type is not that of a manifest"}
	case m.MediaType != "" && m.MediaType != t:
		return "", &quoting{"the answer says that it is %s, the manifest that it is %s", []string{t, m.MediaType}, "answer and manifest name two media types"}
	case !oci.IsManifest(t) && !named:
		return "", &quoting{"the type %s is unknown, and no digest vouches for the manifest", []string{t}, "the manifest has an unknown type and no digest"}
	case oci.IsManifest(t) && m.ambiguous(oci.IsIndex(t)):
		return "", unusable{"the manifest is an image and an index at once", "the manifest is an image and an index at once"}
	}
	return t, nil
}

// guess returns the type that the shape of a manifest suggests. The OCI specs allow
// manifests that name no type. If the shape tells nothing, guess returns nothing.
func (m *manifestShape) guess() string {
	index, image := present(m.Manifests), present(m.Config) && present(m.Layers)
	switch {
	case m.SchemaVersion != 2 || index == image:
		return ""
	case index:
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// ambiguous reports whether a manifest, which is an index or an image, also has fields of
// the other kind.
func (m *manifestShape) ambiguous(index bool) bool {
	if index {
		return present(m.Config) || present(m.Layers)
	}
	return present(m.Manifests)
}

// present reports whether a field is there and not null.
func present(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(raw, []byte("null"))
}
