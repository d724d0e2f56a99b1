package index

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/pullthrough/pullthrough/internal/durable"
)

var errKilled = errors.New("the process was killed")

// killedWhileOpening opens a file in a process that ends meanwhile.
func killedWhileOpening(t *testing.T, o Options) {
	t.Helper()
	o.Disk.Step = func(op durable.Op, path, _ string) error {
		if op == durable.OpRemove && path == marker(o.Path) {
			return errKilled
		}
		return nil
	}
	defer func() { o.Disk.Step = nil }()
	if _, err := Open(o); !errors.Is(err, errKilled) {
		t.Fatalf("Open: %v", err)
	}
}

func TestOneProcessMayEndWhileItOpens(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	db := open(t, o)
	put(t, db, inA, "a=1")
	db.Close()
	for range 3 {
		killedWhileOpening(t, o)
		db := open(t, o)
		want(t, db, inA, "a=1")
		db.Close()
	}
	killedWhileOpening(t, o)
	killedWhileOpening(t, o)
	for range 2 {
		if _, err := Open(o); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "2 processes have ended") {
			t.Errorf("Open after two processes have ended: %v", err)
		}
	}
	// The end of a process can leave the marker without its bytes: that is one.
	if err := os.WriteFile(marker(o.Path), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	killedWhileOpening(t, o)
	if _, err := Open(o); !errors.Is(err, ErrDamaged) {
		t.Errorf("Open after a torn marker and another end: %v", err)
	}
}

func TestWhatIsRebuiltIsKeptAside(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	for _, text := range []string{"a=1", "a=2"} { // the second replaces the first
		db := open(t, o)
		want(t, db, inA, "")
		put(t, db, inA, text)
		db.Close()
		killedWhileOpening(t, o)
		killedWhileOpening(t, o)
		if lost, err := Rebuild(o, inB); lost != nil || err != nil {
			t.Error(lost, err)
		}
		old := o
		old.Path += ".damaged"
		var saved []string
		if err := salvage(old, inA, func(k, v []byte) { saved = append(saved, string(k)+"="+string(v)) }); err != nil || strings.Join(saved, " ") != text {
			t.Errorf("what was set aside has %q, %v, want %q", saved, err, text)
		}
	}
}

const pageSize = 4096

// overwrite fills a page of a file with bytes that are no page.
func overwrite(t testing.TB, o Options, page uint64) {
	t.Helper()
	f, err := os.OpenFile(o.Path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte(strings.Repeat("garbage.", pageSize/8)), int64(page)*pageSize)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// filled leaves a file with entries in two buckets, each of which has pages of its own,
// and returns their first pages.
func filled(t testing.TB, o Options) (a, b uint64) {
	t.Helper()
	if os.Getpagesize() != pageSize {
		t.Skip("the pages of this system have another size")
	}
	db := open(t, o)
	big := strings.Repeat("x", 3000)
	put(t, db, inA, "a=1", "b=2", "c=3", "d="+big)
	put(t, db, inB, "a=1", "d="+big)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, o, func(tx *bolt.Tx) error {
		spoiled := []byte("2abcd")
		return tx.Bucket([]byte("a")).Put([]byte("b"), spoiled)
	})
	edit(t, o, func(tx *bolt.Tx) error {
		a, b = uint64(tx.Bucket([]byte("a")).Root()), uint64(tx.Bucket([]byte("b")).Root())
		return nil
	})
	if a < 2 || b < 2 || a == b {
		t.Fatalf("the buckets are at %d and %d", a, b)
	}
	return a, b
}

// saved returns the keys that salvage reads.
func saved(o Options, b Bucket) (string, error) {
	var keys []string
	err := salvage(o, b, func(key, _ []byte) { keys = append(keys, string(key)) })
	return strings.Join(keys, " "), err
}

func TestSalvageBesideADamagedBucket(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	_, b := filled(t, o)
	overwrite(t, o, b)
	if keys, err := saved(o, inA); err != nil || keys != "a c d" { // b is spoiled
		t.Errorf("saved %q, %v", keys, err)
	}
	if keys, err := saved(o, inB); !errors.Is(err, ErrDamaged) || keys != "" {
		t.Errorf("of the damaged bucket: %q, %v", keys, err)
	}
	// Damage that nobody looked at is found when it is, and keeps.
	db := open(t, o)
	want(t, db, inA, "a=1 c=3 d="+strings.Repeat("x", 3000))
	if err := db.View(func(tx *Tx) error { tx.Get(inB, []byte("a")); return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("View: %v", err)
	}
	never := func(*Tx) error { t.Error("called"); return nil }
	for what, err := range map[string]error{
		"View": db.View(never), "Update": db.Update(never), "Free": db.Free(never), "Check": check(db, func(string) {}),
		"Err": db.Err(), "Close": db.Close(),
	} {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s of a damaged index: %v", what, err)
		}
	}
	for range 2 {
		if _, err := Open(o); !errors.Is(err, ErrDamaged) {
			t.Errorf("Open: %v", err)
		}
	}
	if keys, err := saved(o, inA); err != nil || keys != "a c d" {
		t.Errorf("saved %q, %v", keys, err)
	}
	if _, err := Rebuild(o, inGrowing); err != nil {
		t.Fatal(err)
	}
	want(t, open(t, o), inA, "")
}

