package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"github.com/pullthrough/pullthrough/internal/durable"
)

// Dir keeps everything in a folder, on Unix, for one process at a time. It has
// every optional ability. It is safe for concurrent use; Open returns an
// *os.File.
//
//	blobs/sha256/ab/HEX        the bytes, immutable
//	blobs/sha256/ab/HEX@HASH   the same file: HASH is that of an origin they came from
//	partial/                   temporary files, spools and what vouches for them
//	repos/NAME/_blobs/         symbolic links: digest -> source
//	repos/NAME/_manifests/     one JSON record for each manifest
//	repos/NAME/_tags/          one JSON record for each tag
//	repos/NAME/_referrers/     by subject: symbolic links to records of manifests
//	records/KIND.log           small records, one after the other, with checksums
//	lock                       held while a process has it open
//
// Files have the mode 0600 and folders 0700, whatever the umask is. See [OpenDir]
// for the folders that it refuses.
//
// What a manifest or a tag names is durable before the manifest or tag is: committing
// or setting one first syncs everything that was committed in its repository. The
// bytes of a blob are synced when it is committed, but the folder that names them
// only with the next manifest or tag, so a power loss (not the end of the process)
// may take blobs that no manifest names.
//
// Delete removes links; the bytes stay in blobs/ until [Dir.Sweep].
//
// A Dir uses its file system until only MinFree of it is left. Downloads that
// broke off leave parts in partial/, which are bounded by MaxPartial. A part is
// removed a day after its last checkpoint, and the oldest parts are removed before
// that when there is no room. Parts that are open stay.
type Dir struct {
	// MinFree is the fraction of the file system that stays free. When less is left,
	// even after every part in partial/ that is not open was removed, Create, Spool
	// and writes to what they returned fail with [ErrFull]. Tags, records and content
	// of at most 64 KiB that was begun earlier are still written. The free space is
	// looked up again when a second has passed or 16 MiB were written. If zero, it is 0.05. If
	// negative, there is no limit. It must not change after the first use.
	MinFree float64
	// MaxPartial bounds the bytes in partial/ of parts that are not open. A part
	// counts 1 MiB at least, so that their number is bounded too. When there are
	// more bytes, the oldest parts are removed. If zero, it is 64 GiB. If negative,
	// there is no limit. It must not change after the first use.
	MaxPartial int64

	root  string
	lock  *os.File
	disk  durable.Disk
	dirty durable.Folders

	locks [64]sync.Mutex // by name, for what is read and then written

	pendingMu sync.Mutex
	pending   map[string]map[string]durable.Mark // folders to sync, by repository

	partsMu sync.Mutex
	parts   map[string]part // by the name of their files
	kept    atomic.Int64    // bytes that the parts count that are not open
	tick    tick            // clears them each hour, also without any call

	logsMu sync.Mutex
	logs   map[string]*recordLog // by kind, as they are used

	sweep    sync.RWMutex // held for writing while bytes are freed
	linkedMu sync.Mutex
	linked   map[digest.Digest]bool // linked before or during the Sweep that runs; nil without one
	sweeping sync.Mutex

	free    func(path string) (float64, bool) // durable.Free
	freeing sync.Mutex                        // held while the free space is looked up and room is made
	freeAt  atomic.Int64                      // when the free space was looked up last, in ns
	written atomic.Int64                      // bytes written since then
	full    atomic.Bool                       // less than MinFree was left then
}

