package store

import (
	"errors"
	"os"
	"testing"
)

// Files that another program has cut, removed or replaced by a folder are missing, and
// are written again. What has no name of ours stays, and is no trouble.
func TestDamagedFiles(t *testing.T) {
	folder := func(path string) error {
		return errors.Join(os.Remove(path), os.Mkdir(path, 0o700), os.WriteFile(path+"/x", nil, 0o600))
	}
	for name, harm := range map[string]func(path string) error{
		"cut":     func(path string) error { return os.Truncate(path, 100) },
		"longer":  func(path string) error { return os.Truncate(path, 1<<20) },
		"removed": os.Remove,
		"folder":  folder,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t, t.TempDir())
			info, data := content1("large", 100<<10)
			if err := create(t, d, "a", info, data); err != nil {
				t.Fatal(err)
			}
			part, bytes := keepPart(t, d, "part", 200<<10)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			c, _ := contentOf(info.Digest)
			if err := errors.Join(harm(d.blobPath(c)), harm(d.partPath(keyOf("a", part).name())),
				os.Mkdir(d.path("partial", "tmp-1"), 0o700), os.WriteFile(d.path("partial", "tmp-1", "x"), nil, 0o600),
				os.WriteFile(d.path("blobs", "README"), nil, 0o600), os.WriteFile(d.path("blobs", "sha256", "README"), nil, 0o600),
			); err != nil {
				t.Fatal(err)
			}
			d = newDir(t, d.root)
			wantMissing(t, d, "a", info.Digest)
			wantNothing(t, d, "a", info.Digest)
			if err := d.Adopt(t.Context(), "b", info, nil); !errors.Is(err, ErrNotFound) {
				t.Errorf("Adopt: %v", err)
			}
			if err := errors.Join(create(t, d, "a", info, data), create(t, d, "a", part, bytes)); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, d, "a", info.Digest, data)
			wantBlob(t, d, "a", part.Digest, bytes)
			if err := takePart(t.Context(), d, part, bytes); err != nil {
				t.Errorf("a spool of the part: %v", err)
			}
			if _, err := d.Sweep(t.Context()); err != nil {
				t.Errorf("Sweep: %v", err)
			}
			if err := errors.Join(d.Delete(t.Context(), "a", info.Digest), d.Delete(t.Context(), "a", part.Digest)); err != nil {
				t.Errorf("Delete: %v", err)
			}
		})
	}
}

// A store that is begun anew frees the files of the old one, however that was closed.
func TestBegunAnewFreesTheFiles(t *testing.T) {
	d := newDir(t, t.TempDir())
	info, data := content1("large", 100<<10)
	if err := errors.Join(create(t, d, "a", info, data), d.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.path("index.db"), 5000); err != nil {
		t.Fatal(err)
	}
	d = newDir(t, d.root)
	if !errors.Is(d.Rebuilt(), ErrDamaged) {
		t.Fatal(d.Rebuilt())
	}
	d.tick.work.Wait()
	audit(t, d)
}

// Content whose file was moved to its place but could not be linked is written again by
// the same Writer or Spool, or frees the disk.
func TestMovedButNotLinked(t *testing.T) {
	d := newDir(t, t.TempDir())
	info, data := content1("large", 100<<10)
	w, err := d.Create(t.Context(), "a", info)
	if err != nil {
		t.Fatal(err)
	}
	sp, err := d.Spool(t.Context(), "b", info)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := w.Write(data)
	_, serr := sp.WriteAt(data, 0)
	if err := errors.Join(werr, serr); err != nil {
		t.Fatal(err)
	}
	commits := map[string]func() error{
		"writer": func() error { return w.Commit(t.Context()) }, "spool": func() error { return sp.Commit(t.Context(), info) },
	}
	for name, commit := range commits {
		d.disk.Step = failCommits
		if err := commit(); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", name, err)
		}
		d.disk.Step = nil
	}
	if _, err := d.Sweep(t.Context()); err != nil { // they are strays now
		t.Fatal(err)
	}
	for name, commit := range commits {
		if err := commit(); err == nil {
			t.Errorf("%s: content without a file is linked", name)
		}
	}
	for repo, again := range map[string]func() error{"a": w.Close, "b": sp.Close} {
		if err := again(); err != nil {
			t.Error(err)
		}
		wantMissing(t, d, repo, info.Digest)
	}
	audit(t, d)
	if w, err = d.Create(t.Context(), "a", info); err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	d.disk.Step = failCommits
	if err := errors.Join(err, w.Commit(t.Context())); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	d.disk.Step = nil
	if err := w.Commit(t.Context()); err != nil {
		t.Errorf("once more: %v", err)
	}
	wantBlob(t, d, "a", info.Digest, data)
	audit(t, d)
}

// A file that is to be removed may have been linked again meanwhile.
func TestALinkedFileStays(t *testing.T) {
	d := newDir(t, t.TempDir())
	info, data := content1("large", 100<<10)
	c, _ := contentOf(info.Digest)
	if err := errors.Join(create(t, d, "a", info, data), d.removeFile(c)); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, d, "a", info.Digest, data)
}
