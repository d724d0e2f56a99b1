package cache

import (
	"context"
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
)

// readRecord is a manifest that a client has read and that is not stored.
type readRecord struct {
	MediaType string `json:"mediaType"`
	Body      []byte `json:"body"`
}

// readPrefix is what the keys of a repository begin with.
func readPrefix(repository string) string { return shelfKey("read", repository) }

func readKey(r origin.Repo, d digest.Digest) string {
	return readPrefix(r.Name) + shelfKey(r.Match.Source.String(), r.From, d.String())
}

// wasRead reports whether keepRead has kept a manifest.
func (l *local) wasRead(r origin.Repo, d digest.Digest) bool { return l.read.has(readKey(r, d)) }

// keepRead keeps a part of an index that a client has read, so that it can be read
// again with the upstream gone: some clients read the manifests of all platforms
// and pull the layers of one. The manifest does not become stored by that. One that was
// deleted since the client has read it is not kept, and neither is one that has become
// stored since: linked has forgotten it by then.
func (l *local) keepRead(ctx context.Context, r origin.Repo, man *oci.Content, read time.Time) {
	data, err := json.Marshal(readRecord{man.MediaType, man.Body})
	if err != nil {
		return
	}
	stored := func() bool { return l.remembered(r, man.Digest) != nil }
	l.read.putUnless(ctx, readKey(r, man.Digest), data, time.Now(), stored)
	if at := l.deleted.last(r.Name, man.Digest.String()); !at.IsZero() && !at.Before(read) {
		l.forgetRead(ctx, r, man.Digest)
	}
}

// readBefore returns a manifest that keepRead has kept, nil if there is none.
func (l *local) readBefore(ctx context.Context, r origin.Repo, d digest.Digest) *oci.Content {
	data, _, ok := l.read.get(ctx, readKey(r, d))
	var rec readRecord
	if !ok || json.Unmarshal(data, &rec) != nil || d.Algorithm().FromBytes(rec.Body) != d {
		return nil
	}
	man := oci.NewContent(ocispec.Descriptor{MediaType: rec.MediaType, Digest: d, Size: int64(len(rec.Body))}, rec.Body, r.From)
	l.note(r, man)
	return man
}

// dropRead drops what keepRead has kept, be it known or not.
func (l *local) dropRead(ctx context.Context, r origin.Repo, d digest.Digest) {
	if r.Covered() {
		l.read.drop(ctx, readKey(r, d))
	}
}

// forgetRead drops what keepRead has kept.
func (l *local) forgetRead(ctx context.Context, r origin.Repo, d digest.Digest) {
	l.read.dropKnown(ctx, readKey(r, d))
}
