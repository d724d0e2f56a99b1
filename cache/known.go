package cache

import (
	"context"
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/flight"
)

// What is known is not asked: the size of a blob that a verified manifest names, or
// that is being downloaded, is its size for a HEAD too. A size belongs to the
// manifest that names it, not to the digest; bytes that hash right are right,
// whatever a manifest says of their size.

// blobSize is what the manifests of one source say about the size of a blob.
type blobSize struct {
	size  int64 // -1: they disagree, or the upstream disagreed with them
	doubt bool  // the upstream disagreed
}

// learn notes what a verified manifest says of others: the sizes of blobs, and
// which manifests are parts of an index.
func (e *engine) learn(p place, man *manifest) {
	for _, d := range man.parsed.Blobs() {
		e.sizes.Update(p.of(content{p.repo, d.Digest}), func(old blobSize, ok bool) (blobSize, int64, bool) {
			if ok && old.size != d.Size {
				return blobSize{-1, old.doubt}, 1, true
			}
			return blobSize{d.Size, old.doubt}, 1, true
		})
	}
	for _, d := range man.parsed.Children() {
		e.children.Put(content{p.repo, d.Digest}, man.desc.Digest, 1)
	}
}

// sizeOf is the size of a blob as far as the manifests that name it agree.
func (e *engine) sizeOf(p place, d digest.Digest) blobSize {
	s, ok := e.sizes.Get(p.of(content{p.repo, d}))
	if !ok {
		return blobSize{size: -1}
	}
	return s
}

// dispute notes that the upstream has a blob of another size than manifests say.
func (e *engine) dispute(p place, d digest.Digest) {
	e.sizes.Put(p.of(content{p.repo, d}), blobSize{-1, true}, 1)
}

// known is the size of a blob that need not be asked for.
func (e *engine) known(p place, d digest.Digest) (size int64, ok bool) {
	if s := e.sizeOf(p, d); s.size >= 0 {
		return s.size, true
	}
	return e.flights.Known(flight.Key{Source: p.match.Source, Digest: d})
}

// readRecord is a manifest that was read and is not complete here.
type readRecord struct {
	MediaType string `json:"mediaType"`
	Body      []byte `json:"body"`
}

func (p place) readKey(d digest.Digest) string {
	return shelfKey("read", p.match.Source.String(), p.repo, p.source, d.String())
}

// keepRead keeps a part of an index that a client has read, so that it can be read
// again with the upstream gone: some clients read the manifests of all platforms
// and pull the layers of one. It does not become complete by that.
func (e *engine) keepRead(p place, man *manifest) {
	data, err := json.Marshal(readRecord{man.desc.MediaType, man.body})
	if err == nil {
		e.read.put(e.ctx, p.readKey(man.desc.Digest), data, time.Now())
	}
}

// readBefore returns a manifest that keepRead kept, nil if there is none.
func (e *engine) readBefore(ctx context.Context, p place, d digest.Digest) *manifest {
	data, _, ok := e.read.get(ctx, p.readKey(d))
	var r readRecord
	if !ok || json.Unmarshal(data, &r) != nil || d.Algorithm().FromBytes(r.Body) != d {
		return nil
	}
	man := newManifest(ocispec.Descriptor{MediaType: r.MediaType, Digest: d, Size: int64(len(r.Body))}, r.Body, p.source)
	e.learn(p, man)
	return man
}
