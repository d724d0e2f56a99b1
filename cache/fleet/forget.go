package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/internal/backoff"
)

const (
	// maxDeletion is the size in bytes of the largest deletion.
	maxDeletion = 64 << 10
	// tellTime is how long a deletion waits until another replica knows of it.
	tellTime = 2 * time.Second
	// tellLongest is how long a replica that does not answer is told again.
	tellLongest = 10 * time.Minute
	// mostUntold is how many deletions are told again at once.
	mostUntold = 4096
)

// tellPause is the pause before a deletion is told again.
var tellPause = backoff.Backoff{First: time.Second, Longest: 30 * time.Second, Jitter: 0.2}

// Deleted tells the other replicas of a deletion, and waits for them, for 2 seconds at
// most; it is for the field Deleted of the cache. One that does not answer is told again
// for 10 minutes, or until Close; that one may serve from its memory until then what was
// deleted.
func (f *Fleet) Deleted(ctx context.Context, d cache.Deletion) {
	f.begin()
	if f.bad != nil {
		return
	}
	body, err := json.Marshal(d)
	if err != nil {
		return // it is plain data
	}
	var all sync.WaitGroup
	for _, peer := range f.members(ctx) {
		if peer == f.Self {
			continue
		}
		all.Go(func() {
			if err := f.tell(ctx, peer, body); err != nil {
				f.tellAgain(peer, d, body, err)
			}
		})
	}
	all.Wait()
}

// tell tells a replica of a deletion.
func (f *Fleet) tell(ctx context.Context, peer string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	resp, err := f.post(ctx, peer, "forget", body)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%w: %d to a deletion", errAnswer, resp.StatusCode)
	}
	return nil
}

// tellAgain tells a replica later of a deletion that it was not told of.
func (f *Fleet) tellAgain(peer string, d cache.Deletion, body []byte, err error) {
	log := f.log.With("self", f.Self, "peer", peer, "repository", d.Repository, "reference", d.Reference)
	const untold = "fleet: a replica is not told of a deletion; it may serve from its memory what was deleted"
	began := f.untold.Add(1) <= mostUntold && f.life.work.Go(func() {
		defer f.untold.Add(-1)
		if !f.tellUntil(peer, body) {
			log.Error(untold)
		}
	})
	if !began {
		f.untold.Add(-1)
		log.Error(untold, "err", err)
		return
	}
	log.Warn("fleet: a replica is told later of a deletion", "err", err)
}

// tellUntil tells a replica of a deletion again and again until it knows of it, or is none any
// more, for tellLongest, or until Close, when it is told a last time. It reports whether that one
// needs to hear no more of it.
func (f *Fleet) tellUntil(peer string, body []byte) bool {
	ctx := context.Background() // what is on its way at Close is not cut
	for n, end := 0, time.Now().Add(tellLongest); time.Now().Before(end) && f.life.ctx.Err() == nil; n++ {
		select {
		case <-time.After(tellPause.Pause(n)):
		case <-f.life.ctx.Done():
		}
		if !f.knows(ctx, peer) || f.tell(ctx, peer, body) == nil {
			return true
		}
	}
	return false
}

// forget follows a deletion of another replica.
func (h *handler) forget(w http.ResponseWriter, r *http.Request) {
	var d cache.Deletion
	if !h.read(w, r, maxDeletion, &d) {
		return
	}
	err := h.c.Forget(r.Context(), d)
	bad, _ := errors.AsType[*cache.Error](err)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case bad != nil && bad.Status < 500:
		w.WriteHeader(http.StatusBadRequest)
	default:
		h.f.log.Error("fleet: what another replica deleted cannot be forgotten", "self", h.f.Self, "repository", d.Repository, "reference", d.Reference, "err", err)
		w.WriteHeader(http.StatusInternalServerError)
	}
}
