package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
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
	blob, data := content1("blob", 5000)
	if err := create(t, d, "a", blob, data); err != nil {
		t.Fatal(err)
	}
	_, r, err := d.Open(t.Context(), "a", blob.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.(*os.File); !ok {
		t.Errorf("Open returned a %T: the kernel cannot send that", r)
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

func TestTornRecordsAreMissing(t *testing.T) {
	for _, torn := range []string{"", "{", `{"mediaType":"text/plain"}`, "\x00\x00\x00\x00"} {
		d := newDir(t, t.TempDir())
		manifest, text := content1("manifest", 300)
		manifest.MediaType = "application/vnd.oci.image.manifest.v1+json"
		if err := create(t, d, "a", manifest, text); err != nil {
			t.Fatal(err)
		}
		if err := d.SetTag(t.Context(), "a", "v1", Tag{Descriptor: manifest.Descriptor, Source: "s"}); err != nil {
			t.Fatal(err)
		}
		c, _ := contentOf(manifest.Digest)
		for _, file := range []string{d.linkPath("a", manifestLinks, c), d.tagPath("a", "v1")} {
			if err := os.WriteFile(file, []byte(torn), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		wantMissing(t, d, "a", manifest.Digest)
		if _, err := d.Tag(t.Context(), "a", "v1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: Tag: %v", torn, err)
		}
		if err := create(t, d, "a", manifest, text); err != nil {
			t.Errorf("%q: again: %v", torn, err)
		}
		wantBlob(t, d, "a", manifest.Digest, text)
		if err := d.SetTag(t.Context(), "a", "v1", Tag{Descriptor: manifest.Descriptor, Source: "s"}); err != nil {
			t.Errorf("%q: SetTag again: %v", torn, err)
		}
		// Bytes that are not as many as the record says are none.
		if err := os.Truncate(d.blobPath(c), 10); err != nil {
			t.Fatal(err)
		}
		wantMissing(t, d, "a", manifest.Digest)
		if err := create(t, d, "a", manifest, text); err != nil {
			t.Error(err)
		}
		wantBlob(t, d, "a", manifest.Digest, text) // repaired
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
			if op == durable.OpWrite {
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

func TestSweep(t *testing.T) {
	d := newDir(t, t.TempDir())
	kept, keptData := content1("kept", 5000)
	gone, goneData := content1("gone", 7000)
	shared, sharedData := content1("shared", 9000)
	for repo, info := range map[string]Info{"a": kept, "b/c": gone} {
		if err := create(t, d, repo, info, map[string][]byte{"a": keptData, "b/c": goneData}[repo]); err != nil {
			t.Fatal(err)
		}
		if err := create(t, d, repo, shared, sharedData); err != nil {
			t.Fatal(err)
		}
	}
	_, r, err := d.Open(t.Context(), "b/c", gone.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, info := range []Info{gone, shared} {
		if err := d.Delete(t.Context(), "b/c", info.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := d.Sweep(t.Context()); err != nil || n != 7000 {
		t.Errorf("Sweep: %d, %v", n, err)
	}
	if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, goneData) {
		t.Errorf("a reader got %d bytes, %v", len(data), err)
	}
	wantBlob(t, d, "a", kept.Digest, keptData)
	wantBlob(t, d, "a", shared.Digest, sharedData)
	no := func(context.Context, io.ReadSeeker) error { t.Error("allowed was called"); return nil }
	if err := d.Adopt(t.Context(), "c", gone, no); !errors.Is(err, ErrNotFound) {
		t.Errorf("Adopt of what was swept: %v", err)
	}
	if n, err := d.Sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("Sweep again: %d, %v", n, err)
	}
}

// TestSweepBesideWriters links and unlinks while sweeps run: what is linked is
// never without its bytes.
func TestSweepBesideWriters(t *testing.T) {
	d := newDir(t, t.TempDir())
	d.disk.Step = nil
	done := make(chan error, 4)
	for i := range 4 {
		go func() {
			done <- func() error {
				for j := range 60 {
					info, data := content1(fmt.Sprint("blob", j%7), 1000)
					repo := fmt.Sprint("repo", i)
					if err := create(t, d, repo, info, data); err != nil {
						return err
					}
					if _, err := d.Stat(t.Context(), repo, info.Digest); err != nil {
						return fmt.Errorf("just committed: %w", err)
					}
					if j%2 == 0 {
						if err := d.Delete(t.Context(), repo, info.Digest); err != nil {
							return err
						}
					}
				}
				return nil
			}()
		}()
	}
	for left := 4; left > 0; {
		select {
		case err := <-done:
			if left--; err != nil {
				t.Error(err)
			}
		default:
			if _, err := d.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
