package store

// This file holds what all stores share: which arguments they refuse, and what they
// keep of the others.

import (
	"context"
	"fmt"
	"iter"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// errClosed reports the use of what is closed.
var errClosed = os.ErrClosed

// checkContent checks the arguments that every call about content has.
func checkContent(ctx context.Context, repo string, d digest.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return CheckContent(repo, d)
}

// checkInfo checks what is about to be written or linked.
func checkInfo(ctx context.Context, repo string, want Info) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return CheckInfo(repo, want)
}

// blobMediaType is the media type of everything that is no manifest.
const blobMediaType = "application/octet-stream"

// sizeError reports content of got bytes that was announced with want.
func sizeError(want, got int64) error {
	return fmt.Errorf("%w: %d bytes, announced were %d", ErrSize, got, want)
}

// checkTagged checks the arguments that every call about a tag has.
func checkTagged(ctx context.Context, repo, tag string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return CheckTag(repo, tag)
}

// spoolKey names unfinished content: there is one of it at most for each key.
type spoolKey struct {
	repo, origin string
	digest       digest.Digest
}

// keyOf returns the key of content that is about to be written.
func keyOf(repo string, want Info) spoolKey {
	return spoolKey{repo: repo, origin: want.Origin(), digest: want.Digest}
}

// busy reports a spool that is open already.
func (k spoolKey) busy() error {
	return fmt.Errorf("store: %s of %s is being written in %s already", k.digest, k.origin, k.repo)
}

// fill completes got, the argument of Commit, with want, that of Spool.
func (k spoolKey) fill(got, want Info) (Info, error) {
	if got.Digest == "" {
		got.Digest = want.Digest
	}
	if got.Source == "" {
		got.Source = want.Source
	}
	if got.Digest != k.digest || got.Origin() != k.origin {
		return Info{}, fmt.Errorf("store: a spool for %s of %s cannot be committed as %s of %s", k.digest, k.origin, got.Digest, got.Origin())
	}
	if want.Size >= 0 && got.Size >= 0 && got.Size != want.Size {
		return Info{}, sizeError(want.Size, got.Size)
	}
	if got.Size < 0 {
		got.Size = want.Size
	}
	return got, nil
}

// checkProgress refuses a checkpoint that cannot be true.
func checkProgress(p Progress, written int64) error {
	if p.Front < 0 || p.Front > written || p.Size >= 0 && p.Front > p.Size {
		return fmt.Errorf("store: a checkpoint for %d bytes, %d are written of %d", p.Front, written, p.Size)
	}
	last := p.Front
	for _, s := range p.Spans {
		if s.Start <= last || s.End <= s.Start || s.End > written || p.Size >= 0 && s.End > p.Size {
			return fmt.Errorf("store: a checkpoint for the bytes from %d to %d after %d, %d are written of %d", s.Start, s.End, last, written, p.Size)
		}
		last = s.End
	}
	if len(p.Spans) > maxSpans {
		return fmt.Errorf("store: a checkpoint for %d spans, there may be %d", len(p.Spans), maxSpans)
	}
	return nil
}

// checkRecord checks the arguments that every call about a record has.
func checkRecord(ctx context.Context, kind, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return CheckRecord(kind, key)
}

// sorted yields names in the order of their bytes until ctx is done.
func sorted(ctx context.Context, list func() ([]string, error)) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := list()
		if err != nil {
			yield("", err)
			return
		}
		slices.Sort(names)
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(name, nil) {
				return
			}
		}
	}
}

// descriptors yields the descriptors of manifests, as a list of referrers has them.
func descriptors(manifests iter.Seq2[Info, error]) iter.Seq2[ocispec.Descriptor, error] {
	return func(yield func(ocispec.Descriptor, error) bool) {
		for info, err := range manifests {
			if !yield(info.Descriptor, err) {
				return
			}
		}
	}
}
