package registry

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Part is something that a client asks for.
type Part struct {
	// Path is the path of its URL.
	Path string
	// Digest is sha256:HEX.
	Digest string
	Size   int64
}

// Image is an image that was added.
type Image struct {
	Repo, Tag string
	// ByTag and ByDigest are its manifest.
	ByTag, ByDigest Part
	// Manifest is the content of that.
	Manifest []byte
	// Config and Layers are its blobs.
	Config Part
	Layers []Part
}

// Parts returns what a client pulls, in its order: the manifest by tag, the config,
// the layers.
func (i Image) Parts() []Part {
	return append([]Part{i.ByTag, i.Config}, i.Layers...)
}

// perRepository is how many tiny images share a repository.
const perRepository = 20

// Tiny adds the images from, ..., to-1 of a series: each is three objects of 0.3 to
// 2 KiB, the same in every run. Twenty of them share a repository.
func (c *Catalog) Tiny(series string, from, to int) []Image {
	images := make([]Image, 0, to-from)
	for i := from; i < to; i++ {
		repo := fmt.Sprintf("b/%s/r%d", series, i/perRepository)
		layer := seeded(fmt.Sprint(series, " layer ", i), 0)
		layer = layer[:320+int(layer[0])*1728/255]
		images = append(images, c.addImage(repo, fmt.Sprint("t", i), newObject(blobType, layer)))
	}
	return images
}

// Layered adds an image of n layers of size bytes, which lie in memory.
func (c *Catalog) Layered(repo string, n, size int) Image {
	layers := make([]*Object, n)
	for i := range layers {
		layers[i] = newObject(blobType, seeded(fmt.Sprint(repo, " layer ", i), size))
	}
	return c.addImage(repo, "v1", layers...)
}

// Large adds an image of one layer of size bytes, which lies in a file of a folder.
func (c *Catalog) Large(folder, repo string, size int64) (Image, error) {
	layer, err := largeObject(folder, repo, size)
	if err != nil {
		return Image{}, fmt.Errorf("making %d bytes: %w", size, err)
	}
	return c.addImage(repo, "v1", layer), nil
}

// addImage makes the config and manifest of some layers and adds all.
func (c *Catalog) addImage(repo, tag string, layers ...*Object) Image {
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Digest    string `json:"digest"`
		Size      int64  `json:"size"`
	}
	img := Image{Repo: repo, Tag: tag}
	var listed []descriptor
	var ids []string
	for _, l := range layers {
		listed = append(listed, descriptor{layerType, l.Digest, l.Size})
		ids = append(ids, l.Digest)
		img.Layers = append(img.Layers, Part{c.addBlob(repo, l), l.Digest, l.Size})
	}
	config := newObject(blobType, mustJSON(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "comment": repo + ":" + tag,
		"config": map[string]any{"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, "Cmd": []string{"/bin/serve", "-listen", ":8080"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	}))
	img.Config = Part{c.addBlob(repo, config), config.Digest, config.Size}
	img.Manifest = mustJSON(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": descriptor{configType, config.Digest, config.Size},
		"layers": listed,
	})
	manifest := newObject(manifestType, img.Manifest)
	c.addManifest(repo, tag, manifest)
	img.ByTag = Part{manifestPath(repo, tag), manifest.Digest, manifest.Size}
	img.ByDigest = Part{manifestPath(repo, manifest.Digest), manifest.Digest, manifest.Size}
	return img
}

// mustJSON encodes what can always be encoded.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// source is an endless stream of bytes that a name determines.
func source(name string) io.Reader { return rand.NewChaCha8(sha256.Sum256([]byte(name))) }

// seeded makes size bytes, or 2 KiB if that is 0.
func seeded(name string, size int) []byte {
	if size == 0 {
		size = 2 << 10
	}
	body := make([]byte, size)
	_, _ = io.ReadFull(source(name), body) // which never ends
	return body
}

// largeObject writes a file of seeded bytes.
func largeObject(folder, name string, size int64) (*Object, error) {
	sum := sha256.New()
	file := filepath.Join(folder, hex.EncodeToString([]byte(name)))
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	_, err = io.CopyN(io.MultiWriter(buffered, sum), source(name), size)
	if err := errors.Join(err, buffered.Flush(), f.Close()); err != nil {
		return nil, err
	}
	o := &Object{Type: blobType, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Size: size, File: file}
	o.prepare()
	return o, nil
}
