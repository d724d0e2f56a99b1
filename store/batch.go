package store

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// Batcher is an optional ability of a [Store]: several changes that become visible and
// durable as one. Without it, package cache does the same changes one by one, in an
// order that loses nothing; a tag can then move a moment before or after its event is
// kept.
//
// It does what Create, SetTag and PutRecord do. So [As] finds it on the outermost store
// only: a wrapper that overrides one of these sees every change. A wrapper that wants to
// keep the ability has an Apply of its own, which calls that of the store behind it.
type Batcher interface {
	// Apply does a batch: all of it, or with an error nothing. Before it returns, all of
	// it survives a loss of power. It returns [ErrFull] if there is no room for the
	// content. Bytes and data are not kept, and must not change before it returns.
	Apply(ctx context.Context, b *Batch) error
}

// Batch is changes that are made as one, in the order of the fields.
type Batch struct {
	// Content is linked, such as manifests.
	Content []Piece
	// Tags are set or moved.
	Tags []TagChange
	// Deletions delete content and tags. What is not there is no error.
	Deletions []Deletion
	// Records are put or deleted.
	Records []RecordChange
}

// Piece is content whose bytes are at hand.
type Piece struct {
	Repo string
	// Info describes the content. Its Size is that of Bytes, or unknown.
	Info Info
	// Bytes have the digest of Info, which the caller has verified. There are 4 MiB at
	// most, the size of the largest manifest: more is an error that wraps [ErrSize].
	Bytes []byte
}

// TagChange is a tag that is set or moved, as SetTag does it.
type TagChange struct {
	Repo, Tag string
	Value     Tag
	// Records are changed if the tag changes, and only then: a tag that has the value
	// already, or a newer one, leaves them as they are.
	Records []RecordChange
	// Err is set by Apply: nil, or [ErrStale], which fails nothing else.
	Err error
}

// Deletion deletes content from a repository, or a tag.
type Deletion struct {
	Repo string
	// Tag is the tag to be deleted. If empty, the content Digest is.
	Tag string
	// Digest is the content to be deleted, or what the tag must point to for it to be
	// deleted. If empty, a tag is deleted whatever it points to.
	Digest digest.Digest
}

// RecordChange puts a record, or deletes it.
type RecordChange struct {
	Kind, Key string
	// Data is the data of the record. If nil, the record is deleted.
	Data []byte
}

// check checks what a batch brings.
func (b *Batch) check(ctx context.Context) error {
	for _, p := range b.Content {
		if err := checkInfo(ctx, p.Repo, p.Info); err != nil {
			return err
		}
		n := int64(len(p.Bytes))
		if p.Info.Size >= 0 && p.Info.Size != n {
			return sizeError(p.Info.Size, n)
		}
		if n > maxManifest {
			return fmt.Errorf("%w: %s has %d bytes, in a batch there may be %d", ErrSize, p.Info.Digest, n, maxManifest)
		}
	}
	for _, t := range b.Tags {
		if err := checkTagged(ctx, t.Repo, t.Tag); err != nil {
			return err
		}
		if err := CheckTagValue(t.Value); err != nil {
			return err
		}
		if err := checkRecords(ctx, t.Records); err != nil {
			return err
		}
	}
	for _, d := range b.Deletions {
		if err := d.check(ctx); err != nil {
			return err
		}
	}
	if err := checkRecords(ctx, b.Records); err != nil {
		return err
	}
	return ctx.Err()
}

func (d Deletion) check(ctx context.Context) error {
	if d.Tag == "" {
		return checkContent(ctx, d.Repo, d.Digest)
	}
	if d.Digest != "" {
		if _, _, err := checkDigest(d.Digest); err != nil {
			return err
		}
	}
	return checkTagged(ctx, d.Repo, d.Tag)
}

func checkRecords(ctx context.Context, list []RecordChange) error {
	for _, r := range list {
		if err := checkRecord(ctx, r.Kind, r.Key); err != nil {
			return err
		}
	}
	return nil
}

// onlyDeletes reports whether a batch frees room and takes none.
func (b *Batch) onlyDeletes() bool {
	for _, r := range b.Records {
		if r.Data != nil {
			return false
		}
	}
	return len(b.Content) == 0 && len(b.Tags) == 0
}
