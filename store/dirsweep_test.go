package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
)

func TestDeleteFreesTheBytes(t *testing.T) {
	d := newDir(t, t.TempDir())
	kept, keptData := content1("kept", 50000)
	gone, goneData := content1("gone", 70000)
	shared, sharedData := content1("shared", 90000)
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
	c, _ := contentOf(gone.Digest)
	if _, err := os.Stat(d.blobPath(c)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if data, err := io.ReadAll(r); err != nil || !bytes.Equal(data, goneData) {
		t.Errorf("a reader got %d bytes, %v", len(data), err)
	}
	wantBlob(t, d, "a", kept.Digest, keptData)
	wantBlob(t, d, "a", shared.Digest, sharedData)
	no := func(context.Context, io.ReadSeeker) error { t.Error("allowed was called"); return nil }
	if err := d.Adopt(t.Context(), "c", gone, no); !errors.Is(err, ErrNotFound) {
		t.Errorf("Adopt of what was deleted: %v", err)
	}
}

// A file that a crash left without a link goes, by Sweep or by the next OpenDir.
func TestSweep(t *testing.T) {
	path := t.TempDir()
	d := newDir(t, path)
	kept, keptData := content1("kept", 50000)
	if err := create(t, d, "a", kept, keptData); err != nil {
		t.Fatal(err)
	}
	stray, strayData := content1("stray", 70000)
	c, _ := contentOf(stray.Digest)
	leave := func() {
		if err := errors.Join(os.MkdirAll(d.blobFolder(c), 0o700), os.WriteFile(d.blobPath(c), strayData, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	if n, err := d.Sweep(t.Context()); err != nil || n != 70000 {
		t.Errorf("Sweep: %d, %v", n, err)
	}
	if n, err := d.Sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("Sweep again: %d, %v", n, err)
	}
	leave()
	d.crash()
	d = newDir(t, path)
	d.tick.work.Wait()
	if _, err := os.Stat(d.blobPath(c)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a crash the file is still there: %v", err)
	}
	wantBlob(t, d, "a", kept.Digest, keptData)
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
					info, data := content1(fmt.Sprint("blob", j%7), 15<<10+j%3<<10)
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
