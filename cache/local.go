package cache

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/internal/lru"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// local is what is stored here, and what is remembered of it and of verified
// manifests. Content is served in a repository only if it came from the source that the
// repository has now. It is safe for concurrent use.
type local struct {
	store   store.Store
	near    store.Store   // what eviction frees: the near store of a store.Tiered, or store itself
	tiered  store.Tiered  // nil if the store has no near one
	records store.Records // of the store; nil if it has none
	log     *slog.Logger
	stats   *counters

	manifests *lru.Cache[ledger.Key, *oci.Content] // stored ones
	small     *lru.Cache[ledger.Key, *memoryBlob]  // stored blobs
	tags      *lru.Cache[tagKey, *storedTag]
	blobSizes *lru.Cache[sourced, blobSize]
	indexes   *lru.Cache[ledger.Key, digest.Digest] // of a manifest, the index that names it
	read      *shelf                                // manifests that clients have read and that are not stored
	deleted   deletions
	claims    claims                                   // of copies in progress
	uses      store.UseRecorder                        // of the store; nil if it records none
	stored    func(repository string, d digest.Digest) // called when a manifest was linked
}

func newLocal(s store.Store, records store.Records, l Limits, log *slog.Logger, stats *counters) *local {
	uses, _ := store.As[store.UseRecorder](s)
	near := s
	tiered, ok := store.As[store.Tiered](s)
	if ok {
		near = tiered.NearStore()
	}
	return &local{
		near: near, tiered: tiered,
		uses: uses, stored: func(string, digest.Digest) {},
		store: s, records: records, log: log, stats: stats,
		manifests: lru.New[ledger.Key, *oci.Content](l.ManifestMemory),
		small:     lru.New[ledger.Key, *memoryBlob](l.ManifestMemory / 4),
		tags:      lru.New[tagKey, *storedTag](l.ManifestMemory),
		blobSizes: lru.New[sourced, blobSize](many),
		indexes:   lru.New[ledger.Key, digest.Digest](many),
		read:      newShelf("manifests", records, l.KeptBytes),
		deleted:   newDeletions(),
	}
}

// remembered returns a stored manifest if it is in memory. If not, the result is nil.
func (l *local) remembered(r origin.Repo, d digest.Digest) *oci.Content {
	if man, ok := l.manifests.Get(keyOf(r, d)); ok && r.MayServe(man.From) {
		return man
	}
	return nil
}

// manifest returns a stored manifest: all that it names is stored too. If there is
// none, the result is nil.
func (l *local) manifest(ctx context.Context, r origin.Repo, d digest.Digest) *oci.Content {
	if man := l.remembered(r, d); man != nil {
		return man
	}
	k := keyOf(r, d)
	era := l.deleted.era.Load()
	info, body, err := l.store.Open(ctx, r.Name, d)
	if err != nil {
		return nil
	}
	defer body.Close()
	if !info.IsManifest() || !r.MayServe(info.Source) || info.Size > upstream.MaxManifestSize {
		return nil
	}
	data, err := readStored(body, info.Size)
	if err != nil && ctx.Err() != nil {
		return nil // the caller has left, which is no trouble of the store
	}
	if err != nil || d.Algorithm().FromBytes(data) != d {
		l.log.Error("a stored manifest cannot be read or is damaged; it counts as missing", "repository", r.Name, "digest", d.String(), "err", err)
		return nil
	}
	info.Size = int64(len(data))
	man := oci.NewContent(info.Descriptor, data, info.Source)
	l.remember(r, man)
	if l.deleted.era.Load() != era { // perhaps this one
		l.manifests.Delete(k)
	}
	return man
}

// readStored reads what is stored of a size, or of a size that the store does not know.
func readStored(body io.Reader, size int64) ([]byte, error) {
	if size < 0 {
		return io.ReadAll(io.LimitReader(body, upstream.MaxManifestSize+1))
	}
	data := make([]byte, size)
	_, err := io.ReadFull(body, data)
	return data, err
}

// remember keeps a stored manifest in memory.
func (l *local) remember(r origin.Repo, man *oci.Content) {
	l.note(r, man)
	l.manifests.Put(keyOf(r, man.Digest), man, man.Cost())
}

// used records the first use of a manifest in an hour, in the store.
func (l *local) used(r origin.Repo, man *oci.Content) {
	if l.uses != nil {
		l.uses.RecordUse(r.Name, man.Digest)
	}
}

