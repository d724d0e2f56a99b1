package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/pullthrough/pullthrough/internal/durable"
)

func newDir(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func content1(text string, n int) (Info, []byte) {
	data := bytes.Repeat([]byte(text), n/len(text)+1)[:n]
	info := Info{Source: "https://a.example/x"}
	info.Digest, info.Size = digest.FromBytes(data), int64(n)
	return info, data
}

func create(t testing.TB, s Store, repo string, info Info, data []byte) error {
	t.Helper()
	w, err := s.Create(t.Context(), repo, info)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(t.Context())
}

func wantBlob(t testing.TB, s Store, repo string, d digest.Digest, want []byte) {
	t.Helper()
	_, r, err := s.Open(t.Context(), repo, d)
	if err != nil {
		t.Errorf("Open %s in %s: %v", d, repo, err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s in %s: %d bytes, %v; want %d", d, repo, len(got), err, len(want))
	}
}

func wantMissing(t testing.TB, s Store, repo string, d digest.Digest) {
	t.Helper()
	if _, err := s.Stat(t.Context(), repo, d); !errors.Is(err, ErrNotFound) {
		t.Errorf("Stat %s in %s: %v, want ErrNotFound", d, repo, err)
	}
}

func TestDirOutlivesTheProcess(t *testing.T) {
	path := t.TempDir()
	blob, data := content1("blob", 5000)
	manifest, text := content1("manifest", 300)
	manifest.MediaType = "application/vnd.oci.image.manifest.v1+json"
	at := time.Now()
	d := newDir(t, path)
	for _, err := range []error{
		create(t, d, "a/b", blob, data), create(t, d, "a/b", manifest, text),
		d.SetTag(t.Context(), "a/b", "Latest", Tag{Descriptor: manifest.Descriptor, Source: manifest.Source, Asked: at}),
		d.PutRecord(t.Context(), "jobs", "J1", []byte("one")),
		d.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d = newDir(t, path)
	wantBlob(t, d, "a/b", blob.Digest, data)
	wantBlob(t, d, "a/b", manifest.Digest, text)
	if tag, err := d.Tag(t.Context(), "a/b", "Latest"); err != nil || tag.Digest != manifest.Digest || !tag.Asked.Equal(at) {
		t.Errorf("tag: %+v, %v", tag, err)
	}
	if keys := recordsOf(t, d); len(keys) != 1 || keys[0] != "J1" {
		t.Errorf("records: %q", keys)
	}
}

func TestDirReadsFiles(t *testing.T) {
	d := newDir(t, t.TempDir())
	for n, file := range map[int]bool{smallContent: false, smallContent + 1: true} {
		blob, data := content1("blob", n)
		if err := create(t, d, "a", blob, data); err != nil {
			t.Fatal(err)
		}
		_, r, err := d.Open(t.Context(), "a", blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		_, isFile := r.(*os.File)
		if _, writes := r.(io.WriterTo); isFile != file || !writes {
			t.Errorf("Open of %d bytes returned a %T", n, r)
		}
	}
	big, _ := content1("big", 100<<10)
	s, err := d.Spool(t.Context(), "a", big)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, ok := h.(*os.File); !ok {
		t.Errorf("Open of a spool returned a %T: the kernel cannot send that", h)
	}
}

// A disk that folds case must not fold tags, records or anything else.
func TestNoNameDependsOnCase(t *testing.T) {
	path := t.TempDir()
	d := newDir(t, path)
	blob, data := content1("blob", 100)
	if err := create(t, d, "a", blob, data); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"latest", "Latest", "LATEST", "v1-RC", "v1-rc"} {
		if err := d.SetTag(t.Context(), "a", name, Tag{Descriptor: blob.Descriptor}); err != nil {
			t.Fatal(err)
		}
		if err := d.PutRecord(t.Context(), name, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(path, func(p string, _ os.DirEntry, err error) error {
		if rel := strings.TrimPrefix(p, path); rel != strings.ToLower(rel) {
			t.Errorf("%s has an upper-case letter", rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spoil changes the stored value of an entry behind the back of its checksum, and returns
// the store opened again.
func spoil(t *testing.T, d *Dir, bucket string, key []byte) *Dir {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(d.path("index.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		v := bytes.Clone(tx.Bucket([]byte(bucket)).Get(key))
		if len(v) < 6 {
			t.Fatalf("the entry %q of %s is %q", key, bucket, v)
		}
		v[1] ^= 4
		return tx.Bucket([]byte(bucket)).Put(key, v)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return newDir(t, d.root)
}

func TestDamagedEntriesAreMissing(t *testing.T) {
	d := newDir(t, t.TempDir())
	manifest, text := content1("manifest", 300)
	manifest.MediaType = "application/vnd.oci.image.manifest.v1+json"
	blob, data := content1("blob", 30<<10)
	c, _ := contentOf(manifest.Digest)
	fill := func() {
		for _, err := range []error{
			create(t, d, "a", manifest, text), create(t, d, "a", blob, data),
			d.SetTag(t.Context(), "a", "v1", Tag{Descriptor: manifest.Descriptor, Source: "s"}),
			d.PutRecord(t.Context(), "jobs", "j", []byte("something")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		wantBlob(t, d, "a", manifest.Digest, text)
		wantBlob(t, d, "a", blob.Digest, data)
	}
	fill()
	for bucket, key := range map[string]func() []byte{
		"repos": func() []byte { return linkKey("a", keyManifest, c) },
		"blobs": c.key,
		"bytes": func() (key []byte) {
			_ = d.view(func(t dirTx) error { b, _ := t.blob(c); key = numberKey(b.number); return nil })
			return key
		},
	} {
		d = spoil(t, d, bucket, key())
		wantNothing(t, d, "a", manifest.Digest)
		fill()
	}
	d = spoil(t, d, "repos", tagKey("a", "v1"))
	if _, err := d.Tag(t.Context(), "a", "v1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Tag: %v", err)
	}
	d = spoil(t, d, "records", recordKey("jobs", "j"))
	if _, err := d.Record(t.Context(), "jobs", "j"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Record: %v", err)
	}
	fill()
	// A file that is not as long as the index says is none.
	c, _ = contentOf(blob.Digest)
	if err := os.Truncate(d.blobPath(c), 10); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, d, "a", blob.Digest)
	fill()
}

// wantNothing checks that content cannot be opened.
func wantNothing(t *testing.T, d *Dir, repo string, dgst digest.Digest) {
	t.Helper()
	if _, _, err := d.Open(t.Context(), repo, dgst); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open %s: %v", dgst, err)
	}
}

func TestFullDisk(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		d := newDir(t, t.TempDir())
		here, data := content1("here", 5000)
		if err := create(t, d, "a", here, data); err != nil {
			t.Fatal(err)
		}
		if err := d.PutRecord(t.Context(), "jobs", "a", data); err != nil {
			t.Fatal(err)
		}
		big, bigData := content1("big", 100<<10)
		s, err := d.Spool(t.Context(), "a", big)
		if err != nil {
			t.Fatal(err)
		}
		d.disk.Step = func(op durable.Op, path, _ string) error {
			if op == durable.OpWrite || op == durable.OpCommit {
				return &os.PathError{Op: "write", Path: path, Err: full}
			}
			return nil
		}
		if _, err := s.WriteAt(bigData, 0); !errors.Is(err, ErrFull) {
			t.Errorf("WriteAt: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, n := range []int{100, 100 << 10} {
			info, data := content1("new", n)
			if err := create(t, d, "a", info, data); !errors.Is(err, ErrFull) {
				t.Errorf("%d bytes: %v", n, err)
			}
			wantMissing(t, d, "a", info.Digest)
		}
		if err := d.SetTag(t.Context(), "a", "v1", Tag{Descriptor: here.Descriptor}); !errors.Is(err, ErrFull) {
			t.Errorf("SetTag: %v", err)
		}
		if err := d.PutRecord(t.Context(), "jobs", "b", nil); !errors.Is(err, ErrFull) {
			t.Errorf("PutRecord: %v", err)
		}
		wantBlob(t, d, "a", here.Digest, data)
		if err := d.DeleteRecord(t.Context(), "jobs", "b"); err != nil {
			t.Errorf("DeleteRecord of nothing: %v", err)
		}
		d.disk.Step = nil
		if names, err := readNames(d.path("partial")); err != nil || len(names) != 0 {
			t.Errorf("partial: %q, %v", names, err)
		}
	}
}

func TestMinFree(t *testing.T) {
	d := newDir(t, t.TempDir())
	d.MinFree = 1.1 // more than there can be
	info, _ := content1("x", 100)
	if _, err := d.Create(t.Context(), "a", info); !errors.Is(err, ErrFull) {
		t.Errorf("Create: %v", err)
	}
	if _, err := d.Spool(t.Context(), "a", info); !errors.Is(err, ErrFull) {
		t.Errorf("Spool: %v", err)
	}
	d = newDir(t, t.TempDir())
	d.MinFree = -1
	if _, err := d.Create(t.Context(), "a", info); err != nil {
		t.Errorf("Create without a limit: %v", err)
	}
}
