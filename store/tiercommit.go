package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/internal/oci"
)

// blobsAtOnce is how many blobs of one manifest are looked up and sent far at once.
const blobsAtOnce = 4

// commit sends far what a manifest names, then the manifest, and links it near.
func (t *Tier) commit(ctx context.Context, repo string, want Info, body []byte) error {
	if m, err := oci.Parse(want.MediaType, body); err == nil {
		if err := t.sendAll(ctx, repo, m); err != nil {
			return err
		}
	}
	m := &t.state().memory
	deletions := m.deletions.Load()
	err := t.ask(ctx, writePatience, func(ctx context.Context, _ *time.Timer) error {
		return put(ctx, t.Far, repo, want, bytes.NewReader(body))
	})
	if err != nil {
		return err
	}
	m.sent(repo, want, deletions)
	return t.linkNear(ctx, repo, want, body)
}

// linkNear links a manifest near that Far has. If that fails, Near may have nothing of it:
// the manifest is stored, and is brought near when it is read.
func (t *Tier) linkNear(ctx context.Context, repo string, want Info, body []byte) error {
	err := put(ctx, t.Near, repo, want, bytes.NewReader(body))
	if err == nil {
		return nil
	}
	if old, serr := t.Near.Stat(ctx, repo, want.Digest); errors.Is(serr, ErrNotFound) || serr == nil && old.Source == want.Source && old.IsManifest() {
		t.log().Warn("a manifest is stored far, but not near", "repository", repo, "digest", want.Digest.String(), "err", err)
		return nil
	}
	return err
}

// sendAll sends the blobs of a manifest far.
func (t *Tier) sendAll(ctx context.Context, repo string, m *oci.Manifest) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	for _, d := range m.Blobs() {
		g.Go(func() error { return t.send(ctx, repo, d.Digest) })
	}
	return g.Wait()
}

// send sees to it that Far has a blob of a manifest that is about to be committed.
func (t *Tier) send(ctx context.Context, repo string, d digest.Digest) error {
	info, err := t.Near.Stat(ctx, repo, d)
	if errors.Is(err, ErrNotFound) {
		if _, err = t.Stat(ctx, repo, d); errors.Is(err, ErrNotFound) {
			return fmt.Errorf("store: a manifest names %s, which %s does not have", d, repo)
		}
		return err
	}
	if err != nil {
		return err
	}
	m := &t.state().memory
	if m.hasFrom(repo, info) {
		return nil
	}
	release, err := t.state().turns.take(ctx, d) // another commit may be sending it
	if err != nil {
		return err
	}
	defer release()
	if m.hasFrom(repo, info) {
		return nil
	}
	if err := t.linkFar(ctx, repo, info); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrSize) {
		return err
	}
	deletions := m.deletions.Load()
	if err := t.upload(ctx, repo, info); err != nil {
		return err
	}
	m.sent(repo, info, deletions)
	return nil
}

// errLinked ends an Adopt of what is linked already.
var errLinked = errors.New("store: linked already")

// linkFar links a blob far whose bytes Far has from the same origin. The right to read
// them was earned near. It returns [ErrNotFound] if Far does not have them. This is the one
// look at Far for a blob that is new: its bytes, and, only if they are there, its link.
func (t *Tier) linkFar(ctx context.Context, repo string, info Info) error {
	m := &t.state().memory
	if m.lacks(originOf(info)) {
		return ErrNotFound
	}
	linked, deletions := info, m.deletions.Load()
	err := t.ask(ctx, writePatience, func(ctx context.Context, _ *time.Timer) error {
		err := t.Far.Adopt(ctx, repo, info, func(ctx context.Context, _ io.ReadSeeker) error {
			has, err := t.Far.Stat(ctx, repo, info.Digest)
			if err == nil && (has.Source == info.Source || has.IsManifest()) {
				linked = has
				return errLinked
			}
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			return err
		})
		if errors.Is(err, errLinked) {
			return nil
		}
		return err
	})
	if err == nil {
		linked.Source = info.Source
		m.sent(repo, linked, deletions)
	}
	return err
}

// upload writes a blob of Near far. What is damaged near is deleted there, so that it is
// brought again.
func (t *Tier) upload(ctx context.Context, repo string, info Info) error {
	_, r, err := t.Near.Open(ctx, repo, info.Digest)
	if err != nil {
		return fmt.Errorf("store: %s in %s is to be sent far: %v", info.Digest, repo, err) // what is gone is no answer about the manifest
	}
	defer r.Close()
	err = t.transfer(ctx, func(ctx context.Context, moves func()) error {
		return put(ctx, movingStore{t.Far, moves, asFar}, repo, info, nearReader{r})
	})
	if errors.Is(err, errDamagedCopy) {
		t.log().Error("a blob is damaged near; it is given up", "repository", repo, "digest", info.Digest.String())
		return errors.Join(err, t.deleteNear(ctx, repo, info.Digest))
	}
	return err
}

// transfer calls Far for as long as bytes move.
func (t *Tier) transfer(ctx context.Context, do func(ctx context.Context, moves func()) error) error {
	c, err := t.call(ctx, stallTime)
	if err != nil {
		return err
	}
	return c.end(do(c.ctx, func() { c.clock.Reset(stallTime) }))
}

// nearError is an error of Near during a call of Far, which says nothing about Far.
type nearError struct{ error }

func (e nearError) Unwrap() error { return e.error }

func asFar(err error) error { return err }

func asNear(err error) error {
	if err == nil {
		return nil
	}
	return nearError{err}
}

// nearReader reads from Near.
type nearReader struct{ r io.Reader }

func (n nearReader) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		err = asNear(err)
	}
	return k, err
}

// movingStore is a store to which content is written, and says when bytes move and whose
// errors are met.
type movingStore struct {
	Store
	moves func()
	whose func(error) error
}

func (s movingStore) Create(ctx context.Context, repo string, want Info) (Writer, error) {
	w, err := s.Store.Create(ctx, repo, want)
	if err != nil {
		return nil, s.whose(err)
	}
	return movingWriter{w, s}, nil
}

type movingWriter struct {
	Writer
	s movingStore
}

func (w movingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.s.moves()
	return n, w.s.whose(err)
}

func (w movingWriter) Commit(ctx context.Context) error { return w.s.whose(w.Writer.Commit(ctx)) }

// turns lets one goroutine at a time deal with a digest. The zero value works.
type turns struct {
	mu    sync.Mutex
	taken map[digest.Digest]chan struct{}
}

// take waits until nobody else deals with a digest.
func (u *turns) take(ctx context.Context, d digest.Digest) (release func(), err error) {
	for {
		u.mu.Lock()
		other := u.taken[d]
		if other == nil {
			if u.taken == nil {
				u.taken = make(map[digest.Digest]chan struct{})
			}
			mine := make(chan struct{})
			u.taken[d] = mine
			u.mu.Unlock()
			return func() {
				u.mu.Lock()
				delete(u.taken, d)
				u.mu.Unlock()
				close(mine)
			}, nil
		}
		u.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
