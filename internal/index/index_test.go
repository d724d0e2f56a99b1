package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// The buckets of the tests.
const (
	inGrowing Bucket = iota
	inA
	inB
)

// optionsIn returns what the tests open, in a folder of its own.
func optionsIn(t testing.TB, folder string) Options {
	t.Helper()
	o := Options{
		Path: folder + "/index.db", Format: "test 1", Buckets: []string{"growing", "a", "b"},
		Spare: folder + "/spare", Disk: &durable.Disk{Temp: folder + "/temp"},
	}
	if err := os.MkdirAll(o.Disk.Temp, 0o700); err != nil {
		t.Fatal(err)
	}
	return o
}

// open opens what must open, and closes it at the end of the test.
func open(t testing.TB, o Options) *DB {
	t.Helper()
	db, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func put(t testing.TB, db *DB, b Bucket, entries ...string) {
	t.Helper()
	err := db.Update(func(t *Tx) error {
		for _, e := range entries {
			key, value, _ := strings.Cut(e, "=")
			t.Put(b, []byte(key), []byte(value))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// entries returns the entries of a bucket as key=value, separated by spaces.
func entries(t testing.TB, db *DB, b Bucket, prefix, from string) string {
	t.Helper()
	var all []string
	err := db.View(func(t *Tx) error {
		for key, value := range t.Entries(b, []byte(prefix), []byte(from)) {
			all = append(all, string(key)+"="+string(value))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(all, " ")
}

func want(t testing.TB, db *DB, b Bucket, all string) {
	t.Helper()
	if got := entries(t, db, b, "", ""); got != all {
		t.Errorf("got the entries %q, want %q", got, all)
	}
}

// check calls found with all that Check finds.
func check(db *DB, found func(fault string)) error {
	return db.Check(func(err error) { found(err.Error()) }, func(b Bucket, key []byte) { found(fmt.Sprintf("%d %s", b, key)) })
}

// commits counts the transactions that are written.
func commits(o Options, also func(n int64) error) *atomic.Int64 {
	n := new(atomic.Int64)
	o.Disk.Step = func(op durable.Op, path, _ string) error {
		if op != durable.OpCommit || path != o.Path {
			return nil
		}
		m := n.Add(1)
		if also == nil {
			return nil
		}
		return also(m)
	}
	return n
}

// edit changes the file of a DB that is closed, behind its back.
func edit(t testing.TB, o Options, do func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(o.Path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(do), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestEntries(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	db := open(t, o)
	put(t, db, inA, "b/1=", "a=1", "b=2", "b/2=x", "B=3", "b0=4", "c=5")
	put(t, db, inB, "b/1=other")
	want(t, db, inA, "B=3 a=1 b=2 b/1= b/2=x b0=4 c=5")
	for _, c := range []struct{ prefix, from, want string }{
		{"b", "", "b=2 b/1= b/2=x b0=4"}, {"b/", "", "b/1= b/2=x"}, {"b/", "a", "b/1= b/2=x"}, {"b/", "b/1", "b/1= b/2=x"},
		{"b/", "b/1\x00", "b/2=x"}, {"b/", "b/3", ""}, {"b/", "c", ""}, {"d", "", ""}, {"", "b0", "b0=4 c=5"},
	} {
		if got := entries(t, db, inA, c.prefix, c.from); got != c.want {
			t.Errorf("with %q from %q: got %q, want %q", c.prefix, c.from, got, c.want)
		}
	}
	for from, want := range map[string]string{"": "B", "b": "b", "b1": "c", "b/\xff": "b0", "d": ""} {
		_ = db.View(func(tx *Tx) error {
			if got := tx.Seek(inA, []byte(from)); string(got) != want || (got == nil) != (want == "") {
				t.Errorf("Seek %q: got %q, want %q", from, got, want)
			}
			return nil
		})
	}
	err := db.Update(func(tx *Tx) error {
		if v := tx.Get(inA, []byte("b/1")); v == nil || len(v) != 0 || !tx.Has(inA, []byte("b/1")) {
			t.Errorf("an entry without bytes is %q", v)
		}
		if v := tx.Get(inA, []byte("none")); v != nil || tx.Has(inA, []byte("none")) {
			t.Errorf("an entry that is not there is %q", v)
		}
		tx.Delete(inA, []byte("b"))
		tx.Delete(inA, []byte("none"))
		for range tx.Entries(inA, nil, nil) {
			break // must be allowed
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, db, inA, "B=3 a=1 b/1= b/2=x b0=4 c=5")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, open(t, o), inA, "B=3 a=1 b/1= b/2=x b0=4 c=5")
}

func TestNextNeverReturnsANumberAgain(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	var last uint64
	for range 3 {
		db := open(t, o)
		for range 3 {
			if err := db.Update(func(tx *Tx) error {
				n := tx.Next(inGrowing, numberKey)
				if n <= last {
					t.Errorf("%d after %d", n, last)
				}
				last = n
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpoiledEntryIsNotThere(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	db := open(t, o)
	put(t, db, inA, "a=1", "b=2", "c=3", "d=4", "e=5", "f=6")
	put(t, db, inB, "a=of b")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, o, func(tx *bolt.Tx) error {
		a, b := tx.Bucket([]byte("a")), tx.Bucket([]byte("b"))
		spoiled := slices.Clone(a.Get([]byte("b")))
		spoiled[0] ^= 1
		return errors.Join(
			a.Put([]byte("b"), spoiled),
			a.Put([]byte("c"), slices.Clone(a.Get([]byte("d")))), // of another key
			a.Put([]byte("a"), slices.Clone(b.Get([]byte("a")))), // of another bucket
			a.Put([]byte("e"), []byte("abc")),                    // too short for a checksum
		)
	})
	db = open(t, o)
	want(t, db, inA, "d=4 f=6")
	err := db.View(func(tx *Tx) error {
		for _, key := range []string{"a", "b", "c", "e"} {
			if v := tx.Get(inA, []byte(key)); v != nil {
				t.Errorf("Get %s: %q", key, v)
			}
			if !tx.Has(inA, []byte(key)) {
				t.Errorf("Has %s: false, but it is there", key)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	var found []string
	if err := check(db, func(fault string) { found = append(found, fault) }); err != nil {
		t.Error(err)
	}
	if fmt.Sprint(found) != "[1 a 1 b 1 c 1 e]" {
		t.Fatalf("Check found %q", found)
	}
	put(t, db, inA, "b=new")
	if err := db.Update(func(tx *Tx) error {
		for _, key := range []string{"a", "c", "e"} {
			tx.Delete(inA, []byte(key))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	want(t, db, inA, "b=new d=4 f=6")
	if err := check(db, func(fault string) { t.Error(fault) }); err != nil {
		t.Error(err)
	}
}

// TestNothingThroughLinks: a symbolic link in the place of a file is refused or replaced,
// and what it leads to is neither read nor changed.
func TestNothingThroughLinks(t *testing.T) {
	const precious = "1 precious"
	for _, name := range []string{"index.db", "index.db.opening", "spare", "index.db.damaged"} {
		folder, outside := t.TempDir(), t.TempDir()+"/precious"
		o := optionsIn(t, folder)
		db := open(t, o)
		put(t, db, inA, "a=1")
		if err := errors.Join(db.Close(), os.RemoveAll(filepath.Join(folder, name)), os.WriteFile(outside, []byte(precious), 0o600),
			os.Symlink(outside, filepath.Join(folder, name))); err != nil {
			t.Fatal(err)
		}
		db, err := Open(o)
		if name == "index.db" {
			if !errors.Is(err, durable.ErrSymlink) || errors.Is(err, ErrDamaged) {
				t.Errorf("%s: %v", name, err)
			}
			if err := salvage(o, inA, func(key, value []byte) { t.Errorf("saved %q", key) }); !errors.Is(err, durable.ErrSymlink) {
				t.Errorf("Salvage: %v", err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			want(t, db, inA, "a=1")
			if err := db.Close(); err != nil {
				t.Error(err)
			}
			lost, err := Rebuild(o, inB)
			if err := errors.Join(lost, err); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if st, err := os.Lstat(o.Path + ".damaged"); err != nil || !st.Mode().IsRegular() {
				t.Errorf("%s: what was set aside is %v, %v", name, st, err)
			}
		}
		if text, err := os.ReadFile(outside); err != nil || string(text) != precious {
			t.Errorf("%s: the link led to what now is %q, %v", name, text, err)
		}
	}
}

func TestAnotherFormatIsDamage(t *testing.T) {
	o := optionsIn(t, t.TempDir())
	db := open(t, o)
	put(t, db, inA, "a=1")
	db.Close()
	other := o
	other.Format = "test 2"
	if _, err := Open(other); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"test 1", not "test 2"`) {
		t.Errorf("Open: %v", err)
	}
	if err := os.Remove(marker(o.Path)); err != nil { // of the damage
		t.Fatal(err)
	}
	o.Buckets = append(o.Buckets, "more")
	if _, err := Open(o); !errors.Is(err, ErrDamaged) {
		t.Errorf("Open with a bucket that is not there: %v", err)
	}
}
