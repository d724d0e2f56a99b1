package store

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/pullthrough/pullthrough/internal/durable"
)

var errPower = errors.New("the power is gone")

// machine is a computer whose power goes at a given step. It runs a store on real files,
// notes what no sync covers, and takes parts of that back.
type machine struct {
	path string // of the store

	mu      sync.Mutex
	stop    int // the first step that is not done
	step    int
	pending []change            // of names that no sync of their folder covers, oldest first
	files   map[string]unsynced // with bytes that no sync covers
	torn    string              // the database that was being written when the power went
	before  []byte              // what it had before
	size    int64               // and how long it was
}

// change is a change of a name that a power loss may take back.
type change struct {
	op         durable.Op
	path, from string
	old        []byte // what was there
	had        bool
	oldFile    unsynced // of the file that was there
	oldDirty   bool
}

// unsynced is what is on disk of a file that was written since.
type unsynced []byte

func newMachine(path string) *machine {
	return &machine{path: path, stop: 1 << 30, files: make(map[string]unsynced)}
}

// until has the power go at a step from now on.
func (m *machine) until(steps int) { m.step, m.stop, m.torn = 0, steps, "" }

// over reports whether the power is gone.
func (m *machine) over() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step > m.stop
}

// hook is for [durable.Disk.Step].
func (m *machine) hook(op durable.Op, path, from string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step++
	if m.step == m.stop+1 && (op == durable.OpCommit || op == durable.OpBegin) {
		m.torn, m.before, m.size = path, readIndex(path), sizeOnDisk(path)
		return nil // it is written, and lose takes parts of it back
	}
	if m.step > m.stop {
		return errPower
	}
	m.note(op, path, from)
	return nil
}

// note notes a step that is about to be done. One that will fail is none.
func (m *machine) note(op durable.Op, path, from string) {
	_, missing := os.Lstat(path)
	switch op {
	case durable.OpWrite, durable.OpTruncate:
		if _, dirty := m.files[path]; !dirty {
			m.files[path], _ = os.ReadFile(path)
		}
		return
	case durable.OpSync:
		delete(m.files, path)
		return
	case durable.OpFolder:
		m.pending = slices.DeleteFunc(m.pending, func(c change) bool { return filepath.Dir(c.path) == path })
		return
	case durable.OpCreate, durable.OpMkdir:
		if _, err := os.Lstat(filepath.Dir(path)); err != nil || missing == nil {
			return
		}
	case durable.OpRename:
		if _, err := os.Lstat(from); err != nil {
			return
		}
	case durable.OpRemove:
		if missing != nil {
			return
		}
	default:
		return
	}
	c := change{op: op, path: path, from: from}
	if missing == nil {
		c.old, c.had = readFile(path)
		c.oldFile, c.oldDirty = m.files[path]
	}
	m.pending = append(m.pending, c)
	delete(m.files, path)
	if file, dirty := m.files[from]; dirty && op == durable.OpRename {
		m.files[path] = file
		delete(m.files, from)
	}
}

func readFile(path string) ([]byte, bool) {
	data, err := os.ReadFile(path)
	return data, err == nil
}

// lose takes back what was not synced, but for the names that keep chooses, counted from
// the newest: a disk need not keep the order. The database is as a power loss leaves it
// while a transaction is being written.
func (m *machine) lose(t testing.TB, random *rand.Rand, keep func(n int) bool) {
	if m.torn != "" {
		tear(t, m.torn, m.before, m.size, random)
	}
	for i := len(m.pending) - 1; i >= 0; i-- {
		if !keep(len(m.pending) - 1 - i) {
			m.undo(m.pending[i])
		}
	}
	for path, synced := range m.files {
		if now, ok := readFile(path); ok {
			m.write(path, mix(synced, now, random))
		}
	}
	m.pending = nil
	clear(m.files)
}

// undo takes back a change of a name.
func (m *machine) undo(c change) {
	switch c.op {
	case durable.OpCreate, durable.OpMkdir:
		_ = os.RemoveAll(c.path)
		return
	case durable.OpRename:
		if os.Rename(c.path, c.from) == nil {
			if file, dirty := m.files[c.path]; dirty {
				m.files[c.from] = file
				delete(m.files, c.path)
			}
		}
	}
	if _, err := os.Lstat(c.path); c.had && err != nil {
		m.write(c.path, c.old)
		if c.oldDirty {
			m.files[c.path] = c.oldFile
		}
	}
}

// write writes a file, unless its folder has gone.
func (m *machine) write(path string, data []byte) { _ = os.WriteFile(path, data, 0o600) }

const sector = 512 // bytes that a disk writes as a whole

// mix returns what may be on disk of a file whose bytes were synced when they were as
// before: each sector is as then, as now, or zero if it was new.
func mix(before, now []byte, random *rand.Rand) []byte {
	size := len(now)
	switch random.IntN(3) {
	case 0:
		size = len(before)
	case 1:
		size = min(len(before), len(now)) + random.IntN(max(len(before), len(now))-min(len(before), len(now))+1)
	}
	mixed := make([]byte, size)
	copy(mixed, before)
	chance := random.Float64()
	for at := 0; at < min(size, len(now)); at += sector {
		if random.Float64() < chance {
			copy(mixed[at:], now[at:min(at+sector, len(now))])
		}
	}
	return mixed
}

// readIndex returns the part of a database that was ever used. Most of the file is a hole.
func readIndex(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	used, page := st.Size(), int64(os.Getpagesize())
	var high int64 // the first page that was not used yet, as the first two pages say
	for n := range int64(2) {
		var b [8]byte
		if _, err := f.ReadAt(b[:], n*page+56); err == nil {
			high = max(high, int64(binary.NativeEndian.Uint64(b[:])))
		}
	}
	if high > 0 && high < used/page {
		used = high * page
	}
	data := make([]byte, used)
	n, _ := io.ReadFull(f, data)
	return data[:n]
}

// tear leaves a database as a power loss may leave it while bbolt writes a transaction:
// it makes the file longer, writes pages, syncs, writes one of its two first pages, and
// syncs. A disk writes sectors in any order.
func tear(t testing.TB, path string, before []byte, size int64, random *rand.Rand) {
	after := readIndex(path)
	metas := 2 * os.Getpagesize()
	synced := random.IntN(2) == 0 // all but the first pages
	if len(before) == 0 {
		synced = false // the first pages of a new file come with the others
	}
	chance := random.Float64()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for at := 0; at < len(after); at += sector {
		end := min(at+sector, len(after))
		isMeta := at < metas && len(before) > 0
		if !isMeta && synced || isMeta == synced && random.Float64() < chance {
			continue // it is as it was written
		}
		was := make([]byte, end-at)
		if at < len(before) {
			copy(was, before[at:])
		}
		if _, err := f.WriteAt(was, int64(at)); err != nil {
			t.Error(err)
		}
	}
	if !synced && random.IntN(2) == 0 { // the file is not longer yet
		if err := f.Truncate(size); err != nil {
			t.Error(err)
		}
	}
}

// crash lets go of the folder as the end of the process would.
func (d *Dir) crash() {
	d.tick.stop()
	_ = d.db.Close() // which writes nothing
	_ = d.unlock()
}
