package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

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
// What a manifest or a tag stands for is durable before it is: committing one
// first syncs everything that was committed in its repository. Blobs alone are
// synced, but the folders that name them wait for the next manifest or tag, so a
// power loss (not the end of the process) may lose blobs that no manifest names.
//
// Delete removes links; the bytes stay in blobs/ until [Dir.Sweep].
type Dir struct {
	// MinFree is the part of the file system below which nothing new is begun:
	// [ErrFull]. If zero, 0.05; negative: no limit. It is read at use and must
	// not be written after the first one.
	MinFree float64

	root  string
	lock  *os.File
	disk  durable.Disk
	dirty durable.Folders

	locks [64]sync.Mutex // by name, for what is read and then written

	pendingMu sync.Mutex
	pending   map[string]map[string]durable.Mark // folders to sync, by repository

	spoolMu sync.Mutex
	spools  map[spoolKey]bool // open ones

	logsMu sync.Mutex
	logs   map[string]*recordLog // by kind, as they are used

	sweep    sync.RWMutex // held for writing while bytes are freed
	linkedMu sync.Mutex
	linked   map[digest.Digest]bool // since a Sweep began; nil: none runs
	sweeping sync.Mutex

	freeAt atomic.Int64 // when free space was asked last, ns
	full   atomic.Bool  // what it said
}

const (
	// staleAfter is how long an unfinished spool is kept.
	staleAfter = 24 * time.Hour
	// freeEvery is how often the free space is asked for.
	freeEvery = time.Second
	// minFree is what MinFree is if zero.
	minFree = 0.05
)

// OpenDir opens the store in a folder, and creates it if it is not there. It
// clears what a former process left unfinished and cannot be taken up again.
// The error wraps [ErrInUse] if another process has the folder open, and
// [errors.ErrUnsupported] where the system has no file locks.
func OpenDir(path string) (*Dir, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	d := &Dir{
		root:    root,
		spools:  make(map[spoolKey]bool),
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
	return d, nil
}

func (d *Dir) open() error {
	note := func(parent string) { d.dirty.Dirty(parent) }
	for _, name := range []string{"", "partial", "blobs", "repos", "records"} {
		if err := d.disk.MkdirAll(filepath.Join(d.root, name), note); err != nil {
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
	if err := d.clearPartial(time.Now()); err != nil {
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

// room is ErrFull if too little space is left to begin something.
func (d *Dir) room() error {
	limit := d.MinFree
	if limit == 0 {
		limit = minFree
	}
	if limit < 0 {
		return nil
	}
	now := time.Now().UnixNano()
	if at := d.freeAt.Load(); at == 0 || now-at > int64(freeEvery) || now < at {
		d.freeAt.Store(now)
		free, known := durable.Free(d.root)
		d.full.Store(known && free < limit)
	}
	if d.full.Load() {
		return fmt.Errorf("%w: less than %.0f %% of the file system of %s is free", ErrFull, 100*limit, d.root)
	}
	return nil
}

// fullError wraps what a full disk says into ErrFull.
func fullError(err error) error {
	if err != nil && durable.IsFull(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

var _ = []any{Store(&Dir{}), Spooler(&Dir{}), Records(&Dir{}), RecordSyncer(&Dir{}), Deleter(&Dir{}), Lister(&Dir{})}
