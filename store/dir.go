package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/internal/durable"
	"github.com/pullthrough/pullthrough/internal/index"
)

// Dir keeps everything in a folder, on Unix, for one process at a time. It has
// every optional ability. It is safe for concurrent use.
//
//	index.db                   everything small, in one bbolt database
//	blobs/sha256/ab/HEX        the bytes of larger content, immutable
//	partial/                   temporary files and the bytes of spools
//	spare                      1 MiB that is given up so that a full disk can be cleared
//	lock                       held while a process has it open
//
// The database has links, tags, records, the progress of spools, manifests of up to 4
// MiB and other content of up to 16 KiB. Larger content is a file, and Open returns an
// *os.File of it; of smaller content the digest is checked whenever it is read. Files
// have the mode 0600 and folders 0700, whatever the umask is. See [OpenDir] for the
// folders that it refuses.
//
// Every change is on disk when its call returns. Changes at the same time share a
// transaction, and so the wait for the disk: one of them alone waits as long as many.
//
// Delete frees the bytes with their last link. A reader that is open already can still
// read them.
//
// A Dir uses its file system until only MinFree of it is left. Downloads that
// broke off leave parts in partial/, which are bounded by MaxPartial. A part is
// removed a day after its last checkpoint, and the oldest parts are removed before
// that when there is no room. Parts that are open stay.
//
// # Damage
//
// A database that the disk has damaged never yields wrong bytes: an entry that does not
// match its checksum is not there, and content that was lost this way is copied again.
// If its structure is damaged, the Dir answers every call with an error that wraps
// [ErrDamaged], and the next OpenDir begins with an empty one: it renames the old to
// index.db.damaged, and keeps those records that can still be read, so that events
// which wait for their receivers are delivered. See [Dir.Rebuilt].
type Dir struct {
	// MinFree is the fraction of the file system that stays free. When less is left,
	// even after every part in partial/ that is not open was removed, Create, Spool,
	// writes to what they returned, and batches with content fail with [ErrFull]. Tags,
	// records and content of at most 16 KiB that was begun earlier are still written.
	// The free space is looked up again when a second has passed or 16 MiB were
	// written. If zero, it is 0.05. If negative, there is no limit. It must not change
	// after the first use.
	MinFree float64
	// MaxPartial bounds the bytes in partial/ of parts that are not open. A part
	// counts 1 MiB at least, so that their number is bounded too. When there are
	// more bytes, the oldest parts are removed. If zero, it is 64 GiB. If negative,
	// there is no limit. It must not change after the first use.
	MaxPartial int64
	// CheckEvery is how often everything that is stored is checked and repaired in the
	// background, as [Dir.Check] does it at its usual rate. Logger gets the faults. If zero
	// or negative, that does not happen. It must not change after the first use.
	CheckEvery time.Duration
	// Logger gets what goes wrong beside the calls. If nil, nothing is logged. It must
	// not change after the first use.
	Logger *slog.Logger

	root    string
	lock    *os.File
	disk    durable.Disk
	db      *index.DB
	rebuilt error
	closed  atomic.Bool // Close was called

	partial [64]sync.Mutex // by the name of a part

	partsMu sync.Mutex
	parts   map[string]part // by the name of their files
	kept    atomic.Int64    // bytes that the parts count that are not open
	tick    tick            // does what is due each hour, also without any call

	place     sync.RWMutex // held for reading from a file's rename until it is linked, for writing to remove one
	foldersMu sync.Mutex
	folders   map[string]bool // of blobs, whose names are on disk

	used     atomic.Bool // since it was opened; the fields above are read in the background only then
	uses     uses
	checking atomic.Bool

	free    func(path string) (free, all int64, known bool) // durable.Free
	freeing sync.Mutex                                      // held while the free space is looked up and room is made
	freeAt  atomic.Int64                                    // when the free space was looked up last, in ns
	written atomic.Int64                                    // bytes written since then
	full    atomic.Bool                                     // less than MinFree was left then
}

