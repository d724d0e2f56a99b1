package upstreamtest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is a manifest or index that was added.
type Image struct {
	Repository string
	ocispec.Descriptor
	Manifest []byte
	Config   ocispec.Descriptor
	Layers   []ocispec.Descriptor
	Children []Image // of an index
}

// AddImage adds an image for linux/amd64 under a tag. If the tag is empty, the image has
// none. A layer that is compressed with gzip, as those of [Layers] are, has the media type
// of such layers, and any other that of a plain archive, whatever its bytes are.
func (r *Registry) AddImage(repository, tag string, layers [][]byte) Image {
	return r.addImage(repository, tag, "amd64", layers)
}

func (r *Registry) addImage(repository, tag, arch string, layers [][]byte) Image {
	img := Image{Repository: repository}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		mediaType, diffID := layerType(l)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		img.Layers = append(img.Layers, ocispec.Descriptor{MediaType: mediaType, Digest: r.AddBlob(repository, l), Size: int64(len(l))})
	}
	body := mustJSON(config)
	img.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: r.AddBlob(repository, body), Size: int64(len(body))}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: img.Config, Layers: img.Layers}
	img.Manifest = mustJSON(m)
	img.Descriptor = r.AddManifest(repository, tag, m.MediaType, img.Manifest)
	img.Platform = &config.Platform
	return img
}

// AddIndex adds an index of images that were added to the same repository.
func (r *Registry) AddIndex(repository, tag string, images ...Image) Image {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, img := range images {
		index.Manifests = append(index.Manifests, img.Descriptor)
	}
	img := Image{Repository: repository, Manifest: mustJSON(index), Children: images}
	img.Descriptor = r.AddManifest(repository, tag, index.MediaType, img.Manifest)
	return img
}

// AddMultiPlatform adds an index with one image for each architecture. The images share the
// first layer; each has further layers of its own.
func (r *Registry) AddMultiPlatform(repository, tag string, layers [][]byte, archs ...string) Image {
	var images []Image
	for i, arch := range archs {
		own := slices.Clone(layers)
		for j := 1; j < len(own); j++ {
			generate := Bytes
			if compressed(layers[j]) {
				generate = Layer
			}
			own[j] = generate(uint64(i+1)<<32|uint64(j)<<24|uint64(len(layers[j])), len(layers[j]))
		}
		images = append(images, r.addImage(repository, "", arch, own))
	}
	return r.AddIndex(repository, tag, images...)
}

// AddAttestation adds an attestation of an image, as BuildKit does: a manifest that an index
// names with the platform unknown/unknown. Pass the result to AddIndex.
func (r *Registry) AddAttestation(repository string, of Image) Image {
	img := r.addImage(repository, "", "unknown", [][]byte{mustJSON(map[string]string{"subject": of.Digest.String()})})
	img.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	img.Annotations = map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": of.Digest.String(),
	}
	return img
}

// AddArtifact adds an artifact that refers to a subject.
func (r *Registry) AddArtifact(repository, tag, artifactType string, subject Image, content []byte) Image {
	empty := ocispec.DescriptorEmptyJSON
	r.AddBlob(repository, empty.Data)
	empty.Data = nil
	layer := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: r.AddBlob(repository, content), Size: int64(len(content))}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: empty, Layers: []ocispec.Descriptor{layer}}
	if subject.Digest != "" {
		m.Subject = &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	}
	img := Image{Repository: repository, Manifest: mustJSON(m), Layers: m.Layers, Config: empty}
	img.Descriptor = r.AddManifest(repository, tag, m.MediaType, img.Manifest)
	img.ArtifactType = artifactType
	return img
}

// AddManifest adds a manifest unchanged, under a tag unless that is empty.
func (r *Registry) AddManifest(repository, tag, mediaType string, body []byte) ocispec.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(body)
	p := r.repo(repository)
	p.manifests[d] = stored{mediaType, body}
	if tag != "" {
		p.tags[tag] = d
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

// AddBlob adds a blob.
func (r *Registry) AddBlob(repository string, body []byte) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := digest.FromBytes(body)
	r.repo(repository).blobs[d] = body
	return d
}

// Tag moves a tag to a manifest that the repository has.
func (r *Registry) Tag(repository, tag string, d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repo(repository).tags[tag] = d
}

// Untag removes a tag.
func (r *Registry) Untag(repository, tag string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.repo(repository).tags, tag)
}

// Delete removes a manifest or blob.
func (r *Registry) Delete(repository string, d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.repo(repository).manifests, d)
	delete(r.repo(repository).blobs, d)
}

// Blob returns the content of a blob, or nil if there is none.
func (r *Registry) Blob(repository string, d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.repo(repository).blobs[d]
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", name, err)) // plain structs can be encoded
	}
	return b
}
