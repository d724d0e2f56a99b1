package cache

import (
	"context"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/internal/share"
	"github.com/pullthrough/pullthrough/upstream"
)

// PeerBlob is what a Cache tells another replica about a blob.
type PeerBlob struct {
	// Size is its size in bytes, -1 if that is not known yet.
	Size int64
	// Front is how many bytes from the start are here, of a blob that is on its way.
	Front int64
	// Stored says that the blob is in the store, and Coming that it is being downloaded,
	// or written to the store.
	Stored, Coming bool
	// Verified says that all of a blob that is coming is here, and that its digest is right.
	Verified bool
	// Refused says that [Cache.ServePeer] refuses the blob, since the repository does not stand
	// for the source here, or since that cannot be told now.
	Refused bool
}

// StatPeer tells another replica whether a blob is here or on its way. repository must
// stand for exactly the source s here too; otherwise the blob is Refused. A download that
// waits for its slot is not on its way. No upstream is asked, and nothing begins. It is for package
// fleet, which has made sure that a replica asks.
func (c *Cache) StatPeer(ctx context.Context, repository string, s upstream.Source, d digest.Digest) PeerBlob {
	e := c.engine()
	r, err := e.forPeer(ctx, repository, s, d)
	if err != nil {
		return PeerBlob{Size: -1, Refused: true}
	}
	a, coming := e.fetcher.flights.Coming(flight.Key{Source: s, Digest: d}) // first, since a download ends in the store
	switch b, stored := e.storedBlob(ctx, r, d); {
	case stored:
		b.close()
		return PeerBlob{Size: b.size, Stored: true}
	case coming:
		return PeerBlob{Size: a.Size, Front: a.Front, Coming: true, Verified: a.Verified}
	}
	return PeerBlob{Size: -1}
}

// ServePeer answers GET for a blob to another replica, with ranges: from the store, from
// a download under way, or from one that begins now. repository must stand for exactly
// the source s here too, or the answer is 404. If a download cannot begin at once, the
// answer is 503 at once, since another replica may begin it.
//
// It is for package fleet, which has made sure that a replica asks, and that replica has
// asked its own Authorize. So Authorize, Next and Observe are not asked here. [Stats] does
// not count the request, which causes no copy; it counts what the upstream sends because of
// it. A response that cannot be finished ends its connection.
func (c *Cache) ServePeer(w http.ResponseWriter, r *http.Request, repository string, s upstream.Source, d digest.Digest) {
	e := c.engine()
	rec := &recorder{ResponseWriter: w, patience: e.limits.SendTimeout}
	repo, err := e.forPeer(r.Context(), repository, s, d)
	a := blobAnswer{err: err}
	if err == nil {
		a = e.blobForPeer(r.Context(), repo, d)
	}
	defer a.close()
	if a.err != nil {
		failure(repo, AccessBlob, d.String(), a.err).write(rec, false)
	} else {
		rec.Header().Set("Cache-Status", cacheName+a.state)
		if err := serveBlob(rec, r, d.String(), &a); err != nil {
			abort(w)
		}
	}
	rec.end()
}

// forPeer finds a repository in the name of another replica.
func (e *engine) forPeer(ctx context.Context, repository string, s upstream.Source, d digest.Digest) (origin.Repo, error) {
	r, err := e.nameDigest(ctx, AccessBlob, repository, d)
	if err == nil && (!r.Covered() || r.Match.Source != s) {
		err = &Error{Status: http.StatusNotFound, Code: CodeBlobUnknown,
			Message: fmt.Sprintf("repository '%s' does not stand for source '%s' of cache rule '%s' here", r.Name, s, s.Rule)}
	}
	return r.Repo, err
}

// blobForPeer is blob for another replica.
func (e *engine) blobForPeer(ctx context.Context, r origin.Repo, d digest.Digest) blobAnswer {
	s := r.Match.Source
	_, coming := e.fetcher.flights.Coming(flight.Key{Source: s, Digest: d}) // first, since a download ends in the store
	if a, stored := e.storedBlob(ctx, r, d); stored {
		return a
	}
	if !coming && !e.fetcher.flights.Room(share.Claim{Rule: s.Rule, Host: s.Host}) {
		return blobAnswer{err: flight.ErrBusy}
	}
	return e.bringBlob(ctx, r, d, true)
}