// ErrDamaged reports a store whose files cannot be read.
var ErrDamaged = errors.New("store: damaged")

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
// [errors.ErrUnsupported] where the system has no file locks, as on Windows. A
// database that cannot be read is no error: see [Dir.Rebuilt].
//
// A folder that does not exist is created for the user of this process alone.
// OpenDir refuses a folder that belongs to another user or that the group or
// others may write, since what lies in it could be theirs. That holds for
// folders such as /tmp and for the mount points of volumes (a tmpfs, a Kubernetes
// volume with an fsGroup): name a folder in them. From an empty folder the right
// of the group is taken away instead. path may be a symbolic link to the folder,
// but nothing in the folder is opened through one.
func OpenDir(path string) (*Dir, error) {
	d := new(Dir)
	if err := d.openAt(path); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Dir) openAt(path string) (err error) {
	if d.root, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	d.parts, d.folders, d.free = make(map[string]part), make(map[string]bool), durable.Free
	d.disk.Temp = d.path("partial")
	if err := d.open(); err != nil {
		if d.db != nil {
			err = errors.Join(err, d.db.Close())
		}
		if d.lock != nil {
			_ = d.unlock()
		}
		return fmt.Errorf("store: open %s: %w", path, fullError(err))
	}
	d.used.Store(false)
	d.tick.start(d.hourly)
	return nil
}

func (d *Dir) open() error {
	for _, name := range []string{"", "partial", "blobs"} {
		folder := filepath.Join(d.root, name)
		if err := d.disk.MkdirAll(folder); err != nil {
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
	clean, err := d.wasClosed()
	if err == nil {
		err = d.disk.ClearTemp()
	}
	if err == nil {
		err = d.openIndex()
	}
	if err == nil {
		err = d.openFolders()
	}
	if err == nil {
		err = d.clearPartial()
	}
	if err == nil && (!clean || d.rebuilt != nil) {
		// Files that were to be linked or removed when the former process ended, or all.
		d.tick.soon(func() { d.sweepStrays() })
	}
	return err
}

// What the lock file says. Both are as long, so that one replaces the other on a full disk.
const (
	lockOpen   = "open\n"
	lockClosed = "shut\n"
)

// wasClosed reports whether the former process closed the store, and notes that this one
// has not yet.
func (d *Dir) wasClosed() (bool, error) {
	says := make([]byte, len(lockOpen))
	n, err := d.lock.ReadAt(says, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	if n > 0 && string(says) != lockClosed {
		return false, nil
	}
	if err = d.disk.Writing(d.lock); err == nil {
		_, err = d.lock.WriteAt([]byte(lockOpen), 0)
	}
	if err == nil {
		err = d.disk.Sync(d.lock)
	}
	return true, err
}

// hourly does what is due each hour.
func (d *Dir) hourly() {
	_, _ = d.clearStale()
	d.flushUses()
	if !d.used.Load() {
		return // its user may not have set its fields yet
	}
	if d.checkDue(time.Now()) && d.checking.CompareAndSwap(false, true) {
		d.tick.work.Go(func() {
			defer d.checking.Store(false)
			d.checkNow(d.tick.context())
		})
	}
}

// Close waits for what is under way and lets another process open the folder. The
// caller has stopped using the store: every later call returns an error that wraps
// [os.ErrClosed].
func (d *Dir) Close() error {
	d.closed.Store(true)
	d.tick.stop()
	d.flushUses()
	err := d.db.Close()
	if err == nil {
		err = d.disk.Writing(d.lock)
	}
	if err == nil {
		_, err = d.lock.WriteAt([]byte(lockClosed), 0) // nothing is left to be swept
	}
	if uerr := d.unlock(); err == nil {
		err = uerr
	}
	return storeError(err)
}

// unlock lets another Dir open the folder, whatever else has the lock file open.
func (d *Dir) unlock() error {
	err := durable.Unlock(d.lock)
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

func (d *Dir) log() *slog.Logger {
	if d.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Logger
}

// fullError wraps an error by which the system reports a full disk into ErrFull.
func fullError(err error) error {
	if err != nil && !errors.Is(err, ErrFull) && durable.IsFull(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// storeError makes an error of the index one of this package.
func storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, index.ErrDamaged):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fullError(err)
}

var (
	_ Store          = (*Dir)(nil)
	_ Spooler        = (*Dir)(nil)
	_ Batcher        = (*Dir)(nil)
	_ Records        = (*Dir)(nil)
	_ Deleter        = (*Dir)(nil)
	_ Lister         = (*Dir)(nil)
	_ ManifestLister = (*Dir)(nil)
	_ BlobLister     = (*Dir)(nil)
	_ UseRecorder    = (*Dir)(nil)
	_ Sizer          = (*Dir)(nil)
)
