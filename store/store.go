// Package store keeps what was copied: content by digest, links that say which
// repository may read it, and tags.
//
// Bytes may be shared on disk; the right to read them is not. Content is
// visible in a repository only where it was linked: by [Content.Create], which
// brings the bytes, or by [Content.Adopt], which links bytes that another
// repository has from the same origin once the caller has proof of access.
//
// Content has two lives. It is invisible while it is written. Commit alone makes
// it visible, and the caller verifies the digest before the call. What is visible
// is complete, immutable, and survives the process.
//
// [Mem] and [Dir] are the stores of this package, and [Tier], which has one of them before
// a store that several processes share. Mem and Dir are bounded whatever the
// sizes are that an upstream announces: Mem by MaxBytes, Dir by the free space of
// its file system. To make room they drop unfinished content that is not open; if
// that is not enough, beginning or writing content returns [ErrFull]. Package
// storetest checks stores of your own.
//
// # Abilities
//
// A store needs the methods of [Store] only. Everything else is an optional
// ability, an interface that [As] finds. [Lacks] says in words what a store has not.
//
//	Without this ability   you lose
//	Spooler                downloads that go on after a restart: a blob lies in a
//	                       temporary file, where clients read it meanwhile, and is
//	                       written to the store when it is whole
//	Checkpointer           downloads that go on after a crash; it is an ability of
//	                       what Spool returns, so Lacks cannot know it
//	Records                unfinished copies, events that are not delivered, and the
//	                       lists and manifests kept for when an upstream is away:
//	                       all of them end with the process
//	Batcher                one wait for the disk at the end of a copy instead of several, and
//	                       the certainty that a tag moved exactly if its event is kept
//	Mover                  of two caches with one store that copy an image at the same moment
//	                       both may send the event of its tag
//	Deleter                Cache.Delete
//	Lister                 the catalog, lists of repositories that no rule covers, and
//	                       the deletion of a manifest's tags together with it
//	ManifestLister         a view of the manifests that no tag names, and eviction
//	BlobLister             the deletion of a repository, and of blobs that nothing names
//	UseRecorder            what is used often is not known to eviction, which then gives
//	                       up the oldest first
//	Sizer                  the size of the store and of repositories, and limits for it
//
// Two more say what a store is, and lacking them is no loss:
//
//	With this ability      the store
//	Sharer                 may be read and written by other processes too
//	Tiered                 has copies in a near store, which eviction frees
package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/oci"
)

var (
	// ErrNotFound reports content, a tag or a record that is not there, and content
	// that is not linked in this repository.
	ErrNotFound = errors.New("store: not found")
	// ErrStale reports that the stored tag is the answer to a later request than
	// the one that is to be set.
	ErrStale = errors.New("store: the tag has a newer answer")
	// ErrFull reports that there is no room to store more. What is stored can still
	// be read.
	ErrFull = errors.New("store: full")
	// ErrInUse reports that another process has the store open.
	ErrInUse = errors.New("store: in use by another process")
	// ErrSize reports that the number of bytes is not the announced one.
	ErrSize = errors.New("store: size does not match")
)

// Info describes content in a repository.
type Info struct {
	// Descriptor has at least the digest. A Size of -1 is unknown. Content is a
	// manifest if the function IsManifest holds for its MediaType or the field
	// Manifest is set. All other content is a blob and reads back as
	// application/octet-stream. Of manifests the store keeps MediaType,
	// ArtifactType and Annotations; they are what a referrer list shows.
	// Content that is linked as a manifest stays one when it is committed as a
	// blob, so that an image that names a manifest as a layer does not hide it.
	ocispec.Descriptor
	// Manifest makes content a manifest whose MediaType the function IsManifest
	// does not know. The MediaType must not be empty then.
	Manifest bool
	// Source is where the bytes came from: scheme://host/repository.
	Source string
	// Subject is the digest that a manifest names as its subject. If empty, it names
	// none.
	Subject digest.Digest
	// Use is when and how often the content was used. Only the lists of a
	// [ManifestLister] have it, if the store is a [UseRecorder]; nothing reads it
	// elsewhere.
	Use Use
}

// IsManifest reports whether the content is a manifest, as the field Descriptor
// says.
func (i Info) IsManifest() bool {
	return IsManifest(i.MediaType) || i.Manifest && i.MediaType != ""
}

// Origin returns scheme://host of the Source. A Source without a scheme is its own
// origin.
func (i Info) Origin() string {
	scheme, rest, ok := strings.Cut(i.Source, "://")
	if !ok {
		return i.Source
	}
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}