// pageOfFreeList returns where the newest of the two first pages of bbolt says that its
// list of free pages is.
func pageOfFreeList(t testing.TB, o Options) uint64 {
	t.Helper()
	data, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	var list, newest uint64
	for _, meta := range [][]byte{data[16:pageSize], data[pageSize+16:]} {
		if txid := binary.NativeEndian.Uint64(meta[48:]); txid >= newest {
			newest, list = txid, binary.NativeEndian.Uint64(meta[32:])
		}
	}
	if list < 2 || int(list) > len(data)/pageSize {
		t.Fatalf("the list of free pages is at %d", list)
	}
	return list
}

// TestDamageThatKeepsItFromOpening: the same process can save the entries nevertheless.
func TestDamageThatKeepsItFromOpening(t *testing.T) {
	for what, spoil := range map[string]func(o Options){
		"the list of free pages": func(o Options) { overwrite(t, o, pageOfFreeList(t, o)) },
		"a bucket that is not there": func(o Options) {
			edit(t, o, func(tx *bolt.Tx) error {
				return errors.Join(tx.DeleteBucket([]byte("b")), tx.DeleteBucket([]byte("meta")))
			})
		},
	} {
		for _, gain := range []int64{0, 1 << 10} { // with and without a look at what is free
			o := optionsIn(t, t.TempDir())
			o.compactGain = gain
			filled(t, o)
			spoil(o)
			_, err := Open(o)
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: Open: %v", what, err)
			}
			if keys, err := saved(o, inA); err != nil || keys != "a c d" {
				t.Errorf("%s: saved %q, %v", what, keys, err)
			}
			if _, err := Rebuild(o, inGrowing); err != nil {
				t.Error(err)
			}
			want(t, open(t, o), inA, "")
		}
	}
}

func TestFilesThatAreNone(t *testing.T) {
	for what, text := range map[string]string{"text": strings.Repeat("text ", 10000), "one byte": "x", "zeros": strings.Repeat("\x00", 1<<16)} {
		o := optionsIn(t, t.TempDir())
		if err := os.WriteFile(o.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Open: %v", what, err)
		}
		if keys, err := saved(o, inA); err == nil || keys != "" {
			t.Errorf("%s: saved %q, %v", what, keys, err)
		}
		if _, err := Rebuild(o, inGrowing); err != nil {
			t.Error(err)
		}
		put(t, open(t, o), inA, "a=1")
	}
}

// TestAFileThatWasCutEndsNoProcess: the pages that are missing are in the address space,
// and reading them is a fault.
func TestAFileThatWasCutEndsNoProcess(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	emptied(t, o, 400)
	if err := os.Truncate(o.Path, 8<<20); err != nil {
		t.Fatal(err)
	}
	db, err := Open(o)
	if err == nil {
		err = check(db, func(string) {})
		db.Close()
	}
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// TestAWriteThatFails leaves a DB of which nobody knows what is on the disk. The same
// process can open the file again.
func TestAWriteThatFails(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	db := open(t, o)
	put(t, db, inA, "a=1")
	db.bolt.MaxSize = 1 << 20
	err := db.Update(func(tx *Tx) error { tx.Put(inA, []byte("b"), make([]byte, 32<<20)); return nil })
	if !errors.Is(err, berrors.ErrMaxSizeReached) || errors.Is(err, ErrDamaged) {
		t.Errorf("Update: %v", err)
	}
	for what, err := range map[string]error{"Update": db.Update(puts("c")), "View": db.View(func(*Tx) error { return nil }), "Close": db.Close()} {
		if !errors.Is(err, berrors.ErrMaxSizeReached) || errors.Is(err, ErrDamaged) {
			t.Errorf("%s after a write that failed: %v", what, err)
		}
	}
	db = open(t, o)
	want(t, db, inA, "a=1")
	// While it is open, it is not damaged for another.
	if _, err := Open(o); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("Open of what is open: %v", err)
	}
	put(t, db, inA, "b=2")
	want(t, db, inA, "a=1 b=2")
}
