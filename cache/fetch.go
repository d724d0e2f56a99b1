package cache

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// fetcher brings manifests and blobs from upstreams, for clients and for copies. It is
// safe for concurrent use.
type fetcher struct {
	local    *local
	flights  flight.Group
	spoolDir string
	log      *slog.Logger
	stats    *counters
	ended    context.Context
	room     func() error // why nothing is stored now, or nil
}

func newFetcher(c *Cache, local *local, l Limits, log *slog.Logger, stats *counters, ended context.Context) *fetcher {
	f := &fetcher{local: local, spoolDir: c.SpoolDir, log: log, stats: stats, ended: ended}
	f.flights = flight.Group{
		Downloads: l.Downloads, PerHost: l.DownloadsPerHost, Segments: l.Segments, Orphan: l.OrphanBytes,
		Idle: l.IdleTimeout, Answer: l.AnswerTimeout, Busy: l.SlotTimeout, StoreFailed: f.storeFailed,
		Least: max(0, l.LeastRate), Largest: max(0, l.BlobBytes),
	}
	return f
}

// storeFailed is called when a download cannot be kept.
func (f *fetcher) storeFailed(k flight.Key, err error) {
	if f.ended.Err() != nil || errors.Is(err, ErrDeleted) {
		return // it is not the store that failed
	}
	f.stats.storeErrors.Add(1)
	f.log.Error("the store does not take a blob; clients are served without it",
		"rule", k.Source.Rule, "source", k.Source.String(), "digest", k.Digest.String(), "err", err)
}

// manifest fetches a manifest. If known is not nil and the upstream says that the
// reference still stands for it, the error is [upstream.ErrUnchanged].
func (f *fetcher) manifest(ctx context.Context, slot origin.Slot, r origin.Repo, reference string, known *oci.Content) (*oci.Content, error) {
	var unless digest.Digest
	if known != nil {
		unless = known.Digest
	}
	desc, body, err := slot.Manifest(ctx, reference, unless)
	if err != nil {
		return nil, err
	}
	man := oci.NewContent(desc, body, r.From)
	if man.Parsed.Bad != nil {
		f.log.Warn("a manifest cannot be parsed; it is passed on and not copied", "repository", r.Name, "digest", desc.Digest.String(), "err", man.Parsed.Bad)
	}
	f.local.note(r, man)
	return man, nil
}

// manifestForCopy fetches a manifest for which no client waits.
func (f *fetcher) manifestForCopy(ctx context.Context, r origin.Repo, reference string) (*oci.Content, error) {
	slot, err := r.Slot(ctx, true)
	if err != nil {
		return nil, err
	}
	defer slot.Release()
	return f.manifest(ctx, slot, r, reference, nil)
}

// here counts the bytes of a blob that are stored or downloaded.
func (f *fetcher) here(ctx context.Context, r origin.Repo, source upstream.Source, d ocispec.Descriptor) int64 {
	if front, _, ok := f.flights.Peek(flight.Key{Source: source, Digest: d.Digest}); ok {
		return front
	}
	if f.local.hasBlob(ctx, r, d.Digest) {
		return d.Size
	}
	return 0
}

// knownSize is the size of a blob that need not be asked for.
func (f *fetcher) knownSize(r origin.Repo, d digest.Digest) (size int64, ok bool) {
	if s := f.local.blobSize(r, d); s.size >= 0 {
		return s.size, true
	}
	return f.flights.Known(flight.Key{Source: r.Match.Source, Digest: d})
}

// download describes the download of a blob.
func (f *fetcher) download(r origin.Repo, d digest.Digest, forCopy bool, began time.Time) flight.Request {
	known := f.local.blobSize(r, d)
	want := blobInfo(r, d, known.size)
	era := f.local.deleted.era.Load()
	return flight.Request{
		Key:      flight.Key{Source: r.Match.Source, Digest: d},
		Size:     known.size,
		Doubt:    known.doubt,
		Disputed: func() { f.local.disputed(r, d) },
		Writing:  func() (func(), error) { return f.local.deleted.write(r.Name, began) },
		Stored: func(size int64, open func() (io.ReadSeekCloser, error)) {
			if size > smallBlob {
				return
			}
			if file, err := open(); err == nil {
				_ = f.local.keepSmall(r, d, r.From, era, size, file).Close()
			}
		},
		Job:  forCopy,
		Open: func(ctx context.Context) (upstream.Repository, error) { return r.Connect(ctx, known.size) },
		Spool: func(ctx context.Context) (store.Spool, error) {
			if f.local.hasBlob(ctx, r, d) {
				return nil, flight.ErrStored
			}
			if err := f.room(); err != nil {
				return nil, err
			}
			if s, ok := store.As[store.Spooler](f.local.store); ok {
				return s.Spool(ctx, r.Name, want)
			}
			return newFileSpool(f.spoolDir, f.local.store, r.Name, want)
		},
	}
}

