// Package store keeps what was copied: content by digest, links that say which
// repository may read it, and tags.
//
// Bytes may be shared on disk; the right to read them is not. Content is
// visible in a repository only where it was linked: by [Content.Create], which
// brings the bytes, or by [Content.Adopt], which links bytes that another
// repository has from the same origin once the caller has proof of access.
//
// Content has two lives. While it is written nobody sees it; Commit is the only
// door, and the caller verifies the digest before it opens it. What is visible
// is complete, immutable, and survives the process.
//
// [Mem] and [Dir] are the stores of this package. Both are bounded whatever the
// sizes are that an upstream announces: Mem by MaxBytes, Dir by the free space of
// its file system. What does not fit is [ErrFull], before the writing or in the
// middle of it, after unfinished content that nobody has open has gone. Package
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
//	RecordSyncer           the last of those records when the power fails
//	Deleter                Cache.Delete
//	Lister                 the catalog, lists of repositories that no rule covers, and
//	                       the deletion of a manifest's tags together with it
//	ManifestLister         a view of the manifests that no tag names
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
	// ErrNotFound reports content, a tag or a record that is not there, or not
	// linked in this repository.
	ErrNotFound = errors.New("store: not found")
	// ErrStale reports a tag that already has an answer asked later.
	ErrStale = errors.New("store: the tag has a newer answer")
	// ErrFull reports that there is no room to store anything more. What is
	// stored can still be read.
	ErrFull = errors.New("store: full")
	// ErrInUse reports that another process has the store open.
	ErrInUse = errors.New("store: in use by another process")
	// ErrSize reports that the bytes written are not as many as announced.
	ErrSize = errors.New("store: size does not match")
)

// Info describes content in a repository.
type Info struct {
	// Descriptor has at least the digest. Size -1 is unknown. A MediaType for
	// which the function IsManifest holds makes it a manifest, and so does the
	// field Manifest; everything else is a blob and reads back as
	// application/octet-stream. Of manifests the store keeps MediaType,
	// ArtifactType and Annotations; they are what a referrer list shows.
	// Content that is linked as a manifest stays one when it is committed as a
	// blob: nobody can take a manifest away by naming it as a layer.
	ocispec.Descriptor
	// Manifest makes content a manifest whose MediaType the function IsManifest
	// does not know. The MediaType must not be empty then.
	Manifest bool
	// Source is where the bytes came from: scheme://host/repository.
	Source string
	// Subject is the manifest that a manifest refers to; empty: none.
	Subject digest.Digest
}

// IsManifest reports whether the content is a manifest: see Descriptor.
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

// Store keeps content and tags. Implementations must be safe for concurrent
// use and must not keep ctx beyond the call (a Writer's ctx: beyond its life).
//
// [ErrNotFound], [ErrFull], [ErrStale] and [ErrSize] mean what they say. Any other
// error is trouble of the store: package cache logs and counts it, treats the
// content as missing, and serves its clients from the upstream.
type Store interface {
	Content
	Tags
}

// Content keeps bytes by digest and who may read them.
type Content interface {
	// Stat tells about content that is linked in repo, else [ErrNotFound]. A
	// record that cannot be read counts as missing.
	Stat(ctx context.Context, repo string, d digest.Digest) (Info, error)

	// Open returns content that is linked in repo, else [ErrNotFound]. Every
	// call has a position of its own. A reader that is an *os.File is sent by
	// the kernel.
	Open(ctx context.Context, repo string, d digest.Digest) (Info, io.ReadSeekCloser, error)

	// Create begins to write content for repo. Nothing is visible before
	// Commit. [ErrFull] if there is no room.
	Create(ctx context.Context, repo string, want Info) (Writer, error)

	// Adopt links bytes in repo that some repository has from want's origin,
	// with want.Source as their new source there. It returns [ErrNotFound],
	// without a call of allowed, if nobody has them, and [ErrSize] if want.Size is
	// known and another; otherwise allowed decides, called with no lock held, and
	// its error is returned as it is. It is given the bytes, so that it can compare
	// them with what the caller may read; they are closed when it returns.
	Adopt(ctx context.Context, repo string, want Info, allowed func(ctx context.Context, have io.ReadSeeker) error) error
}

// Writer writes content in order. It is used by one goroutine.
type Writer interface {
	io.Writer
	// Commit makes the content visible in its repository, durably: a manifest
	// survives a power loss, together with everything that was committed in the
	// repository before it; a blob survives the process at least. The caller has
	// verified the digest. Content that is there already is linked, and a
	// link of another source is replaced. [ErrSize] if the size was announced
	// and is another.
	Commit(ctx context.Context) error
	// Close gives up what is not committed and frees everything.
	io.Closer
}

// Tag is what a tag points to and how we know.
type Tag struct {
	ocispec.Descriptor
	// Source is whose answer this is: scheme://host/repository.
	Source string
	// Asked is when the question was sent that got this answer.
	Asked time.Time
}