// IsManifest reports whether a media type is known to be that of a manifest or
// an index: of OCI, of Docker schema 2, or of artifacts from before OCI 1.1.
func IsManifest(mediaType string) bool { return oci.IsManifest(mediaType) }

// Store keeps content and tags. Implementations must be safe for concurrent use.
// They must not keep ctx beyond the call, or, in Create, beyond the life of the
// Writer.
//
// Callers distinguish [ErrNotFound], [ErrFull], [ErrStale] and [ErrSize]. Any other
// error is a failure of the store: package cache logs and counts it, treats the
// content as missing, and serves its clients from the upstream.
type Store interface {
	Content
	Tags
}

// Content keeps bytes by digest, and which repositories may read them.
type Content interface {
	// Stat describes content that is linked in repo. It returns [ErrNotFound] if
	// there is none, or its entry is damaged.
	Stat(ctx context.Context, repo string, d digest.Digest) (Info, error)

	// Open opens content that is linked in repo. It returns [ErrNotFound] like
	// Stat. Every reader has a position of its own. Package cache lets the kernel
	// send a reader that is an *os.File.
	Open(ctx context.Context, repo string, d digest.Digest) (Info, io.ReadSeekCloser, error)

	// Create begins to write content for repo. Nothing is visible before Commit.
	// Create returns [ErrFull] if there is no room.
	Create(ctx context.Context, repo string, want Info) (Writer, error)

	// Adopt links bytes in repo that some repository has from want's origin, with
	// want.Source as their source in repo. It returns [ErrNotFound] if no repository
	// has them, and [ErrSize] if want.Size is known and differs from theirs.
	// Otherwise it calls allowed, with no lock held, and links them if the result is
	// nil; an error of allowed is returned as it is. The reader have yields the bytes,
	// so that allowed can compare them with what the caller may read. It is closed
	// when allowed returns.
	Adopt(ctx context.Context, repo string, want Info, allowed func(ctx context.Context, have io.ReadSeeker) error) error
}

// Writer writes content in order. It is used by one goroutine.
type Writer interface {
	io.Writer
	// Commit makes the content visible in its repository, durably: a manifest
	// survives a power loss, together with everything that was committed in the
	// repository before it; a blob survives the process at least. The caller has
	// verified the digest. Content that is there already is linked, and a link with
	// another source is replaced. Commit returns [ErrSize] if the announced size
	// differs from what was written.
	Commit(ctx context.Context) error
	// Close gives up what is not committed and frees everything that the Writer
	// holds.
	io.Closer
}

// Tag is what a tag points to, and by which answer of an upstream.
type Tag struct {
	ocispec.Descriptor
	// Source is the upstream repository that answered: scheme://host/repository.
	Source string
	// Asked is when the request for this answer was sent.
	Asked time.Time
}

// Tags keeps tags.
type Tags interface {
	// Tag returns what a tag points to. It returns [ErrNotFound] if the tag is not
	// there, or its entry is damaged.
	Tag(ctx context.Context, repo, tag string) (Tag, error)
	// SetTag sets or moves a tag, atomically and durably. It returns [ErrStale], and
	// leaves the tag as it is, if the stored tag has the same Source and was asked
	// later. To set the stored answer again is no error.
	SetTag(ctx context.Context, repo, tag string, t Tag) error
}

// Mover is an optional ability of a [Store] that several caches share: it tells which of
// two that move a tag to the same place at once has moved it, so that the tag's event is
// sent once. It is used instead of SetTag, so [As] finds it on the outermost store only.
type Mover interface {
	// MoveTag is SetTag, and returns what the tag pointed to just before; the zero Tag if
	// it was not there. After an error nothing is known of that.
	MoveTag(ctx context.Context, repo, tag string, t Tag) (former Tag, err error)
}

// Spooler is an optional ability of a [Store]: content that can be read while
// it is written, out of order, and taken up again by a later process.
//
// Blobs are then downloaded with Spool instead of Create. So [As] finds Spool on
// the outermost store only: a wrapper that overrides Create sees every write, and
// gives up what Spool is good for. A wrapper that wants to keep that has a Spool
// of its own, which calls the one of the store behind it:
//
//	func (w *wrapper) Spool(ctx context.Context, repo string, want store.Info) (store.Spool, error) {
//		return w.inner.Spool(ctx, repo, want) // inner is a store.Spooler
//	}
//
// It returns that [Spool] itself, or one that implements [Checkpointer] too if that
// one does.
type Spooler interface {
	// Spool opens the unfinished content of repo, want.Digest and want's origin:
	// what a former process or [Checkpointer.Keep] left, or else a new one. One of
	// them can be open at a time; a second call returns an error. Spool returns
	// [ErrFull] if there is no room.
	Spool(ctx context.Context, repo string, want Info) (Spool, error)
}

