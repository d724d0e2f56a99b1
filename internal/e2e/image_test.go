package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layerSizes are the sizes of a layer that streams for a while, of a middle one, and of one
// that is verified before its header is sent. The first is the base, which the images of
// all seeds share.
var layerSizes = []int{8 << 20, 1 << 20, 3 << 10}

// image is a multi-platform image that depends only on a seed.
type image struct {
	index     ocispec.Descriptor
	platforms map[string]platform // by architecture
	manifests map[digest.Digest]content
	blobs     map[digest.Digest][]byte
}

// platform is one child of the index.
type platform struct {
	manifest ocispec.Descriptor
	config   ocispec.Descriptor
	layers   []ocispec.Descriptor
}

// base returns the layer that the images of all seeds share.
func (p platform) base() ocispec.Descriptor { return p.layers[0] }

// content is a manifest's bytes with its type.
type content struct {
	mediaType string
	body      []byte
}

// newImage makes the image of a seed other than 0: linux/amd64 and linux/arm64 with three
// layers each.
func newImage(t *testing.T, seed byte) *image {
	t.Helper()
	m := &image{
		platforms: map[string]platform{},
		manifests: map[digest.Digest]content{},
		blobs:     map[digest.Digest][]byte{},
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for i, arch := range []string{"amd64", "arm64"} {
		p := m.addPlatform(t, arch, byte(i), seed)
		m.platforms[arch] = p
		child := p.manifest
		child.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		index.Manifests = append(index.Manifests, child)
	}
	m.index = m.addManifest(t, ocispec.MediaTypeImageIndex, index)
	return m
}

// addPlatform makes the child with a number, with its config and layers.
func (m *image) addPlatform(t *testing.T, arch string, number, seed byte) platform {
	t.Helper()
	var p platform
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}}
	config.RootFS.Type = "layers"
	base, own := rand.NewChaCha8([32]byte{0, number}), rand.NewChaCha8([32]byte{seed, number})
	for i, size := range layerSizes {
		random := own
		if i == 0 {
			random = base
		}
		packed, diffID := layer(t, fmt.Sprintf("layer-%d", i), size, random)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		p.layers = append(p.layers, m.addBlob(ocispec.MediaTypeImageLayerGzip, packed))
	}
	p.config = m.addBlob(ocispec.MediaTypeImageConfig, encode(t, config))
	p.manifest = m.addManifest(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    p.config,
		Layers:    p.layers,
	})
	return p
}

// layer makes a gzipped tar archive of one file of random bytes. It also returns the digest
// of the archive, which containerd checks when it unpacks.
func layer(t *testing.T, name string, size int, random io.Reader) ([]byte, digest.Digest) {
	t.Helper()
	var plain, packed bytes.Buffer
	archive := tar.NewWriter(&plain)
	err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(size), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.CopyN(archive, random, int64(size))
	}
	if err == nil {
		err = archive.Close()
	}
	if err != nil {
		t.Fatalf("making layer %s: %v", name, err)
	}
	gz := gzip.NewWriter(&packed)
	gz.Write(plain.Bytes()) // writing to a buffer does not fail
	gz.Close()
	return packed.Bytes(), digest.FromBytes(plain.Bytes())
}

// addBlob adds a blob.
func (m *image) addBlob(mediaType string, body []byte) ocispec.Descriptor {
	d := digest.FromBytes(body)
	m.blobs[d] = body
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

// addManifest adds a manifest or an index.
func (m *image) addManifest(t *testing.T, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	body := encode(t, v)
	d := digest.FromBytes(body)
	m.manifests[d] = content{mediaType, body}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

// push uploads the image to a registry and tags its index.
func (m *image) push(t *testing.T, registry, repository, tag string) {
	t.Helper()
	base := "http://" + registry + "/v2/" + repository
	for d, body := range m.blobs {
		location := send(t, http.MethodPost, base+"/blobs/uploads/", "", nil, http.StatusAccepted)
		location.RawQuery += "&digest=" + d.String()
		send(t, http.MethodPut, location.String(), "application/octet-stream", body, http.StatusCreated)
	}
	for _, p := range m.platforms {
		m.pushManifest(t, base, p.manifest.Digest.String(), p.manifest.Digest)
	}
	m.pushManifest(t, base, tag, m.index.Digest)
}

// pushManifest uploads one manifest under a tag or its digest.
func (m *image) pushManifest(t *testing.T, base, reference string, d digest.Digest) {
	t.Helper()
	c := m.manifests[d]
	send(t, http.MethodPut, base+"/manifests/"+reference, c.mediaType, c.body, http.StatusCreated)
}

// encode returns the JSON of v.
func encode(t *testing.T, v any) []byte {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
