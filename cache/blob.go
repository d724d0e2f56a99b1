package cache

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/origin"
)

// blobAnswer is what a pull of a blob comes to: a file that is stored, or a download.
type blobAnswer struct {
	file   io.ReadSeekCloser
	flight *flight.Handle
	size   int64 // -1 if it is unknown
	state  string
	remote bool
	err    error
}

func (a *blobAnswer) close() {
	if a.file != nil {
		_ = a.file.Close()
	}
	if a.flight != nil {
		a.flight.Close()
	}
}

// blob answers a pull of a blob: stored, in flight, known from the same origin, or
// downloaded.
func (e *engine) blob(ctx context.Context, r repository, d digest.Digest) blobAnswer {
	up := r.Via("") // a download is nobody's request
	a, stored := e.storedBlob(ctx, up, d)
	if e.ledger.Watches() && (stored || ctx.Err() == nil) {
		// The client's download comes first, and then the copy that joins it.
		defer e.ledger.Asked(r.Name, d, stored)
	}
	switch {
	case stored:
		return a
	case !r.Covered():
		return blobAnswer{err: errUnknown}
	}
	return e.bringBlob(ctx, up, d, false)
}

// bringBlob answers with a blob that was not stored when the caller looked. peer says that
// another replica asks, and not a client.
func (e *engine) bringBlob(ctx context.Context, r origin.Repo, d digest.Digest, peer bool) blobAnswer {
	for try := range 3 { // it may come into the store or leave it meanwhile, or have another size
		if try > 0 {
			if a, stored := e.storedBlob(ctx, r, d); stored {
				return a
			}
		}
		a := e.joinDownload(ctx, r, d, peer)
		if !errors.Is(a.err, flight.ErrStored) && (!errors.Is(a.err, flight.ErrSize) || try > 0) {
			return a
		}
	}
	return blobAnswer{err: errUnknown}
}

// storedBlob opens a blob that is stored.
func (e *engine) storedBlob(ctx context.Context, r origin.Repo, d digest.Digest) (blobAnswer, bool) {
	file, size, ok := e.local.openBlob(ctx, r, d)
	if !ok {
		return blobAnswer{}, false
	}
	return blobAnswer{file: file, size: size, state: hit}, true
}

// missStored says in Cache-Status that a download began.
const missStored = "fwd=miss; stored"

// joinDownload joins the download of a blob, or begins it.
func (e *engine) joinDownload(ctx context.Context, r origin.Repo, d digest.Digest, peer bool) blobAnswer {
	f, began := e.fetcher, time.Now()
	_, _, flying := f.flights.Peek(flight.Key{Source: r.Match.Source, Digest: d})
	refused := false
	if !flying {
		if a, known := unasked(r, d); known {
			return a
		}
		done, asked, err := f.adopt(ctx, r, d, false, began)
		if done && err != nil {
			return blobAnswer{err: err, state: fwd("miss", err)}
		}
		if done {
			a, ok := e.storedBlob(ctx, r, d)
			if asked { // "hit" would say that another repository has the bytes
				a.state = missStored
			}
			if ok {
				return a
			}
		}
		refused = asked && !done
	}
	wanted := f.download(r, d, false, began)
	wanted.Peer = peer
	h, err := f.flights.Join(ctx, wanted)
	if err != nil {
		return blobAnswer{err: err}
	}
	size, err := h.Header(ctx)
	if err != nil {
		h.Close()
		if !flying {
			r.HeardBlob(d, err)
		}
		return blobAnswer{err: err, state: fwd("miss", err)}
	}
	state := missStored
	if !h.Began() {
		state = "fwd=miss; collapsed"
	}
	switch {
	case h.Via() != "": // which says nothing about what the upstream answers to a GET
		state += peerDetail
	case refused:
		r.RefusesHead(origin.Blob)
	}
	return blobAnswer{flight: h, size: size, state: state, remote: true}
}

// peerDetail says in Cache-Status that a replica sends a blob, and not the upstream.
const peerDetail = "; detail=peer"

// unasked is the answer about a blob for which the upstream is not asked now.
func unasked(r origin.Repo, d digest.Digest) (blobAnswer, bool) {
	if err := r.Barred(); err != nil {
		return blobAnswer{err: err, state: fwd("miss", err)}, true
	}
	if err := r.Absent(origin.Blob, d); err != nil {
		return blobAnswer{err: err, state: "miss; detail=absent"}, true
	}
	return blobAnswer{}, false
}

// statBlob answers HEAD for a blob.
func (e *engine) statBlob(ctx context.Context, r repository, d digest.Digest) blobAnswer {
	if a, ok := e.storedBlob(ctx, r.Repo, d); ok {
		return a
	}
	if !r.Covered() {
		return blobAnswer{err: errUnknown}
	}
	if size, ok := e.fetcher.knownSize(r.Repo, d); ok {
		return blobAnswer{size: size, state: "hit; detail=known", remote: true}
	}
	if a, known := unasked(r.Repo, d); known {
		return a
	}
	slot, err := r.Slot(ctx, false)
	if err != nil {
		return blobAnswer{err: err}
	}
	defer slot.Release()
	size, err := slot.BlobSize(ctx, d)
	return blobAnswer{size: size, err: err, state: fwd("miss", err), remote: true}
}
