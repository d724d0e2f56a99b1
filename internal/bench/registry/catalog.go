// Package registry is the upstream of the comparisons: a registry with nothing but
// the content of a [Catalog], which costs as little as it can, so that what is
// measured are the caches. The bare server that stands beside them serves a
// Catalog in the same way.
package registry

import (
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// The media types of the content.
const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
	blobType     = "application/octet-stream"
)

// Object is a manifest or a blob.
type Object struct {
	// Type is the Content-Type of a response.
	Type string
	// Digest is sha256:HEX.
	Digest string
	// Size is the number of bytes.
	Size int64
	// Body is the content. If nil, it is in the file of that name.
	Body []byte
	File string

	// The values of headers, made once.
	ctype, digest, length []string
}

func newObject(mediaType string, body []byte) *Object {
	sum := sha256.Sum256(body)
	o := &Object{Type: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(body)), Body: body}
	o.prepare()
	return o
}

// prepare makes the values of headers.
func (o *Object) prepare() {
	o.ctype, o.digest, o.length = []string{o.Type}, []string{o.Digest}, []string{strconv.FormatInt(o.Size, 10)}
}

// Catalog is what a registry has, by the path of its URL. It is safe for concurrent
// use; the zero value is empty.
type Catalog struct {
	mu      sync.RWMutex
	objects map[string]*Object
}

func (c *Catalog) add(path string, o *Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.objects == nil {
		c.objects = map[string]*Object{}
	}
	c.objects[path] = o
}

// find returns what lies at a path, or nil.
func (c *Catalog) find(path string) *Object {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.objects[path]
}

// manifestPath is the path of a manifest by tag or digest.
func manifestPath(repo, reference string) string { return "/v2/" + repo + "/manifests/" + reference }

func (c *Catalog) addManifest(repo, tag string, o *Object) {
	c.add(manifestPath(repo, tag), o)
	c.add(manifestPath(repo, o.Digest), o)
}

// addBlob adds a blob, and returns its path.
func (c *Catalog) addBlob(repo string, o *Object) string {
	path := "/v2/" + repo + "/blobs/" + o.Digest
	c.add(path, o)
	return path
}

// Save writes the catalog into a file. Content that lies in files of its own stays
// there.
func (c *Catalog) Save(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return errors.Join(gob.NewEncoder(f).Encode(c.objects), f.Close())
}

// Load reads what Save wrote.
func Load(file string) (*Catalog, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &Catalog{}
	if err := gob.NewDecoder(f).Decode(&c.objects); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, o := range c.objects {
		o.prepare()
	}
	return c, nil
}
