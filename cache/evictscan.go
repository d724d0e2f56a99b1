package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/evict"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// blobOf stands for a blob in a repository.
type blobOf [16]byte

func newBlobOf(repository string, d digest.Digest) blobOf {
	sum := sha256.Sum256([]byte(repository + "\x00" + string(d)))
	return blobOf(sum[:16])
}

// scan is what is stored, as eviction sees it.
type scan struct {
	graph   evict.Graph
	links   map[blobOf]uint32 // how many images of its repository name a blob
	covered map[string]bool   // whether a rule covers a repository
	busy    map[claim]bool    // what copy jobs are about
}

// scan looks at every image.
func (v *evictor) scan(ctx context.Context) (*scan, error) {
	lister, ok := store.As[store.Lister](v.local.near)
	manifests, ok1 := store.As[store.ManifestLister](v.local.near)
	_, ok2 := store.As[store.Deleter](v.local.near)
	if !ok || !ok1 || !ok2 {
		return nil, fmt.Errorf("the store cannot list and delete manifests: %w", errors.ErrUnsupported)
	}
	s := &scan{links: map[blobOf]uint32{}, covered: map[string]bool{}, busy: v.jobs()}
	for repo, err := range lister.Repositories(ctx, "") {
		if err != nil {
			return nil, err
		}
		r, err := v.origins.Find(ctx, repo)
		if err != nil {
			continue // the rules cannot be read: what it has stays
		}
		rule := ""
		if s.covered[repo] = r.Covered(); r.Covered() {
			rule = r.Match.Rule.Name
		}
		pinned, err := v.pinned(ctx, s, lister, repo)
		if err != nil {
			return nil, err
		}
		for info, err := range manifests.Manifests(ctx, repo) {
			if err != nil {
				return nil, err
			}
			man, err := v.read(ctx, repo, info.Digest)
			if err != nil {
				return nil, err // what it names would seem to be named by nobody
			}
			if man == nil {
				continue // deleted meanwhile, or damaged
			}
			s.add(rule, repo, info, man, v.useOf(repo, info), pinned(info.Digest))
		}
	}
	return s, nil
}

// jobs are what copy jobs are about.
func (v *evictor) jobs() map[claim]bool {
	busy := map[claim]bool{}
	for _, c := range v.ledger.Copies("") {
		busy[claim{c.Job.Repository, c.Job.Digest}] = true
		for _, d := range c.Manifest.Parsed.Blobs() {
			busy[claim{c.Job.Repository, d.Digest}] = true
		}
	}
	return busy
}

// pinned returns which manifests of a repository must stay.
func (v *evictor) pinned(ctx context.Context, s *scan, lister store.Lister, repo string) (func(d digest.Digest) bool, error) {
	if !s.covered[repo] || v.cfg.keeps(repo, "") {
		return func(digest.Digest) bool { return true }, nil
	}
	kept := map[digest.Digest]bool{}
	if v.cfg.keepsTags(repo) {
		for name, err := range lister.TagNames(ctx, repo, "") {
			if err != nil {
				return nil, err
			}
			if !v.cfg.keeps(repo, name) {
				continue
			}
			if t, err := v.local.near.Tag(ctx, repo, name); err == nil {
				kept[t.Digest] = true
			}
		}
	}
	return func(d digest.Digest) bool { return kept[d] || s.busy[claim{repo, d}] }, nil
}

// read parses a stored manifest, past what is remembered: an image is not used by that. The
// result is nil, without an error, if it is not there or damaged.
func (v *evictor) read(ctx context.Context, repo string, d digest.Digest) (*oci.Content, error) {
	info, body, err := v.local.near.Open(ctx, repo, d)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, upstream.MaxManifestSize+1))
	if err != nil {
		return nil, err
	}
	if d.Algorithm().FromBytes(data) != d {
		return nil, nil
	}
	return oci.NewContent(info.Descriptor, data, info.Source), nil
}

// add adds an image.
func (s *scan) add(rule, repo string, info store.Info, man *oci.Content, use evict.Use, pinned bool) {
	image := evict.Image{
		Rule: rule, Repository: repo, Digest: info.Digest, Bytes: man.Size, Subject: man.Parsed.Subject,
		Stored: info.Use.First, Use: use, Pinned: pinned,
	}
	for _, d := range man.Parsed.Blobs() {
		image.Blobs = append(image.Blobs, evict.Blob{Digest: d.Digest, Bytes: d.Size})
		s.links[newBlobOf(repo, d.Digest)]++
	}
	for _, d := range man.Parsed.Children() {
		image.Children = append(image.Children, d.Digest)
	}
	s.graph.Add(image)
}

// useOf is the use of an image as the store has recorded it. One that came back after it
// was given up has been used before.
func (v *evictor) useOf(repo string, info store.Info) evict.Use {
	u := info.Use
	if u.Hours < 2 {
		if back, ok := v.back.Get(newBlobOf(repo, info.Digest)); ok {
			return back
		}
	}
	return evict.UseOf(u.Last, u.Hours-1, u.Pause)
}

// strangerAge is how long a blob may be there without an image that names it: its image
// may come yet.
const strangerAge = time.Hour

// strangersMost is how many blobs without an image are remembered.
const strangersMost = 64 << 10

// dropStrangers deletes blobs that no image has named for a while, until need bytes are
// freed.
func (v *evictor) dropStrangers(ctx context.Context, s *scan, need int64) error {
	blobs, ok := store.As[store.BlobLister](v.local.near)
	if !ok || need <= 0 {
		return nil
	}
	seen, now := map[blobOf]time.Time{}, time.Now()
	defer func() { v.strangers = seen }()
	for repo, covered := range s.covered {
		if !covered || v.cfg.keeps(repo, "") {
			continue
		}
		for b, err := range blobs.Blobs(ctx, repo) {
			if err != nil {
				return err
			}
			k := newBlobOf(repo, b.Digest)
			if s.links[k] > 0 || s.busy[claim{repo, b.Digest}] || len(seen) == strangersMost {
				continue
			}
			since, known := v.strangers[k]
			if !known {
				since = now
			}
			if now.Sub(since) < strangerAge || need <= 0 {
				seen[k] = since
				continue
			}
			if err := v.deleteStranger(ctx, repo, b.Digest); err != nil {
				return err
			}
			need -= b.Size
		}
	}
	return nil
}

// deleteStranger deletes a blob unless a copy relies on it.
func (v *evictor) deleteStranger(ctx context.Context, repo string, d digest.Digest) error {
	v.local.claims.mu.Lock()
	defer v.local.claims.mu.Unlock()
	if v.local.claims.held[claim{repo, d}] > 0 {
		return nil
	}
	return v.local.evict(ctx, []store.Deletion{{Repo: repo, Digest: d}})
}
