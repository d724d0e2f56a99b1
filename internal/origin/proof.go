package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// proofSize is the length of each of the two parts that are compared.
const proofSize = 4 << 10

var (
	// ErrUnproven reports an answer that does not show that the upstream has the very
	// bytes.
	ErrUnproven = errors.New("cache: the upstream does not show that it has the bytes")
	// ErrElsewhere reports such an answer of where the upstream's host leads to. It tells
	// nothing about how the host answers HEAD.
	ErrElsewhere = errors.New("cache: what the upstream leads to does not show that it has the bytes")
)

// Prove asks whether the upstream has a blob whose bytes another repository has; nil if
// it has shown that. A status alone is no proof, since a page where people sign on
// answers everything with 200. What the rule's own host says of the length is one. Where
// that host leads to a storage, the bytes must come from there as a pull would get them,
// since the storage may be anybody's. Otherwise the error is [ErrUnproven],
// [ErrElsewhere], or what the request came to.
func (s Slot) Prove(ctx context.Context, d digest.Digest, have io.ReadSeeker) error {
	size, err := have.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	ctx, now, stop, err := s.begin(ctx)
	defer stop()
	if err != nil {
		return err
	}
	desc, err := now.upstream.StatBlob(upstream.WithoutRedirects(ctx), d)
	switch {
	case err == nil && desc.Size == size:
		now.Heard(nil)
		return nil
	case err == nil:
		return ErrUnproven
	case !errors.Is(err, upstream.ErrIncomplete):
		if err = now.late(ctx, err); upstream.Settles(err) {
			now.Heard(err)
		}
		return err
	case size <= 2*proofSize: // as cheap to download
		return ErrElsewhere
	}
	for range 2 {
		if err := samePart(ctx, now.upstream, d, have, size); err != nil {
			return fmt.Errorf("%w: %w", ErrElsewhere, now.late(ctx, err))
		}
	}
	now.Heard(nil)
	return nil
}

// samePart compares a part of a blob, at an offset that nobody can foresee.
func samePart(ctx context.Context, up upstream.Repository, d digest.Digest, have io.ReadSeeker, size int64) error {
	offset := rand.Int64N(size - proofSize + 1)
	body, err := up.Blob(ctx, d, offset, proofSize)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // a failure to end what was read is no failure
	if body.Offset != offset || body.Length != proofSize || body.Size >= 0 && body.Size != size {
		return ErrElsewhere
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
		return ErrElsewhere
	}
	return nil
}
