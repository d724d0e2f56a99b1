package objectstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/store"
)

// link is what is kept of content in a repository: a [store.Info] as JSON.
type link struct {
	ocispec.Descriptor
	Manifest bool          `json:"manifest,omitempty"`
	Source   string        `json:"source"`
	Subject  digest.Digest `json:"subject,omitempty"`
}

func marshalLink(i store.Info) ([]byte, error) {
	return json.Marshal(link{Descriptor: i.Descriptor, Manifest: i.Manifest, Source: i.Source, Subject: i.Subject})
}

// parseLink returns what a link says of d. ok is false if it cannot be one.
func parseLink(data []byte, d digest.Digest, manifest bool) (info store.Info, ok bool) {
	var l link
	if json.Unmarshal(data, &l) != nil || l.Digest != d || l.Size < 0 {
		return store.Info{}, false
	}
	info = store.Info{Descriptor: l.Descriptor, Manifest: l.Manifest, Source: l.Source, Subject: l.Subject}
	info = info.Stored(l.Size)
	return info, info.IsManifest() == manifest && store.CheckInfo("a", info) == nil
}

// readLink reads one of the two links that content may have. One that is damaged counts as
// missing.
func (s *Store) readLink(ctx context.Context, repo string, d digest.Digest, manifest bool) (store.Info, error) {
	key, err := s.linkKey(repo, d, manifest)
	if err != nil {
		return store.Info{}, err
	}
	data, _, err := s.read(ctx, key)
	if err != nil {
		return store.Info{}, err
	}
	info, ok := parseLink(data, d, manifest)
	if !ok {
		return store.Info{}, s.damaged(key)
	}
	return info, nil
}

// damaged reports an object that cannot be what its key says, or that a link needs and that
// is not there.
func (s *Store) damaged(key string) error {
	s.log.Warn("an object of the store is damaged or lost; it counts as missing", "bucket", s.bucket.String(), "key", key)
	return fmt.Errorf("%s/%s: damaged: %w", s.bucket, key, store.ErrNotFound)
}

// linked returns what is linked in a repository, if anything is. Both links are asked for at
// once.
func (s *Store) linked(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	var manifest, layer store.Info
	var noManifest, noLayer error
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		manifest, noManifest = s.readLink(ctx, repo, d, true)
		return unexpected(noManifest)
	})
	g.Go(func() error {
		layer, noLayer = s.readLink(ctx, repo, d, false)
		return unexpected(noLayer)
	})
	if err := g.Wait(); err != nil {
		return store.Info{}, err
	}
	if noManifest == nil {
		return manifest, nil
	}
	return layer, noLayer
}

// unexpected returns err unless it is ErrNotFound.
func unexpected(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// Stat implements [store.Content]. A link whose bytes are not there counts as missing.
func (s *Store) Stat(ctx context.Context, repo string, d digest.Digest) (store.Info, error) {
	if err := checkContent(ctx, repo, d); err != nil {
		return store.Info{}, err
	}
	var info store.Info
	var o Object
	var missing error
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		info, err = s.linked(gctx, repo, d)
		return err
	})
	g.Go(func() error {
		o, missing = s.bucket.Head(gctx, s.blobKey(d))
		return unexpected(missing)
	})
	if err := g.Wait(); err != nil {
		return store.Info{}, err
	}
	if missing != nil || o.Size != info.Size {
		return store.Info{}, s.damaged(s.blobKey(d))
	}
	return info, nil
}

// Open implements [store.Content]. The bytes are asked for at once, so that a link without
// them counts as missing.
func (s *Store) Open(ctx context.Context, repo string, d digest.Digest) (store.Info, io.ReadSeekCloser, error) {
	if err := checkContent(ctx, repo, d); err != nil {
		return store.Info{}, nil, err
	}
	info, err := s.linked(ctx, repo, d)
	if err != nil {
		return store.Info{}, nil, err
	}
	r := newReader(context.WithoutCancel(ctx), s.bucket, s.blobKey(d), info.Size)
	if err := r.first(ctx); err != nil {
		_ = r.Close()
		if errors.Is(err, store.ErrNotFound) {
			return store.Info{}, nil, s.damaged(s.blobKey(d))
		}
		return store.Info{}, nil, err
	}
	return info, r, nil
}

// link makes content visible in a repository. Its bytes and their origin are there.
func (s *Store) link(ctx context.Context, repo string, info store.Info) error {
	key, err := s.linkKey(repo, info.Digest, info.IsManifest())
	if err != nil {
		return err
	}
	data, err := marshalLink(info)
	if err != nil {
		return err
	}
	if info.Subject != "" {
		hint, err := s.referrerKey(repo, info.Subject, info.Digest)
		if err != nil {
			return err
		}
		if err := s.mark(ctx, hint, nil); err != nil {
			return err
		}
	}
	return s.bucket.Put(ctx, key, data, Always)
}

// originKey is the key of a mark that bytes came from an origin.
func (s *Store) originKey(want store.Info) string {
	sum := sha256.Sum256([]byte(want.Origin()))
	d := want.Digest
	return s.root + "origins/" + d.Algorithm().String() + "/" + d.Encoded() + "/" + hex.EncodeToString(sum[:16])
}

// Adopt implements [store.Content].
func (s *Store) Adopt(ctx context.Context, repo string, want store.Info, allowed func(context.Context, io.ReadSeeker) error) error {
	if err := checkInfo(ctx, repo, want); err != nil {
		return err
	}
	var o Object
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := s.bucket.Head(gctx, s.originKey(want))
		return err
	})
	g.Go(func() (err error) {
		o, err = s.bucket.Head(gctx, s.blobKey(want.Digest))
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if want.Size >= 0 && want.Size != o.Size {
		return sizeError(want.Size, o.Size)
	}
	have := newReader(ctx, s.bucket, s.blobKey(want.Digest), o.Size)
	defer have.Close()
	if err := allowed(ctx, have); err != nil {
		return err
	}
	return s.link(ctx, repo, want.Stored(o.Size))
}

// sizeError reports content of got bytes that was announced with want.
func sizeError(want, got int64) error {
	return fmt.Errorf("%w: %d bytes, announced were %d", store.ErrSize, got, want)
}

// Delete implements [store.Deleter]. The bytes stay.
func (s *Store) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if err := checkContent(ctx, repo, d); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, manifest := range []bool{true, false} {
		key, err := s.linkKey(repo, d, manifest)
		if err != nil {
			return err
		}
		g.Go(func() error { return s.bucket.Delete(ctx, key) })
	}
	return g.Wait()
}
