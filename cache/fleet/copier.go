package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/store"
)

const (
	// giveTime is how long another replica may take to write a copy job down.
	giveTime = 5 * time.Second
	// stateTime is how long it may take to say what became of one.
	stateTime = time.Second
	// patience is how long a replica that does not answer may take to come back, with the
	// copies that it has, until another one takes them over.
	patience = 5 * time.Second
	// newSilence is how long ago a replica did not answer for the last time if what it does now
	// says nothing of the time between. A witness that waits for an answer asks more often.
	newSilence = time.Minute
	// mostGiven is how many jobs a replica remembers to whom it gave them. It finds the
	// others by asking all.
	mostGiven = 16 << 10
)

// Copier is the [cache.Copier] of the cache of a replica, for a Store that all replicas
// share. One replica copies an image and sends its events: the first one of [Rank] for the
// manifest. The others, which have had the image pulled from them too, see to it that it is
// done: see [cache.Teller].
//
// If the Store is not shared, each replica copies for itself, as if it had no Copier, and
// each sends events of its own.
//
// It is safe for concurrent use.
type Copier struct {
	f      *Fleet
	c      *cache.Cache
	given  *lru.Cache[string, string] // to whom, by repository, digest and ID
	silent silences
}

// Copier returns the Copier of a cache, whose field Copier it is for.
func (f *Fleet) Copier(c *cache.Cache) *Copier {
	f.begin()
	return &Copier{f: f, c: c, given: lru.New[string, string](mostGiven), silent: silences{of: map[string]unheard{}}}
}

// Check reports that the Store of the cache is not shared, or what is wrong with the Fleet.
func (k *Copier) Check() error {
	if k.f.bad != nil {
		return k.f.bad
	}
	if k.c.Store == nil || !store.IsShared(k.c.Store) {
		return errors.New("fleet: the replicas do not share a store, so each of them copies for itself and sends events of its own")
	}
	return nil
}

// Submit implements [cache.Copier].
func (k *Copier) Submit(ctx context.Context, job cache.Job) error {
	_, err := k.Give(ctx, job)
	return err
}

// Give implements [cache.Teller].
func (k *Copier) Give(ctx context.Context, job cache.Job) (id string, err error) {
	f := k.f
	if k.Check() != nil {
		return "", cache.ErrHere
	}
	body, err := json.Marshal(job)
	if err != nil {
		return "", err
	}
	ranked := f.rank(ctx, key{job.Source, job.Digest})
	if f.leaving.Load() { // the last choice
		ranked = append(slices.DeleteFunc(ranked, func(p string) bool { return p == f.Self }), f.Self)
	}
	for _, peer := range ranked {
		if peer == f.Self {
			break
		}
		at, sent, err := k.post(ctx, peer, "copies", giveTime, body)
		switch {
		case err == nil:
			f.counts.given.Add(1)
			k.given.Put(givenKey(job, at.ID), peer, 1)
			return at.ID, nil
		case errors.Is(err, cache.ErrDeleted):
			return "", err
		case sent: // perhaps it has it
			k.given.Put(givenKey(job, job.ID), peer, 1)
			return "", nil
		}
		f.log.Debug("fleet: a replica does not take a copy job", "self", f.Self, "peer", peer, "repository", job.Repository, "digest", job.Digest.String(), "err", err)
	}
	return "", cache.ErrHere
}

func givenKey(job cache.Job, id string) string {
	return job.Repository + "@" + job.Digest.String() + " " + id
}

// Track implements [cache.Teller]: it asks who was given the job, and then all others.
func (k *Copier) Track(ctx context.Context, job cache.Job) (cache.JobStatus, error) {
	f := k.f
	body, err := json.Marshal(job)
	if err != nil || k.Check() != nil {
		return cache.JobStatus{}, err
	}
	peers := Rank(slices.DeleteFunc(slices.Clone(f.members(ctx)), func(p string) bool { return p == f.Self }), job.Source, job.Digest)
	var unsure error
	if owner, ok := k.given.Get(givenKey(job, job.ID)); ok {
		if i := slices.Index(peers, owner); i > 0 {
			peers = slices.Insert(slices.Delete(peers, i, i+1), 0, owner)
		} else if i < 0 && !k.silent.long(owner) {
			unsure = fmt.Errorf("fleet: %s is not among the replicas now", owner)
		}
	}
	for _, peer := range peers {
		at, _, err := k.post(ctx, peer, "copies/state", stateTime, body)
		switch {
		case err == nil && at.State != cache.JobUnknown:
			return at, nil
		case err != nil && ctx.Err() != nil:
			return at, context.Cause(ctx)
		case err != nil && !k.silent.long(peer):
			unsure = err
		}
	}
	return cache.JobStatus{}, unsure
}

// errAnswer is an answer other than the expected one.
var errAnswer = errors.New("fleet: a replica answered otherwise")

// post sends a job to another replica. sent says that the replica may have got it, though
// its answer is not known.
func (k *Copier) post(ctx context.Context, peer, path string, limit time.Duration, body []byte) (at cache.JobStatus, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var wrote atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	resp, err := k.f.post(httptrace.WithClientTrace(ctx, trace), peer, path, body)
	if err != nil {
		k.silent.failed(peer)
		return at, wrote.Load(), err
	}
	defer resp.Body.Close()
	k.silent.answered(peer)
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	switch {
	case resp.StatusCode == http.StatusGone:
		return at, false, cache.ErrDeleted
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted:
		return at, false, fmt.Errorf("%w: %d to %s", errAnswer, resp.StatusCode, path)
	case err == nil:
		err = json.Unmarshal(data, &at)
	}
	return at, err != nil, err
}

// post sends JSON to another replica.
func (f *Fleet) post(ctx context.Context, peer, path string, body []byte) (*http.Response, error) {
	req, err := f.request(ctx, http.MethodPost, peer, path)
	if err != nil {
		return nil, err
	}
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		f.failed(peer, err)
		return nil, err
	}
	f.answered(peer, resp)
	return resp, nil
}

// silences is which replicas do not answer questions about copies.
type silences struct {
	mu sync.Mutex
	of map[string]unheard
}

// unheard is when a replica did not answer: since when, as far as it was asked, and last.
type unheard struct{ since, last time.Time }

func (s *silences) failed(peer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(peer)
}

// note notes that a replica is silent, and returns since when. One that was not asked for long
// has not been silent for that long. s.mu is held.
func (s *silences) note(peer string) time.Time {
	now := time.Now()
	is, ok := s.of[peer]
	if !ok && len(s.of) >= maxPeers {
		clear(s.of)
	}
	if !ok || now.Sub(is.last) > newSilence {
		is.since = now
	}
	is.last = now
	s.of[peer] = is
	return is.since
}

func (s *silences) answered(peer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, peer)
}

// long reports whether a replica that does not answer has been silent for so long that it
// is not waited for.
func (s *silences) long(peer string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.note(peer)) >= patience
}
