// Package oci parses manifests as far as a cache needs: the blobs and manifests that
// they name, and their platforms.
package oci

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// Docker's media types of what OCI standardised later.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerForeign  = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// The media types of artifact manifests from before image-spec 1.1, which registries
// still hold: that of its first release candidates, and that of ORAS.
const (
	OCIArtifact  = "application/vnd.oci.artifact.manifest.v1+json"
	ORASArtifact = "application/vnd.cncf.oras.artifact.manifest.v1+json"
)

// ManifestTypes returns the media types of the manifests that this project knows.
func ManifestTypes() []string {
	return []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, DockerManifest, DockerIndex, OCIArtifact, ORASArtifact}
}

// IsManifest reports whether t is one of [ManifestTypes].
func IsManifest(t string) bool {
	switch t {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, DockerManifest, DockerIndex, OCIArtifact, ORASArtifact:
		return true
	}
	return false
}

// IsImageConfig reports whether t is the media type of the config of a container image,
// which names its platform.
func IsImageConfig(t string) bool {
	return t == ocispec.MediaTypeImageConfig || t == "application/vnd.docker.container.image.v1+json"
}

// IsSchema1 reports whether t is the media type of a manifest of Docker's schema 1.
func IsSchema1(t string) bool {
	return t == "application/vnd.docker.distribution.manifest.v1+json" || t == "application/vnd.docker.distribution.manifest.v1+prettyjws"
}

// Manifest is what a manifest or an index names.
type Manifest struct {
	Index        bool
	Layers       []ocispec.Descriptor // of an image, or the blobs of an artifact; see Fetchable
	Config       *ocispec.Descriptor  // of an image
	Manifests    []ocispec.Descriptor // of an index
	Subject      digest.Digest
	ArtifactType string
	Annotations  map[string]string
	Bad          error // why the manifest could not be parsed
}

// IsIndex reports whether a media type is that of an index.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerIndex
}

// raw has the fields of all types of manifests.
type raw struct {
	Config       *ocispec.Descriptor  `json:"config"`
	Layers       []ocispec.Descriptor `json:"layers"`
	Blobs        []ocispec.Descriptor `json:"blobs"` // of artifact manifests
	Manifests    []ocispec.Descriptor `json:"manifests"`
	Subject      *ocispec.Descriptor  `json:"subject"`
	ArtifactType string               `json:"artifactType"`
	Annotations  map[string]string    `json:"annotations"`
}

// MaxDescriptors is how many layers or manifests a manifest may name. An image has at
// most about 128 layers, since overlay file systems take no more; an artifact may have
// some hundreds of blobs.
const MaxDescriptors = 4096

// Parse parses a manifest. A digest other than sha256 or sha512 is an error, since its
// content cannot be fetched or stored, and so are more than [MaxDescriptors]
// descriptors. A manifest of an unknown type is parsed as if it had the fields of the
// known types; if that fails, it names nothing.
func Parse(mediaType string, body []byte) (*Manifest, error) {
	m, err := parse(mediaType, body)
	if err != nil && !IsManifest(mediaType) {
		return &Manifest{}, nil
	}
	return m, err
}

func parse(mediaType string, body []byte) (*Manifest, error) {
	var raw raw
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, fmt.Errorf("oci: %s: %.200v", mediaType, err) // it may repeat a long number
	}
	m := &Manifest{Index: IsIndex(mediaType), ArtifactType: raw.ArtifactType, Annotations: raw.Annotations}
	layers := slices.Concat(raw.Layers, raw.Blobs)
	all := [][]ocispec.Descriptor{layers}
	if m.Index {
		all = [][]ocispec.Descriptor{raw.Manifests}
		m.Manifests = raw.Manifests
	} else if raw.Config != nil && raw.Config.Digest != "" {
		m.Config = raw.Config
		all = append(all, []ocispec.Descriptor{*raw.Config})
		if m.ArtifactType == "" {
			m.ArtifactType = raw.Config.MediaType
		}
	}
	for _, list := range all {
		if len(list) > MaxDescriptors {
			return nil, fmt.Errorf("oci: %s names %d blobs or manifests, more than %d", mediaType, len(list), MaxDescriptors)
		}
		for _, d := range list {
			if err := check(d); err != nil {
				return nil, fmt.Errorf("oci: %s names %w", mediaType, err)
			}
		}
	}
	if !m.Index {
		for _, d := range layers {
			if Fetchable(d) {
				m.Layers = append(m.Layers, d)
			}
		}
	}
	if raw.Subject != nil {
		if err := check(*raw.Subject); err != nil {
			return nil, fmt.Errorf("oci: %s has the subject %w", mediaType, err)
		}
		m.Subject = raw.Subject.Digest
	}
	return m, nil
}

func check(d ocispec.Descriptor) error {
	if !ociname.ValidDigest(string(d.Digest)) {
		return fmt.Errorf("%.100q, which is no sha256 or sha512 digest", string(d.Digest)) // it may be any text
	}
	if d.Size < 0 {
		return fmt.Errorf("%s with size %d", d.Digest, d.Size)
	}
	return nil
}

// Fetchable reports whether the registry serves a layer. It does not serve layers that
// lie at URLs elsewhere or must not be distributed.
func Fetchable(d ocispec.Descriptor) bool {
	return len(d.URLs) == 0 && d.MediaType != dockerForeign &&
		!strings.HasPrefix(d.MediaType, "application/vnd.oci.image.layer.nondistributable.")
}

// Blobs returns the config and the layers of an image, each digest once.
func (m *Manifest) Blobs() []ocispec.Descriptor {
	var blobs []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	add := func(d ocispec.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			blobs = append(blobs, d)
		}
	}
	if m.Config != nil {
		add(*m.Config)
	}
	for _, d := range m.Layers {
		add(d)
	}
	return blobs
}

// Children returns the manifests that an index names.
func (m *Manifest) Children() []ocispec.Descriptor { return m.Manifests }

// Images returns the children of an index that are images, which are all but
// attestations.
func (m *Manifest) Images() []ocispec.Descriptor {
	var images []ocispec.Descriptor
	for _, d := range m.Manifests {
		if !attestation(d) {
			images = append(images, d)
		}
	}
	return images
}

// attestation reports whether d is an attestation, which BuildKit stores beside the
// images of an index.
func attestation(d ocispec.Descriptor) bool {
	if d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
		return true
	}
	return d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// Names reports whether an index names a manifest.
func (m *Manifest) Names(d digest.Digest) bool {
	return slices.ContainsFunc(m.Manifests, func(c ocispec.Descriptor) bool { return c.Digest == d })
}