// anyImage reports whether an index can be served: one of its images is stored, or it
// has none.
func (l *local) anyImage(ctx context.Context, r origin.Repo, index *oci.Manifest) bool {
	images := index.Images()
	for _, d := range images {
		if l.manifest(ctx, r, d.Digest) != nil {
			return true
		}
	}
	return len(images) == 0
}

// facts is what the ledger wants to know of a manifest. The store is not asked for the
// manifest if absent, which may be nil, says that it is not stored.
func (l *local) facts(ctx context.Context, r origin.Repo, man *oci.Content, absent func() bool) func(layers bool) ledger.Facts {
	return func(layers bool) ledger.Facts {
		var f ledger.Facts
		if absent == nil || !absent() {
			f.Stored = l.manifest(ctx, r, man.Digest) != nil
		}
		if !layers {
			return f
		}
		all, lacks := map[digest.Digest]bool{}, false
		for _, d := range man.Parsed.Layers {
			all[d.Digest] = true
			lacks = lacks || !l.hasBlob(ctx, r, d.Digest)
		}
		if lacks {
			f.Layers = all
		}
		return f
	}
}

// hasBlob reports whether a blob is stored and may be served.
func (l *local) hasBlob(ctx context.Context, r origin.Repo, d digest.Digest) bool {
	info, err := l.store.Stat(ctx, r.Name, d)
	return err == nil && !info.IsManifest() && r.MayServe(info.Source)
}

// openBlob opens a stored blob; false if there is none that may be served.
func (l *local) openBlob(ctx context.Context, r origin.Repo, d digest.Digest) (blob io.ReadSeekCloser, size int64, ok bool) {
	if b, ok := l.openSmall(r, d); ok {
		return b, int64(len(b.blob.data)), true
	}
	era := l.deleted.era.Load()
	info, file, err := l.store.Open(ctx, r.Name, d)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
			l.stats.storeErrors.Add(1)
			l.log.Error("a stored blob cannot be read; it is asked for upstream", "repository", r.Name, "digest", d.String(), "err", err)
		}
		return nil, 0, false
	}
	size, err = file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil || info.IsManifest() || !r.MayServe(info.Source) || info.Size >= 0 && info.Size != size {
		_ = file.Close()
		return nil, 0, false
	}
	if size <= smallBlob {
		file = l.keepSmall(r, d, info.Source, era, size, file)
	}
	return file, size, true
}

// What is known is not asked: the size of a blob that a verified manifest names, or
// that is being downloaded, is its size for a HEAD too. A size belongs to the
// manifest that names it, not to the digest; bytes that hash right are right,
// whatever a manifest says of their size.

// blobSize is what the manifests of one source say about the size of a blob.
type blobSize struct {
	size  int64 // -1 if they disagree, or if the upstream disagreed with them
	doubt bool  // the upstream disagreed
}

// note keeps what a verified manifest says of others: the sizes of blobs, and which
// manifests are parts of an index.
func (l *local) note(r origin.Repo, man *oci.Content) {
	for _, d := range man.Parsed.Blobs() {
		l.blobSizes.Update(sourcedOf(r, d.Digest), func(old blobSize, ok bool) (blobSize, int64, bool) {
			if ok && old.size != d.Size {
				return blobSize{-1, old.doubt}, 1, true
			}
			return blobSize{d.Size, old.doubt}, 1, true
		})
	}
	for _, d := range man.Parsed.Children() {
		l.indexes.Put(keyOf(r, d.Digest), man.Digest, 1)
	}
}

// blobSize is the size of a blob as far as the manifests that name it agree.
func (l *local) blobSize(r origin.Repo, d digest.Digest) blobSize {
	s, ok := l.blobSizes.Get(sourcedOf(r, d))
	if !ok {
		return blobSize{size: -1}
	}
	return s
}

// disputed notes that the upstream has a blob of another size than manifests say.
func (l *local) disputed(r origin.Repo, d digest.Digest) {
	l.blobSizes.Put(sourcedOf(r, d), blobSize{-1, true}, 1)
}

// linkInfo describes a manifest to the store.
func linkInfo(r origin.Repo, man *oci.Content) store.Info {
	info := store.Info{Descriptor: man.Descriptor, Manifest: true, Source: r.From, Subject: man.Parsed.Subject}
	if man.Parsed.Subject != "" {
		info.ArtifactType, info.Annotations = man.Parsed.ArtifactType, man.Parsed.Annotations
	}
	return info
}

// blobInfo describes a blob to the store.
func blobInfo(r origin.Repo, d digest.Digest, size int64) store.Info {
	return store.Info{Source: r.From, Descriptor: ocispec.Descriptor{Digest: d, Size: size}}
}
