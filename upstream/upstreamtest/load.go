package upstreamtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/pullthrough/pullthrough/internal/oci"
)

// AddFrom adds images from another source, such as an OCI layout or a real registry, with
// all their manifests and blobs. A reference is a digest, or a tag, under which the image
// is then added. If src is an [oras.ReadOnlyGraphTarget], the artifacts that refer to an
// image are added with it. The images are returned in the order of their references.
func (r *Registry) AddFrom(ctx context.Context, repository string, src oras.ReadOnlyTarget, references ...string) ([]Image, error) {
	var images []Image
	for _, reference := range references {
		desc, err := r.copyFrom(ctx, repository, src, reference)
		if err != nil {
			return images, fmt.Errorf("%s: adding %s to %s: %w", name, reference, repository, err)
		}
		images = append(images, r.image(repository, desc))
	}
	return images, nil
}

// copyFrom copies one image.
func (r *Registry) copyFrom(ctx context.Context, repository string, src oras.ReadOnlyTarget, reference string) (ocispec.Descriptor, error) {
	desc, err := src.Resolve(ctx, reference)
	if err != nil {
		return desc, err
	}
	dst := destination{r, repository}
	if graph, ok := src.(oras.ReadOnlyGraphTarget); ok {
		err = oras.ExtendedCopyGraph(ctx, graph, dst, desc, oras.ExtendedCopyGraphOptions{
			FindPredecessors: func(ctx context.Context, src content.ReadOnlyGraphStorage, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
				return registry.Referrers(ctx, src, desc, "")
			},
		})
	} else {
		err = oras.CopyGraph(ctx, src, dst, desc, oras.DefaultCopyGraphOptions)
	}
	if err == nil && digest.Digest(reference).Validate() != nil {
		r.Tag(repository, reference, desc.Digest)
	}
	return desc, err
}

// image describes a manifest of the registry.
func (r *Registry) image(repository string, desc ocispec.Descriptor) Image {
	r.mu.Lock()
	body := r.repo(repository).manifests[desc.Digest].body
	r.mu.Unlock()
	img := Image{Repository: repository, Descriptor: desc, Manifest: body}
	var parts struct {
		Config    ocispec.Descriptor
		Layers    []ocispec.Descriptor
		Manifests []ocispec.Descriptor
	}
	_ = json.Unmarshal(body, &parts) // a body that is no JSON has no parts
	img.Config, img.Layers = parts.Config, parts.Layers
	for _, child := range parts.Manifests {
		img.Children = append(img.Children, r.image(repository, child))
	}
	return img
}

// destination is a repository as the target of a copy.
type destination struct {
	registry   *Registry
	repository string
}

// find returns the content of a manifest or blob.
func (d destination) find(desc ocispec.Descriptor) ([]byte, bool) {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	p := d.registry.repo(d.repository)
	if m, ok := p.manifests[desc.Digest]; ok {
		return m.body, true
	}
	body, ok := p.blobs[desc.Digest]
	return body, ok
}

// Exists reports whether the repository has a manifest or blob.
func (d destination) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	_, ok := d.find(desc)
	return ok, nil
}

// Fetch opens a manifest or blob.
func (d destination) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	body, ok := d.find(desc)
	if !ok {
		return nil, fmt.Errorf("%s: %w", desc.Digest, errdef.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(body)), nil
}

// Push adds a manifest or blob, if it matches desc.
func (d destination) Push(_ context.Context, desc ocispec.Descriptor, from io.Reader) error {
	body, err := content.ReadAll(from, desc)
	if err != nil {
		return err
	}
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	p := d.registry.repo(d.repository)
	if oci.IsManifest(desc.MediaType) {
		p.manifests[desc.Digest] = stored{desc.MediaType, body}
	} else {
		p.blobs[desc.Digest] = body
	}
	return nil
}
