package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// kept leaves half a spool that the index vouches for, and returns its file.
func kept(t *testing.T, path string, n int) (info Info, data []byte, part string) {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	info, data = content1(fmt.Sprint("spool", n), n)
	s, err := d.Spool(t.Context(), "a", info)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt(data[:n/2], 0); err != nil {
		t.Fatal(err)
	}
	c := s.(Checkpointer)
	if err := c.Checkpoint(Progress{Front: int64(n / 2), Size: int64(n), Hash: []byte("state")}); err != nil {
		t.Fatal(err)
	}
	// Not vouched for.
	if _, err := s.WriteAt(data[n/2:n-1], int64(n/2)); err != nil {
		t.Fatal(err)
	}
	if err := c.Keep(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return info, data, d.partPath(keyOf("a", info).name())
}

func TestSpoolOutlivesTheProcess(t *testing.T) {
	for _, n := range []int{1000, 300 << 10} {
		path := t.TempDir()
		info, data, _ := kept(t, path, n)
		d := newDir(t, path)
		s, err := d.Spool(t.Context(), "a", info)
		if err != nil {
			t.Fatal(err)
		}
		p := s.(Checkpointer).Progress()
		if p.Front != int64(n/2) || p.Size != int64(n) || string(p.Hash) != "state" {
			t.Errorf("progress: %+v", p)
		}
		if _, err := s.WriteAt(data[n/2:], int64(n/2)); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(t.Context(), info); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, d, "a", info.Digest, data)
		if names, err := readNames(d.path("partial")); err != nil || len(names) != 0 {
			t.Errorf("partial: %q, %v", names, err)
		}
	}
}

func TestWhatIsNotVouchedFor(t *testing.T) {
	change := func(do func(r *progressRecord)) func(t *testing.T, d *Dir, name string) {
		return func(t *testing.T, d *Dir, name string) {
			err := d.update(func(t dirTx) error {
				var r progressRecord
				if err := json.Unmarshal(t.Get(inPartial, []byte(name)), &r); err != nil {
					return err
				}
				do(&r)
				data, err := json.Marshal(r)
				t.Put(inPartial, []byte(name), data)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(data string) func(t *testing.T, d *Dir, name string) {
		return func(t *testing.T, d *Dir, name string) {
			if err := d.update(func(t dirTx) error { t.Put(inPartial, []byte(name), []byte(data)); return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	size := func(n int64) *int64 { return &n }
	for name, damage := range map[string]func(t *testing.T, d *Dir, name string){
		"no entry": func(t *testing.T, d *Dir, name string) {
			if err := d.update(func(t dirTx) error { t.Delete(inPartial, []byte(name)); return nil }); err != nil {
				t.Fatal(err)
			}
		},
		"an empty entry":     write(""),
		"a torn entry":       write(`{"repository":`),
		"no size":            change(func(r *progressRecord) { r.Size = nil }),
		"no front":           change(func(r *progressRecord) { r.Front = 0 }),
		"a size too small":   change(func(r *progressRecord) { r.Size = size(10) }),
		"another size":       change(func(r *progressRecord) { r.Size = size(2000) }),
		"another repository": change(func(r *progressRecord) { r.Repository = "b" }),
		"another origin":     change(func(r *progressRecord) { r.Origin = "https://b.example" }),
		"an old entry":       change(func(r *progressRecord) { r.At = time.Now().Add(-staleAfter - time.Minute) }),
		"a short part": func(t *testing.T, d *Dir, name string) {
			if err := os.Truncate(d.partPath(name), 499); err != nil {
				t.Fatal(err)
			}
		},
		"no part": func(t *testing.T, d *Dir, name string) {
			if err := os.Remove(d.partPath(name)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			info, data, _ := kept(t, path, 1000)
			d := newDir(t, path)
			damage(t, d, keyOf("a", info).name())
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d = newDir(t, path)
			s, err := d.Spool(t.Context(), "a", info)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if p := s.(Checkpointer).Progress(); p.Front != 0 {
				t.Errorf("progress: %+v", p)
			}
			if _, err := s.WriteAt(data, 0); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(t.Context(), info); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, d, "a", info.Digest, data)
		})
	}
}

func TestOpenDirClearsPartial(t *testing.T) {
	path := t.TempDir()
	_, _, part := kept(t, path, 1000)
	for _, name := range []string{"tmp-1", "zzz.part", "yyy.json", "stray"} {
		if err := os.WriteFile(path+"/partial/"+name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newDir(t, path)
	names, err := readNames(path + "/partial")
	if err != nil || len(names) != 1 || names[0] != filepath.Base(part) {
		t.Errorf("partial: %q, %v", names, err)
	}
}