// blobsAtOnce is how many blobs of one manifest are fetched at once.
const blobsAtOnce = 4

// blobs brings the blobs of a manifest into the store.
func (f *fetcher) blobs(ctx context.Context, r origin.Repo, m *oci.Manifest, began time.Time) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(blobsAtOnce)
	for _, d := range m.Blobs() {
		g.Go(func() error {
			err := f.bring(ctx, r, d.Digest, began)
			// What manifests say of its size does not count any more, or the download that was
			// joined had begun before a deletion.
			if errors.Is(err, flight.ErrSize) || errors.Is(err, ErrDeleted) {
				err = f.bring(ctx, r, d.Digest, began)
			}
			return err
		})
	}
	return g.Wait()
}

// bring brings a blob into the store: it is there, another repository has it from the
// same origin and the upstream shows that it has the same, or it is downloaded.
func (f *fetcher) bring(ctx context.Context, r origin.Repo, d digest.Digest, began time.Time) error {
	if f.local.deletedSince(r, "", began) {
		return ErrDeleted
	}
	if f.local.hasBlob(ctx, r, d) {
		return nil
	}
	refused := false
	key := flight.Key{Source: r.Match.Source, Digest: d}
	if _, _, flying := f.flights.Peek(key); !flying {
		done, asked, err := f.adopt(ctx, r, d, true, began)
		if done {
			return err
		}
		refused = asked
	}
	h, err := f.flights.Join(ctx, f.download(r, d, true, began))
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Wait(ctx); err != nil && !errors.Is(err, flight.ErrStored) {
		r.Heard(err)
		return err
	}
	if refused && h.Via() == "" {
		r.RefusesHead(origin.Blob)
	}
	return nil
}

// adopt links bytes that came from the same origin before, if the upstream shows this
// rule that it has them. With done there is nothing to download, for better or worse;
// with asked the upstream's own host answered. What the upstream refuses to show, or
// shows differently, is no answer: the blob is downloaded. The upstream is not asked
// about what this repository has, since a download may have begun and ended since the
// caller looked.
func (f *fetcher) adopt(ctx context.Context, r origin.Repo, d digest.Digest, forCopy bool, began time.Time) (done, asked bool, err error) {
	var refused error
	written := func() {}
	defer func() { written() }()
	err = f.local.store.Adopt(ctx, r.Name, blobInfo(r, d, -1), func(ctx context.Context, have io.ReadSeeker) error {
		if !f.local.hasBlob(ctx, r, d) {
			if r.HeadRefused(origin.Blob) {
				return origin.ErrUnproven
			}
			asked = true
			if refused = prove(ctx, r, d, have, forCopy); refused != nil {
				return refused
			}
		}
		done, err := f.local.deleted.write(r.Name, began)
		if err == nil {
			written = done
		}
		return err
	})
	_, answer := errors.AsType[*upstream.Error](refused)
	switch {
	case err == nil:
		if asked {
			f.stats.adopted.Add(1)
		}
		return true, asked, nil
	case errors.Is(refused, origin.ErrGone):
		return true, false, refused
	case answer && upstream.Settles(refused): // a download would meet the same
		return true, asked, refused
	}
	own := answer || errors.Is(refused, origin.ErrUnproven) || errors.Is(refused, upstream.ErrIncomplete)
	return false, asked && own && !errors.Is(refused, origin.ErrElsewhere), nil
}

func prove(ctx context.Context, r origin.Repo, d digest.Digest, have io.ReadSeeker, forCopy bool) error {
	slot, err := r.Slot(ctx, forCopy)
	if err != nil {
		return err
	}
	defer slot.Release()
	return slot.Prove(ctx, d, have)
}
