package oci

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var (
	sumA = "sha256:" + strings.Repeat("a", 64)
	sumB = "sha256:" + strings.Repeat("b", 64)
)

func TestParseImage(t *testing.T) {
	m, err := Parse(ocispec.MediaTypeImageManifest, []byte(`{"config":{"mediaType":"c","digest":"`+sumA+`","size":2},"layers":[
		{"digest":"`+sumB+`","size":3},{"digest":"`+sumB+`","size":3},
		{"digest":"`+sumA+`","size":9,"urls":["https://x.example.com"]},
		{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"`+sumA+`","size":9}],
		"subject":{"digest":"`+sumB+`","size":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if b := m.Blobs(); len(b) != 2 || b[0].Size != 2 || b[1].Size != 3 {
		t.Errorf("blobs %+v, want the config and one layer", b)
	}
	if m.Subject.String() != sumB || m.ArtifactType != "c" || m.Index {
		t.Errorf("%+v", m)
	}
}

func TestParseIndex(t *testing.T) {
	m, err := Parse(DockerIndex, []byte(`{"manifests":[{"digest":"`+sumA+`","size":1,"platform":{"os":"linux","architecture":"amd64"}},
		{"digest":"`+sumB+`","size":1,"platform":{"os":"unknown","architecture":"unknown"}}]}`))
	if err != nil || !m.Index || len(m.Children()) != 2 || len(m.Images()) != 1 || len(m.Blobs()) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, body := range []string{"", "[]", `{"layers":[{"digest":"x"}]}`, `{"layers":[{"digest":"` + sumA + `","size":-1}]}`, `{"subject":{"digest":"../x"}}`} {
		if m, err := Parse(ocispec.MediaTypeImageManifest, []byte(body)); err == nil {
			t.Errorf("%q parses as %+v", body, m)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ocispec.MediaTypeImageManifest, []byte(`{"config":{"digest":"`+sumA+`"},"layers":[]}`))
	f.Add(ocispec.MediaTypeImageIndex, []byte(`{"manifests":[{"digest":"`+sumA+`"}]}`))
	f.Fuzz(func(t *testing.T, mediaType string, body []byte) {
		m, err := Parse(mediaType, body)
		if err != nil {
			return
		}
		for _, d := range append(m.Blobs(), m.Children()...) {
			if d.Digest.Validate() != nil || d.Size < 0 {
				t.Fatalf("a descriptor that is not valid: %+v", d)
			}
		}
	})
}