// Tags keeps tags.
type Tags interface {
	// Tag returns [ErrNotFound] if there is none, or none that can be read.
	Tag(ctx context.Context, repo, tag string) (Tag, error)
	// SetTag moves a tag, atomically and durably. [ErrStale] if the stored tag
	// has the same Source and was asked later; the very same answer again is
	// nil.
	SetTag(ctx context.Context, repo, tag string, t Tag) error
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
	// Spool returns the unfinished content of repo, want.Digest and want's
	// origin: new, or what a former process or [Checkpointer.Keep] left. At
	// most one is open at a time for each; a second is an error. [ErrFull] if
	// there is no room.
	Spool(ctx context.Context, repo string, want Info) (Spool, error)
}

// Spool is content while it is downloaded. It is safe for concurrent use; no
// byte is ever written twice.
type Spool interface {
	io.WriterAt
	// Open returns a handle with a position of its own. It can be read up to
	// what was written, also after Commit, Keep and Close, until closed.
	Open() (io.ReadSeekCloser, error)
	// Commit is that of [Writer]. got has the final size; an empty digest or
	// source is that of Spool's want, whose digest and origin it may not change.
	// It does not block WriteAt or Open while it waits for the disk. The spool
	// must still be closed.
	Commit(ctx context.Context, got Info) error
	// Close gives up what is neither committed nor kept.
	io.Closer
}

// Progress is how much of a spool is vouched for.
type Progress struct {
	Front int64  `json:"front"` // bytes from the start that are on disk
	Size  int64  `json:"size"`  // of the whole; -1: unknown
	Hash  []byte `json:"hash"`  // state of the digest's hash after Front bytes
}

// Checkpointer is an optional ability of a [Spool]: it outlives the process.
type Checkpointer interface {
	// Progress returns what the spool already had when it was opened; the zero
	// Progress if nothing.
	Progress() Progress
	// Checkpoint syncs what was written and then vouches for p. Only the last
	// one that succeeded counts after a crash.
	Checkpoint(p Progress) error
	// Keep closes the spool and leaves it for a later Spool call, as far as the
	// last checkpoint vouches for it. That call may cut the rest off: handles of
	// this spool can then be read up to the checkpoint only.
	Keep() error
}

// Records is an optional ability of a [Store]: small records that outlive the
// process. Keys are at most 128 characters of [A-Za-z0-9._-] and do not begin
// with a dot; so are kinds.
type Records interface {
	// PutRecord writes a record as a whole. Writes of one key keep their order.
	// It survives the process; a power loss may lose the last writes, see
	// [RecordSyncer].
	PutRecord(ctx context.Context, kind, key string, data []byte) error
	// Record returns a record, which is the caller's then, or [ErrNotFound]. One
	// that cannot be read counts as missing.
	Record(ctx context.Context, kind, key string) ([]byte, error)
	// DeleteRecord deletes a record; one that is not there is no error.
	DeleteRecord(ctx context.Context, kind, key string) error
	// RecordKeys yields the keys of a kind in no order. What is put or deleted
	// meanwhile may be there or not.
	RecordKeys(ctx context.Context, kind string) iter.Seq2[string, error]
}

// RecordSyncer is an optional ability of a [Records]: its records can be made to
// survive a loss of power too.
type RecordSyncer interface {
	// SyncRecords returns when all that was put and deleted of a kind before the
	// call is on disk. Calls at the same time share the work.
	SyncRecords(ctx context.Context, kind string) error
}

// Deleter is an optional ability of a [Store]. What is not there is no error.
type Deleter interface {
	// Delete unlinks content from a repository. Bytes that nobody links may be
	// freed.
	Delete(ctx context.Context, repo string, d digest.Digest) error
	// DeleteTag removes a tag.
	DeleteTag(ctx context.Context, repo, tag string) error
}

// Lister is an optional ability of a [Store]: what is there, in the order of
// the names' bytes.
type Lister interface {
	// Repositories yields the repositories that have a tag or a manifest, from
	// the first one after last on.
	Repositories(ctx context.Context, last string) iter.Seq2[string, error]
	// TagNames yields the tags of a repository after last.
	TagNames(ctx context.Context, repo, last string) iter.Seq2[string, error]
	// Referrers yields the manifests linked in repo whose Subject is d.
	Referrers(ctx context.Context, repo string, d digest.Digest) iter.Seq2[ocispec.Descriptor, error]
}

// ManifestLister is an optional ability of a [Store]: what a program needs that
// looks at everything a repository has, whether a tag names it or not.
type ManifestLister interface {
	// Manifests yields the manifests that are linked in repo, in the order of their
	// digests. One whose entry is damaged is skipped. What is linked or deleted
	// meanwhile may be yielded or not.
	Manifests(ctx context.Context, repo string) iter.Seq2[Info, error]
}
