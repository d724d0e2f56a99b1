package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// adopt links bytes that came from the same origin before, if the upstream shows
// this rule that it has them. done: there is nothing to download, for better or
// worse; asked: the upstream's own host answered. What it refuses to
// show, or shows differently, is no answer: the blob is downloaded. It is not asked
// about what this repository has: a download may have begun and ended since somebody
// looked.
func (e *engine) adopt(ctx context.Context, p place, d digest.Digest, copy bool) (done, asked bool, err error) {
	want := store.Info{Source: p.source}
	want.Digest, want.Size = d, -1
	var gone, refused error
	err = e.store.Adopt(ctx, p.repo, want, func(ctx context.Context, have io.ReadSeeker) error {
		if e.linked(ctx, p, d) {
			return nil
		}
		if e.headRefused(p, kindBlob) {
			return errUnproven
		}
		var now place
		if now, gone = e.current(ctx, p); gone != nil {
			return gone
		}
		asked = true
		refused = e.prove(ctx, now, d, have, copy)
		return refused
	})
	_, answer := errors.AsType[*upstream.Error](refused)
	switch {
	case err == nil:
		if asked {
			e.stats.adopted.Add(1)
		}
		return true, asked, nil
	case gone != nil:
		return true, asked, gone
	case answer && upstream.Settles(refused): // a download would meet the same
		return true, asked, refused
	}
	own := answer || errors.Is(refused, errUnproven) || errors.Is(refused, upstream.ErrIncomplete)
	return false, asked && own && !errors.Is(refused, errElsewhere), nil
}

// errUnproven reports an answer that does not show that the upstream has the very
// bytes, and errElsewhere one of where its host leads to, which tells nothing about
// how the host answers HEAD.
var (
	errUnproven  = errors.New("cache: the upstream does not show that it has the bytes")
	errElsewhere = errors.New("cache: what the upstream leads to does not show that it has the bytes")
)

// proofSize is the length of each of the two parts that are compared.
const proofSize = 4 << 10

// prove asks the upstream for a blob whose bytes another repository has. A status
// alone is no proof, since a page where people sign on answers everything with 200.
// What the rule's own host says of the length is one. Where that host leads to a
// storage, the bytes must come from there as a pull would get them, since the storage
// may be anybody's.
func (e *engine) prove(ctx context.Context, p place, d digest.Digest, have io.ReadSeeker, copy bool) error {
	size, err := have.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	release, err := e.turn(ctx, &e.asking, p, copy)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := e.within(ctx)
	defer cancel()
	repo := e.looped(p)
	desc, err := repo.StatBlob(upstream.WithoutRedirects(ctx), d)
	switch {
	case err == nil && desc.Size == size:
		return nil
	case err == nil:
		return errUnproven
	case !errors.Is(err, upstream.ErrIncomplete):
		return p.slow(ctx, err)
	case size <= 2*proofSize: // as cheap to download
		return errElsewhere
	}
	for range 2 {
		if err := same(ctx, repo, d, have, size); err != nil {
			return fmt.Errorf("%w: %w", errElsewhere, p.slow(ctx, err))
		}
	}
	return nil
}

// same compares a part of a blob, at a place that nobody can foresee.
func same(ctx context.Context, repo upstream.Repository, d digest.Digest, have io.ReadSeeker, size int64) error {
	offset := rand.Int64N(size - proofSize + 1)
	body, err := repo.Blob(ctx, d, offset, proofSize)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // a failure to end what was read is no failure
	if body.Offset != offset || body.Length != proofSize || body.Size >= 0 && body.Size != size {
		return errElsewhere
	}
	var theirs, ours [proofSize]byte
	if _, err := io.ReadFull(body, theirs[:]); err != nil {
		return err
	}
	if _, err := have.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.ReadFull(have, ours[:]); err != nil {
		return err
	}
	if !bytes.Equal(theirs[:], ours[:]) {
		return errElsewhere
	}
	return nil
}
