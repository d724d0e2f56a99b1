package upstream_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const (
	ociArtifact  = "application/vnd.oci.artifact.manifest.v1+json"
	orasArtifact = "application/vnd.cncf.oras.artifact.manifest.v1+json"
	strange      = "application/vnd.example.thing.v7+json"
)

// What the upstream holds is passed on, with its type.
func TestTypesOfManifests(t *testing.T) {
	sum := digest.FromString("x").String()
	image := `{"schemaVersion":2,"config":{"digest":"` + sum + `","size":1},"layers":[]}`
	index := `{"schemaVersion":2,"manifests":[]}`
	for _, c := range []struct{ label, body, want string }{
		{ociArtifact, `{"mediaType":"` + ociArtifact + `","artifactType":"x","blobs":[]}`, ociArtifact},
		{orasArtifact, `{"mediaType":"` + orasArtifact + `","artifactType":"x","blobs":[]}`, orasArtifact},
		{"application/json", `{"mediaType":"` + ociArtifact + `","blobs":[]}`, ociArtifact},
		{strange, `{"things":[]}`, strange},
		{strange, `{"mediaType":"` + strange + `"}`, strange},
		{"application/json", `{"mediaType":"` + strange + `"}`, strange},
		{"application/json", image, ocispec.MediaTypeImageManifest},
		{"text/plain", index, ocispec.MediaTypeImageIndex},
		{"binary/octet-stream", image, ocispec.MediaTypeImageManifest},
		{ocispec.MediaTypeImageManifest, image, ocispec.MediaTypeImageManifest},
		// and what is refused
		{"application/json", `{"schemaVersion":2}`, ""},
		{"application/json", `{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}`, ""},
		{"application/json", `{"manifests":[]}`, ""},
		{strange, `{"mediaType":"` + ociArtifact + `"}`, ""},
		{strange, `[1]`, ""},
		{"text/html", `{"things":[]}`, ""},
		{"text/x-thing", `{"things":[]}`, ""},
		{"image/png", `{"things":[]}`, ""},
		{strings.Repeat("application/", 30) + "x", `{}`, ""},
		{ociArtifact, `{"manifests":[]}`, ""},
	} {
		s := newSide(t)
		d := s.up.AddManifest("a", "v1", c.label, []byte(c.body))
		for _, ref := range []string{"v1", d.Digest.String()} {
			desc, body, err := s.repo("a").Manifest(t.Context(), ref)
			if c.want == "" {
				if e := s.want(err, upstream.Protocol); e.Reason == "" {
					t.Errorf("%s %s: no reason for clients", c.label, c.body)
				}
				continue
			}
			if err != nil || desc.MediaType != c.want || string(body) != c.body {
				t.Errorf("%s %s: %s %q, %v, want %s", c.label, c.body, desc.MediaType, body, err, c.want)
			}
		}
	}
}

// An unknown type needs a digest that vouches for it.
func TestUnknownTypesWithoutADigest(t *testing.T) {
	s := newSide(t)
	d := s.up.AddManifest("a", "v1", strange, []byte(`{"things":[]}`))
	s.up.Fail(upstreamtest.Fault{NoDigest: true})
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	s.want(err, upstream.Protocol)
	if desc, _, err := s.repo("a").Manifest(t.Context(), d.Digest.String()); err != nil || desc.MediaType != strange {
		t.Errorf("by digest: %v, %v", desc, err)
	}
	s.up.Heal()
	if desc, err := s.repo("a").Resolve(t.Context(), "v1"); err != nil || desc.MediaType != strange || desc.Digest != d.Digest {
		t.Errorf("HEAD: %v, %v", desc, err)
	}
}

// A label says nothing about bytes that hash right, and excuses none that do not.
func TestLabelledAsEncoded(t *testing.T) {
	for _, encoding := range []string{"gzip", "zstd", "aws-chunked"} {
		s := newSide(t)
		img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 1000))
		s.up.Fail(upstreamtest.Fault{Encoding: encoding})
		if _, body, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil || !bytes.Equal(body, img.Manifest) {
			t.Errorf("%s: manifest: %v", encoding, err)
		}
		if got := s.read(s.repo("a").Blob(t.Context(), img.Layers[0].Digest, 0, -1)); digest.FromBytes(got) != img.Layers[0].Digest {
			t.Errorf("%s: blob of %d bytes", encoding, len(got))
		}
		if got := s.read(s.repo("a").Blob(t.Context(), img.Layers[0].Digest, 10, 20)); len(got) != 20 {
			t.Errorf("%s: part of %d bytes", encoding, len(got))
		}
		if _, err := s.repo("a").Resolve(t.Context(), "v1"); !errors.Is(err, upstream.ErrIncomplete) {
			t.Errorf("%s: HEAD: %v, want ErrIncomplete, since the length is that of something encoded", encoding, err)
		}
		if desc, err := s.repo("a").StatBlob(t.Context(), img.Layers[0].Digest); err != nil || desc.Size != -1 {
			t.Errorf("%s: HEAD of a blob: %+v, %v", encoding, desc, err)
		}
	}
	s := newSide(t)
	img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 1000))
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Do: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", img.MediaType)
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Docker-Content-Digest", img.Digest.String())
		z := gzip.NewWriter(w)
		_, _ = z.Write(img.Manifest)
		_ = z.Close()
	}})
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Protocol); !strings.Contains(e.Reason, "encoded") {
		t.Errorf("%v does not say that the answer is encoded", err)
	}
}
