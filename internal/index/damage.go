package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// openings is how many processes in a row may end while they open the file before it
// counts as damaged. One may have been killed.
const openings = 2

// marker is the file that is there while the file is being opened, and after it was
// found damaged. It holds how many processes began to open it, or what is damaged.
func marker(path string) string { return path + ".opening" }

// damagedMark begins the marker of a file that was found damaged.
const damagedMark = "damaged: "

// readMarker returns how many processes ended while they opened the file. The error
// wraps [ErrDamaged] if there were too many, or a former process found damage.
func readMarker(path string) (tries int, err error) {
	f, _, err := durable.OpenRead(marker(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case errors.Is(err, durable.ErrSymlink): // not ours; it will be replaced
		return 0, nil
	case err != nil:
		return 0, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return 0, err
	}
	if why, found := strings.CutPrefix(string(text), damagedMark); found {
		return 0, fmt.Errorf("%w: %s", ErrDamaged, why)
	}
	tries, err = strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil: // torn: a marker is not synced
		return 1, nil
	case tries >= openings:
		return 0, fmt.Errorf("%w: %d processes have ended while they opened it", ErrDamaged, tries)
	}
	return tries, nil
}

// writeMarker notes that one more process opens the file. On a full disk it cannot.
func writeMarker(o Options, tries int) error {
	err := o.Disk.WriteFile(marker(o.Path), []byte(strconv.Itoa(tries)), false)
	if err != nil && isFull(err) {
		return nil
	}
	return err
}

// removeMarker notes that the file was opened. A power loss must not bring the marker
// back: the next one would count as the second process that ended.
func removeMarker(o Options) error {
	err := o.Disk.Remove(marker(o.Path))
	if err == nil {
		err = o.Disk.SyncFolder(filepath.Dir(o.Path))
	}
	return err
}

// breaks notes that the file is damaged: this DB answers nothing more, and the next Open
// fails.
func (db *DB) breaks(why any) error {
	err := fmt.Errorf("%w: %v", ErrDamaged, why)
	if db.broken.CompareAndSwap(nil, &err) {
		_ = db.o.Disk.WriteFile(marker(db.o.Path), []byte(damagedMark+fmt.Sprint(why)), false)
	}
	return db.Err()
}

// fails notes that nobody knows what is on the disk, since a write failed. The next Open
// reads what is there.
func (db *DB) fails(err error) error {
	err = fmt.Errorf("the index cannot be written any more before it is opened again: %w", err)
	db.broken.CompareAndSwap(nil, &err)
	return db.Err()
}

// Rebuild replaces a damaged file by a new one that has those entries of a bucket which
// can still be read. lost says why there may be more of them. The damaged file is kept
// as PATH.damaged, instead of one that was kept before. Whenever the process ends, the
// next Open finds the damaged file or the new one with all that was kept.
func Rebuild(o Options, b Bucket) (lost, err error) {
	fresh := o
	fresh.Path, fresh.Spare = o.Path+newSuffix, ""
	for _, path := range []string{marker(fresh.Path), fresh.Path} {
		if err := o.Disk.Remove(path); err != nil {
			return nil, err
		}
	}
	db, err := Open(fresh)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(t *Tx) error {
		lost = salvage(o, b, func(key, value []byte) { t.Put(b, key, value) })
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return lost, err
	}
	if err := o.Disk.Rename(o.Path, o.Path+".damaged"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return lost, err
	}
	if err := finishRebuild(o); err != nil {
		return lost, err
	}
	return lost, o.Disk.Remove(marker(o.Path))
}

// newSuffix ends the name of a file that takes the place of a damaged one.
const newSuffix = ".new"

// finishRebuild gives a new file its name. It is whole if the damaged file has lost that
// name already.
func finishRebuild(o Options) error {
	if err := o.Disk.Rename(o.Path+newSuffix, o.Path); err != nil {
		return err
	}
	return o.Disk.SyncFolder(filepath.Dir(o.Path))
}

// salvage calls each with the entries of a bucket of a damaged file, as far as they can
// be read. The file is only read. An entry whose checksum does not match is left out.
// The slices may be kept. The error says why there may be more.
func salvage(o Options, b Bucket, each func(key, value []byte)) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	if err := checkLoops(o.Path, o.Buckets[b]); err != nil {
		return err
	}
	opts := options(0)
	opts.ReadOnly = true // then bbolt reads no list of free pages, which may be what is damaged
	file, f, err := openFile(o.Path, opts)
	if err != nil {
		return err
	}
	defer letGo(f) // also if the other Close panics
	defer file.Close()
	tx, err := file.Begin(false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	t := &Tx{o: &o, tx: tx, buckets: make([]*bolt.Bucket, len(o.Buckets))}
	for key, value := range t.Entries(b, nil, nil) {
		each(append([]byte(nil), key...), append([]byte(nil), value...))
	}
	return nil
}
