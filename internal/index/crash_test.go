package index

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// inFolder returns options for a file in a folder, with the buckets 0 and 1.
func inFolder(t testing.TB, dir string) Options {
	t.Helper()
	temp := filepath.Join(dir, "temp")
	if err := os.MkdirAll(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	return Options{Path: filepath.Join(dir, "index"), Format: "test", Buckets: []string{"one", "two"}, Disk: &durable.Disk{Temp: temp}}
}

// fill puts n entries into a bucket.
func fill(t testing.TB, db *DB, b Bucket, n int) {
	t.Helper()
	err := db.Update(func(tx *Tx) error {
		for i := range n {
			tx.Put(b, key(i), value(i))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func key(i int) []byte   { return fmt.Appendf(nil, "key %06d", i) }
func value(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "value %d ", i), 20) }

// count returns how many entries a bucket has, and checks their values.
func count(t testing.TB, db *DB, b Bucket) (n int) {
	t.Helper()
	err := db.View(func(tx *Tx) error {
		for k, v := range tx.Entries(b, nil, nil) {
			var i int
			if _, err := fmt.Sscanf(string(k), "key %d", &i); err != nil || !bytes.Equal(v, value(i)) {
				t.Errorf("%q: %q", k, v)
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return n
}

var errFull = &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}

// What was put is not only in the file, but the file has its name, too, when an index is
// made, compacted or rebuilt, and whatever a former process had not synced.
func TestNamesAreSyncedBeforeChanges(t *testing.T) {
	dir := t.TempDir()
	o := inFolder(t, dir)
	o.compactGain = 64 << 10
	var renamed bool // and not synced
	var folders int
	o.Disk.Step = func(op durable.Op, path, _ string) error {
		switch {
		case op == durable.OpRename && path == o.Path:
			renamed = true
		case op == durable.OpFolder && path == dir:
			renamed = false
			folders++
		}
		return nil
	}
	if err := os.WriteFile(o.Path, nil, 0o600); err != nil { // of a process that was killed
		t.Fatal(err)
	}
	db := open(t, o)
	if folders == 0 {
		t.Error("the name of a file that another process has made is not synced")
	}
	fill(t, db, 0, 60000)
	size := fileSize(t, o.Path)
	err := db.Free(func(tx *Tx) error {
		for i := range 59990 {
			tx.Delete(0, key(i))
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	renamed, folders = false, 0
	db = open(t, o)
	if now := fileSize(t, o.Path); now >= size || folders == 0 || renamed {
		t.Errorf("compacted from %d to %d bytes; %d syncs of the folder, the last one before the rename: %v", size, now, folders, renamed)
	}
	if n := count(t, db, 0); n != 10 {
		t.Errorf("%d entries", n)
	}
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	n, err := durable.Size(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Whenever a rebuild ends, the next one finishes it, and no entry is lost.
func TestRebuildAtEveryStep(t *testing.T) {
	stop := errors.New("stop")
	for steps := 0; ; steps++ {
		o := inFolder(t, t.TempDir())
		db := open(t, o)
		fill(t, db, 0, 500)
		fill(t, db, 1, 500)
		_ = db.breaks("it is only said to be")
		if err := db.Close(); !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		n := 0
		o.Disk.Step = func(durable.Op, string, string) error {
			if n++; n > steps {
				return stop
			}
			return nil
		}
		lost, rerr := Rebuild(o, 1)
		o.Disk.Step = nil
		db, err := Open(o)
		if errors.Is(err, ErrDamaged) {
			if lost, err = Rebuild(o, 1); err == nil {
				db, err = Open(o)
			}
		}
		if err != nil || lost != nil {
			t.Fatalf("after %d steps: %v, lost %v", steps, err, lost)
		}
		if got := count(t, db, 1); got != 500 {
			t.Errorf("after %d steps: %d entries", steps, got)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if rerr == nil {
			if steps < 5 || !slices.Contains(names(t, filepath.Dir(o.Path)), "index.damaged") {
				t.Errorf("%d steps: %q", steps, names(t, filepath.Dir(o.Path)))
			}
			return
		}
		if got := names(t, filepath.Dir(o.Path)); slices.Contains(got, "index.new") || slices.Contains(got, "index.opening") {
			t.Errorf("after %d steps: %q", steps, got)
		}
	}
}

func names(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A tool that looks into the file is no damage.
func TestAFileThatIsInUse(t *testing.T) {
	o := inFolder(t, t.TempDir())
	db := open(t, o)
	fill(t, db, 0, 10)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	tool, err := bolt.Open(o.Path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for range openings + 1 {
		if _, err := Open(o); !errors.Is(err, ErrInUse) || errors.Is(err, ErrDamaged) {
			t.Errorf("while it is in use: %v", err)
		}
	}
	if err := tool.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, open(t, o), 0); n != 10 {
		t.Errorf("%d entries", n)
	}
}

// A marker that a power loss has torn is no damage, and none comes back.
func TestMarkers(t *testing.T) {
	o := inFolder(t, t.TempDir())
	fill(t, open(t, o), 0, 10)
	for _, text := range []string{"", "1", "\x00", "dama", "\x00\x00maged: x"} {
		_ = os.WriteFile(marker(o.Path), []byte(text), 0o600)
		if tries, err := readMarker(o.Path); err != nil || tries != 1 {
			t.Errorf("%q: %d, %v", text, tries, err)
		}
	}
	for _, text := range []string{"2", "damaged: x"} {
		_ = os.WriteFile(marker(o.Path), []byte(text), 0o600)
		if _, err := readMarker(o.Path); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", text, err)
		}
	}
	removed := false // and not synced
	o = inFolder(t, t.TempDir())
	o.Disk.Step = func(op durable.Op, path, _ string) error {
		if op == durable.OpRemove && path == marker(o.Path) {
			removed = true
		} else if op == durable.OpFolder && path == filepath.Dir(o.Path) {
			removed = false
		}
		return nil
	}
	open(t, o)
	if removed {
		t.Error("a marker is removed, and that is not synced")
	}
}

// On a full disk a file can still be opened and read.
func TestOpenOnAFullDisk(t *testing.T) {
	o := inFolder(t, t.TempDir())
	db := open(t, o)
	fill(t, db, 0, 10)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	o.Disk.Step = func(op durable.Op, _, _ string) error {
		if op == durable.OpCreate || op == durable.OpWrite || op == durable.OpCommit {
			return errFull
		}
		return nil
	}
	if n := count(t, open(t, o), 0); n != 10 {
		t.Errorf("%d entries", n)
	}
	if after, err := os.Stat(o.Path); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("to open a file writes into it: %v", err)
	}
}

// After an error of the disk, the same process can open the file again.
func TestOpenAgainAfterAnError(t *testing.T) {
	for name, end := range map[string]func(db *DB){
		"error":  func(db *DB) { _ = db.fails(syscall.EIO) },
		"damage": func(db *DB) { _ = db.View(func(*Tx) error { panic("page 7") }) },
	} {
		o := inFolder(t, t.TempDir())
		db := open(t, o)
		fill(t, db, 0, 10)
		end(db)
		if err := db.Close(); err == nil {
			t.Errorf("%s: no error", name)
		}
		db, err := Open(o)
		if errors.Is(err, ErrDamaged) {
			var lost error
			if lost, err = Rebuild(o, 0); err == nil && lost == nil {
				db, err = Open(o)
			}
			err = errors.Join(err, lost)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := count(t, db, 0); n != 10 {
			t.Errorf("%s: %d entries", name, n)
		}
		_ = db.Close()
	}
	// An error while the marker is removed is none of the file.
	o := inFolder(t, t.TempDir())
	fill(t, open(t, o), 0, 1)
	o = inFolder(t, t.TempDir())
	o.Disk.Step = func(op durable.Op, path, _ string) error {
		if op == durable.OpRemove && path == marker(o.Path) {
			return syscall.EROFS
		}
		return nil
	}
	if _, err := Open(o); !errors.Is(err, syscall.EROFS) {
		t.Fatal(err)
	}
	o.Disk.Step = nil
	open(t, o)
}

func numberKey(n uint64) []byte { return fmt.Append(nil, n) }