// OpenDir opens the store in a folder, and creates it if it is not there. It
// clears what a former process left unfinished and cannot be taken up again.
//
// On a file system that is fuller than [Dir.MinFree] allows, OpenDir succeeds and no
// content is ever stored. With the default of 5 %, that is every disk that is more
// than 95 % full, as those of laptops often are. Create and Spool return [ErrFull]
// then. Package cache serves its clients from the upstream nevertheless, so only its
// log shows the reason. Set MinFree before the first use where less free space will
// do.
//
// The error wraps [ErrInUse] if another process has the folder open, and
// [errors.ErrUnsupported] where the system has no file locks.
//
// A folder that does not exist is created for the user of this process alone.
// OpenDir refuses a folder that belongs to another user or that the group or
// others may write, since what lies in it could be theirs. That holds for
// folders such as /tmp and for the mount points of volumes (a tmpfs, a Kubernetes
// volume with an fsGroup): name a folder in them. From an empty folder the right
// of the group is taken away instead. path may be a symbolic link to the folder,
// but nothing in the folder is opened through one.
func OpenDir(path string) (*Dir, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	d := &Dir{
		root:    root,
		parts:   make(map[string]part),
		free:    durable.Free,
		pending: make(map[string]map[string]durable.Mark),
		logs:    make(map[string]*recordLog),
	}
	d.disk.Temp = d.path("partial")
	d.dirty.Disk = &d.disk
	if err := d.open(); err != nil {
		if d.lock != nil {
			d.lock.Close()
		}
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	d.tick.start(func() { _, _ = d.clearStale() })
	return d, nil
}

func (d *Dir) open() error {
	note := func(parent string) { d.dirty.Dirty(parent) }
	for _, name := range []string{"", "partial", "blobs", "repos", "records"} {
		folder := filepath.Join(d.root, name)
		if err := d.disk.MkdirAll(folder, note); err != nil {
			return err
		}
		if err := durable.CheckOwn(folder, name == ""); err != nil {
			return err
		}
	}
	lock, err := durable.Lock(d.path("lock"))
	if errors.Is(err, durable.ErrLocked) {
		return ErrInUse
	}
	if err != nil {
		return err
	}
	d.lock = lock
	if st, err := lock.Stat(); err != nil {
		return err
	} else if st.Size() > 0 {
		// The former process did not close the store. What it had not synced is
		// visible, and this process would build upon it.
		durable.SyncAll()
	}
	if err := d.clearPartial(); err != nil {
		return err
	}
	if err := d.dirty.Sync(d.dirty.All()); err != nil {
		return err
	}
	_, err = lock.WriteAt([]byte("open\n"), 0)
	return err
}

// Close syncs what is committed and lets another process open the folder. The
// caller has stopped using the store.
func (d *Dir) Close() error {
	d.tick.stop()
	err := d.dirty.Sync(d.dirty.All())
	d.logsMu.Lock()
	defer d.logsMu.Unlock()
	for _, l := range d.logs {
		err = errors.Join(err, l.close())
	}
	if err == nil {
		err = d.lock.Truncate(0) // all is on disk
	}
	if cerr := d.lock.Close(); err == nil {
		err = cerr
	}
	return err
}

// path returns the path of something in the folder. Its parts need no cleaning.
func (d *Dir) path(parts ...string) string {
	n := len(d.root)
	for _, p := range parts {
		n += 1 + len(p)
	}
	b := make([]byte, 0, n)
	b = append(b, d.root...)
	for _, p := range parts {
		b = append(append(b, '/'), p...)
	}
	return string(b)
}

// locked locks a name, which has two parts, and returns its lock.
func (d *Dir) locked(a, b string) *sync.Mutex {
	h := uint32(2166136261) // FNV-1a
	for _, s := range [2]string{a, b} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
	}
	mu := &d.locks[h%uint32(len(d.locks))]
	mu.Lock()
	return mu
}

// fullError wraps an error by which the system reports a full disk into ErrFull.
func fullError(err error) error {
	if err != nil && durable.IsFull(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

var (
	_ Store          = (*Dir)(nil)
	_ Spooler        = (*Dir)(nil)
	_ Records        = (*Dir)(nil)
	_ RecordSyncer   = (*Dir)(nil)
	_ Deleter        = (*Dir)(nil)
	_ Lister         = (*Dir)(nil)
	_ ManifestLister = (*Dir)(nil)
)
