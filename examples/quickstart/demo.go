package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// The media types of the demo image.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// The repository of the demo image upstream and in the cache, and its tag.
const (
	source = "team/app"
	local  = "mirror/app"
	tag    = "latest"
)

// descriptor is that of manifests and indexes.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *platform `json:"platform,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// manifest is an image or, with Manifests, an index.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// image describes the image of one platform.
type image struct {
	config descriptor
	layers []descriptor // base, runtime, app
}

// size returns how many bytes of blobs a pull transfers.
func (i image) size() int64 {
	n := i.config.Size
	for _, l := range i.layers {
		n += l.Size
	}
	return n
}

// publish adds a version of the demo image to the upstream, for amd64 and arm64, and moves
// the tag to it. All images share the base layer, all versions for one platform share the
// runtime layer, and each has an app layer of its own. publish returns the image for amd64.
func publish(up *upstreamtest.Registry, version int) (image, error) {
	var index manifest
	var amd image
	for i, arch := range []string{"amd64", "arm64"} {
		own := uint64(i+1) << 16
		img, d, err := publishPlatform(up, arch, []layer{
			{"base", 1, 4 << 20},
			{"runtime-" + arch, own, 4 << 20},
			{fmt.Sprintf("app-%s-%d", arch, version), own + uint64(version), 2 << 20},
		})
		if err != nil {
			return image{}, err
		}
		if arch == "amd64" {
			amd = img
		}
		index.Manifests = append(index.Manifests, d)
	}
	index.SchemaVersion, index.MediaType = 2, typeIndex
	body, err := json.Marshal(index)
	if err != nil {
		return image{}, err
	}
	up.AddManifest(source, tag, typeIndex, body)
	return amd, nil
}

// layer is a tar archive of one file of pseudo-random bytes.
type layer struct {
	file string
	seed uint64
	size int
}

func (l layer) tar() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: l.file, Mode: 0o644, Size: int64(l.size)}); err != nil {
		return nil, err
	}
	if _, err := w.Write(upstreamtest.Bytes(l.seed, l.size)); err != nil {
		return nil, err
	}
	err := w.Close()
	return b.Bytes(), err
}

// publishPlatform adds the image of one platform, which docker can unpack.
func publishPlatform(up *upstreamtest.Registry, arch string, layers []layer) (image, descriptor, error) {
	var img image
	diffs := []string{}
	for _, l := range layers {
		body, err := l.tar()
		if err != nil {
			return img, descriptor{}, err
		}
		d := up.AddBlob(source, body).String()
		diffs = append(diffs, d) // the layers are not compressed
		img.layers = append(img.layers, descriptor{MediaType: typeLayer, Digest: d, Size: int64(len(body))})
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": arch,
		"config": map[string]any{"Cmd": []string{"/" + layers[len(layers)-1].file}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	if err != nil {
		return img, descriptor{}, err
	}
	img.config = descriptor{MediaType: typeConfig, Digest: up.AddBlob(source, config).String(), Size: int64(len(config))}
	body, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: typeManifest, Config: &img.config, Layers: img.layers})
	if err != nil {
		return img, descriptor{}, err
	}
	d := up.AddManifest(source, "", typeManifest, body)
	return img, descriptor{typeManifest, d.Digest.String(), d.Size, &platform{"linux", arch}}, nil
}