// Spool is content while it is downloaded. It is safe for concurrent use; no
// byte is ever written twice.
type Spool interface {
	io.WriterAt
	// Open returns a handle with a position of its own. It can be read up to
	// what was written, also after Commit, Keep and Close, until closed.
	Open() (io.ReadSeekCloser, error)
	// Commit does what Commit of a [Writer] does. got has the final size. If its
	// digest or source is empty, that of Spool's want is used; another digest or
	// another origin is an error. Commit does not block WriteAt or Open while it
	// waits for the disk. The Spool must still be closed.
	Commit(ctx context.Context, got Info) error
	// Close gives up what is neither committed nor kept.
	io.Closer
}

// Progress says up to where the bytes of a spool can be trusted.
type Progress struct {
	Front int64  `json:"front"` // bytes from the start that are on disk
	Size  int64  `json:"size"`  // bytes of the whole, or -1 if that is unknown
	Hash  []byte `json:"hash"`  // state of the digest's hash after Front bytes
	// Spans are further parts that are on disk, beyond Front: in ascending order, apart
	// from one another and from Front, and 64 of them at most. A store may forget them.
	Spans []Span `json:"spans,omitempty"`
}

// Span is the bytes from Start on, before End.
type Span struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// maxSpans is how many spans a Progress may have.
const maxSpans = 64

// end is where the last byte is that p vouches for.
func (p Progress) end() int64 {
	if n := len(p.Spans); n > 0 {
		return p.Spans[n-1].End
	}
	return p.Front
}

// Checkpointer is an optional ability of a [Spool], whose content then outlives the
// process.
type Checkpointer interface {
	// Progress returns what the spool already had when it was opened. For a new one
	// it is the zero Progress.
	Progress() Progress
	// Checkpoint syncs what was written and then records p. After a crash the last
	// checkpoint that succeeded counts; a loss of power may take the whole spool.
	Checkpoint(p Progress) error
	// Keep closes the spool and leaves for a later call of Spool what the last checkpoint
	// vouches for. That call may cut the rest off: handles of this spool can then be read
	// up to there only.
	Keep() error
}

// Records is an optional ability of a [Store]: small records that outlive the
// process. Kinds and keys are words of at most 128 characters of [A-Za-z0-9._-] that
// do not begin with a dot.
type Records interface {
	// PutRecord writes a record as a whole. Writes of one key keep their order. When it
	// returns, the record survives the process, and a loss of power too if the store is
	// on a disk.
	PutRecord(ctx context.Context, kind, key string, data []byte) error
	// Record returns the data of a record; the caller may change it. It returns
	// [ErrNotFound] if the record is not there or is damaged.
	Record(ctx context.Context, kind, key string) ([]byte, error)
	// DeleteRecord deletes a record. A record that is not there is no error.
	DeleteRecord(ctx context.Context, kind, key string) error
	// RecordKeys yields the keys of a kind in any order. A record that is put or
	// deleted meanwhile may be yielded or not.
	RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error]
}

// Deleter is an optional ability of a [Store]. Deleting what is not there is no
// error.
type Deleter interface {
	// Delete unlinks content from a repository. The bytes may be freed when no
	// repository links them.
	Delete(ctx context.Context, repo string, d digest.Digest) error
	// DeleteTag removes a tag. What it points to stays.
	DeleteTag(ctx context.Context, repo, tag string) error
}

// Lister is an optional ability of a [Store]: lists of what is stored, in the order
// of the names' bytes.
type Lister interface {
	// Repositories yields the repositories that have a tag or a manifest and whose
	// names come after last. If last is empty, it yields all.
	Repositories(ctx context.Context, last string) iter.Seq2[string, error]
	// TagNames yields the tags of a repository that come after last. If last is
	// empty, it yields all.
	TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error]
	// Referrers yields the manifests linked in repo whose Subject is d, in the order
	// of their digests.
	Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[ocispec.Descriptor, error]
}

// BlobLister is an optional ability of a [Store]: the content of a repository that is no
// manifest.
type BlobLister interface {
	// Blobs yields the blobs that are linked in repo, in the order of their digests. What
	// is linked or deleted meanwhile may be yielded or not.
	Blobs(ctx context.Context, repo string) iter.Seq2[Info, error]
}

// ManifestLister is an optional ability of a [Store]: what a program needs that
// looks at everything a repository has, whether a tag names it or not.
type ManifestLister interface {
	// Manifests yields the manifests that are linked in repo, in the order of their
	// digests. One whose entry is damaged is skipped. What is linked or deleted
	// meanwhile may be yielded or not.
	Manifests(ctx context.Context, repo string) iter.Seq2[Info, error]
}
