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
// What a manifest or a tag stands for is durable before it is: committing one
// first syncs everything that was committed in its repository. Blobs alone are
// synced, but the folders that name them wait for the next manifest or tag, so a
// power loss (not the end of the process) may lose blobs that no manifest names.
//
// Delete removes links; the bytes stay in blobs/ until [Dir.Sweep].
//
// A Dir uses its file system until only MinFree of it is left. Downloads that
// broke off leave parts in partial/, which are bounded by MaxPartial. A part goes
// a day after its last checkpoint, and the oldest parts go before that when there
// is no room. Parts that are open stay.
type Dir struct {
	// MinFree is the part of the file system that stays free: when less is left,
	// and nothing in partial/ can go, nothing new is begun and what is being
	// written fails, with [ErrFull]. Free space is asked for each second and each
	// 16 MiB. Tags, records and content of at most 64 KiB that was begun earlier
	// are still written. If zero, 0.05; negative: no limit. It is read at use and
	// must not be written after the first one.
	MinFree float64
	// MaxPartial is how many bytes may lie in partial/ that nobody has open. A
	// part counts 1 MiB at least, so that their number is bounded too. When there
	// is more, the oldest part goes. If zero, 64 GiB; negative: no limit. It is
	// read at use and must not be written after the first one.
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
	kept    atomic.Int64    // what those count that are not open
	tick    tick            // clears them while nobody calls

	logsMu sync.Mutex
	logs   map[string]*recordLog // by kind, as they are used

	sweep    sync.RWMutex // held for writing while bytes are freed
	linkedMu sync.Mutex
	linked   map[digest.Digest]bool // since a Sweep began; nil: none runs
	sweeping sync.Mutex

	free    func(path string) (float64, bool) // durable.Free
	freeing sync.Mutex                        // held while it is asked and room is made
	freeAt  atomic.Int64                      // when it was asked last, ns
	written atomic.Int64                      // bytes since then
	full    atomic.Bool                       // what it said
}

// OpenDir opens the store in a folder, and creates it if it is not there. It
// clears what a former process left unfinished and cannot be taken up again.
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
		// visible, and about to be built upon.
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

// path joins parts that need no cleaning.
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

// locked returns the lock for a name, locked.
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

// fullError wraps what a full disk says into ErrFull.
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
