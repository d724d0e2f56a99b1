package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
	tries, err = strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case len(text) == 0: // torn by the end of the process
		return 1, nil
	case err != nil:
		return 0, fmt.Errorf("%w: %s", ErrDamaged, text)
	case tries >= openings:
		return 0, fmt.Errorf("%w: %d processes have ended while they opened it", ErrDamaged, tries)
	}
	return tries, nil
}

func writeMarker(o Options, tries int) error {
	return o.Disk.WriteFile(marker(o.Path), []byte(strconv.Itoa(tries)), false)
}

// breaks notes that the file is damaged: this DB answers nothing more, and the next Open
// fails.
func (db *DB) breaks(why any) error {
	err := fmt.Errorf("%w: %v", ErrDamaged, why)
	if db.broken.CompareAndSwap(nil, &err) {
		_ = db.o.Disk.WriteFile(marker(db.o.Path), []byte(fmt.Sprint(why)), false)
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

// SetAside renames a damaged file, so that the next Open begins with an empty one. A
// file that was set aside before is replaced.
func SetAside(o Options) error {
	err := os.Rename(o.Path, o.Path+".damaged")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return o.Disk.Remove(marker(o.Path))
}

// Salvage calls each with the entries of a bucket of a damaged file, as far as they can
// be read. The file is only read. An entry whose checksum does not match is left out.
// The slices may be kept. The error says why there may be more.
func Salvage(o Options, b Bucket, each func(key, value []byte)) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
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
