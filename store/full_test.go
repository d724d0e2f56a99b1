package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// TestFullAtEveryStep has the disk full from each step of the story on. What fails says
// ErrFull, everything that was there can be read and deleted, nothing is left over, and
// the story goes on when there is room.
func TestFullAtEveryStep(t *testing.T) {
	s := makeThings()
	steps := tell(t, s, 1<<30).step
	for stop := range steps {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			t.Parallel()
			fullAt(t, s, stop)
		})
	}
}

func fullAt(t *testing.T, s things, stop int) {
	d := newDir(t, t.TempDir())
	n, room := 0, false
	d.disk.NoSync = true
	d.disk.Step = func(op durable.Op, path, _ string) error {
		n++
		if room || n <= stop || op != durable.OpCreate && op != durable.OpWrite && op != durable.OpMkdir && op != durable.OpCommit {
			return nil
		}
		if _, err := os.Stat(d.path("spare")); err != nil && op == durable.OpCommit {
			return nil // there is the room that the spare file had
		}
		return &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	}
	var finished []string
	err := story(t.Context(), d, s, func(what string) { finished = append(finished, what) })
	if err != nil && !errors.Is(err, ErrFull) {
		t.Fatalf("after %q: %v", finished, err)
	}
	consistent(t, d, s, finished)
	audit(t, d)
	for _, info := range []Info{s.small, s.big, s.manifest, s.index} {
		if err := d.Delete(t.Context(), "a/b", info.Digest); err != nil {
			t.Errorf("Delete: %v", err)
		}
		wantMissing(t, d, "a/b", info.Digest)
	}
	if err := errors.Join(d.DeleteTag(t.Context(), "a/b", "V1"), d.DeleteRecord(t.Context(), "jobs", "job")); err != nil {
		t.Error(err)
	}
	audit(t, d)
	room = true
	if err := story(t.Context(), d, s, func(string) {}); err != nil {
		t.Errorf("there is room, but: %v", err)
	}
	audit(t, d)
}

// failCommits is a disk that is full when a transaction is written.
func failCommits(op durable.Op, path, _ string) error {
	if op == durable.OpCommit {
		return &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	}
	return nil
}

// TestReallyFull fills a small file system, which the variable PULLTHROUGH_FULL names, such
// as a tmpfs of 24 MiB.
func TestReallyFull(t *testing.T) {
	where := os.Getenv("PULLTHROUGH_FULL")
	if where == "" {
		t.Skip("PULLTHROUGH_FULL names no small file system")
	}
	path, err := os.MkdirTemp(where, "store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	f := &filler{T: t, path: filepath.Join(path, "s"), random: rand.New(rand.NewPCG(1, 9))}
	f.open()
	for f.add() == nil {
	}
	t.Logf("full after %d images", len(f.there))
	for range 20 { // small ones use up what is left
		if err := f.add(); err != nil && !errors.Is(err, ErrFull) {
			t.Errorf("a full disk: %v", err)
		}
	}
	f.check()
	f.open() // on the full disk
	f.check()
	deleted := 0
	for range len(f.there) / 2 {
		if err := f.delete(); err != nil {
			t.Errorf("Delete %d: %v", deleted, err)
		}
		deleted++
	}
	f.check()
	for range deleted / 3 {
		if err := f.add(); err != nil {
			t.Errorf("there is room, but: %v", err)
		}
	}
	f.check()
	f.open()
	f.check()
	if f.d.Rebuilt() != nil {
		t.Error(f.d.Rebuilt())
	}
}

// filler fills a store with images of a manifest and a blob.
type filler struct {
	*testing.T
	path   string
	d      *Dir
	random *rand.Rand
	there  []int
	n      int
}

func (f *filler) open() {
	f.Helper()
	if f.d != nil {
		if err := f.d.Close(); err != nil {
			f.Errorf("Close: %v", err)
		}
	}
	d, err := OpenDir(f.path)
	if err != nil {
		f.Fatalf("OpenDir: %v", err)
	}
	d.MinFree = -1
	f.d = d
	f.Cleanup(func() { d.Close() })
}

func (f *filler) image(i int) (repo string, manifest, blob Info, text, data []byte) {
	manifest, text = content1(fmt.Sprint("manifest ", i, " "), 900)
	manifest.MediaType = ocispec.MediaTypeImageManifest
	blob, data = content1(fmt.Sprint("blob ", i, " "), []int{2000, 12000, 100 << 10, 300 << 10}[i%4])
	return fmt.Sprint("r", i%7), manifest, blob, text, data
}

// add stores one more image.
func (f *filler) add() error {
	f.Helper()
	f.n++
	repo, manifest, blob, text, data := f.image(f.n)
	if err := create(f, f.d, repo, blob, data); err != nil {
		return err
	}
	tag := TagChange{Repo: repo, Tag: fmt.Sprint("v", f.n), Value: Tag{Descriptor: manifest.Descriptor}}
	err := f.d.Apply(f.Context(), &Batch{Content: []Piece{{Repo: repo, Info: manifest, Bytes: text}}, Tags: []TagChange{tag}})
	if err != nil {
		return errors.Join(err, f.d.Delete(f.Context(), repo, blob.Digest))
	}
	f.there = append(f.there, f.n)
	return nil
}

// delete deletes one of the images.
func (f *filler) delete() error {
	i := f.random.IntN(len(f.there))
	n := f.there[i]
	f.there = append(f.there[:i], f.there[i+1:]...)
	repo, manifest, blob, _, _ := f.image(n)
	return f.d.Apply(f.Context(), &Batch{Deletions: []Deletion{
		{Repo: repo, Tag: fmt.Sprint("v", n)}, {Repo: repo, Digest: manifest.Digest}, {Repo: repo, Digest: blob.Digest}}})
}

// check reads all images.
func (f *filler) check() {
	f.Helper()
	for _, n := range f.there {
		repo, manifest, blob, text, data := f.image(n)
		wantBlob(f, f.d, repo, manifest.Digest, text)
		wantBlob(f, f.d, repo, blob.Digest, data)
		if tag, err := f.d.Tag(f.Context(), repo, fmt.Sprint("v", n)); err != nil || tag.Digest != manifest.Digest {
			f.Errorf("tag v%d: %v", n, err)
		}
	}
	f.d.tick.work.Wait()
	audit(f, f.d)
}
