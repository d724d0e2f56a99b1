package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/pullthrough/pullthrough/internal/durable"
)

const (
	// smallContent is the size up to which content is kept in the index. Reading costs a
	// copy and a hash there; from that size on, a file that the kernel sends is cheaper.
	smallContent = 16 << 10
	// maxManifest is the size up to which a manifest is kept in the index. No registry
	// takes larger ones.
	maxManifest = 4 << 20
)

// Create implements [Content].
func (d *Dir) Create(ctx context.Context, repo string, want Info) (Writer, error) {
	if err := checkInfo(ctx, repo, want); err != nil {
		return nil, err
	}
	if err := d.room(); err != nil {
		return nil, err
	}
	c, err := contentOf(want.Digest)
	if err != nil {
		return nil, err
	}
	w := &dirWriter{d: d, repo: repo, want: want, c: c, limit: indexed(want)}
	if 0 < want.Size && want.Size <= w.limit {
		w.small = make([]byte, 0, want.Size)
	}
	return w, nil
}

// indexed returns the size up to which such content is kept in the index.
func indexed(info Info) int64 {
	if info.IsManifest() {
		return maxManifest
	}
	return smallContent
}

type dirWriter struct {
	d     *Dir
	repo  string
	want  Info
	c     content
	limit int64
	small []byte   // what was written, up to limit
	file  *os.File // a temporary file for more than that; nil before
	n     int64
	// placed says that the file is in blobs/. It is a stray until it is linked, and over
	// is set.
	placed bool
	over   bool
}

func (w *dirWriter) Write(p []byte) (int, error) {
	if w.over {
		return 0, errClosed
	}
	if err := checkSpan(w.want.Size, w.n, len(p)); err != nil {
		return 0, err
	}
	if w.file == nil {
		if w.n+int64(len(p)) <= w.limit {
			w.small = append(w.small, p...)
			w.n += int64(len(p))
			return len(p), nil
		}
		if err := w.spill(); err != nil {
			return 0, w.d.wrap("write", w.repo, w.c, err)
		}
	}
	err := w.d.writing(len(p))
	if err == nil {
		err = w.d.disk.Writing(w.file)
	}
	if err != nil {
		return 0, w.d.wrap("write", w.repo, w.c, err)
	}
	n, err := w.file.Write(p)
	w.n += int64(n)
	return n, w.d.wrap("write", w.repo, w.c, err)
}

// spill moves what was written to a file. With an error, nothing has changed.
func (w *dirWriter) spill() error {
	f, err := w.d.disk.CreateTemp()
	if err != nil {
		return err
	}
	if err = w.d.disk.Writing(f); err == nil {
		_, err = f.Write(w.small)
	}
	if err != nil {
		f.Close()
		return errors.Join(err, w.d.disk.Remove(f.Name()))
	}
	w.file, w.small = f, nil
	return nil
}

func (w *dirWriter) Commit(ctx context.Context) error {
	if w.over {
		return errClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.want.Size >= 0 && w.n != w.want.Size {
		return sizeError(w.want.Size, w.n)
	}
	info := w.want.Stored(w.n)
	var err error
	if w.file == nil {
		err = w.d.commitSmall(w.repo, w.c, info, w.small, nil)
	} else if err = w.d.disk.Sync(w.file); err == nil {
		err = w.d.commitFile(w.repo, w.c, info, w.place, nil)
	}
	if err != nil {
		return w.d.wrap("commit", w.repo, w.c, err)
	}
	w.over = true
	if w.file != nil {
		w.file.Close() // nothing is left to fail: the bytes are synced
	}
	return nil
}

// place moves the file to path, once.
func (w *dirWriter) place(path string) error {
	if w.placed {
		return stillThere(path)
	}
	err := w.d.disk.Rename(w.file.Name(), path)
	w.placed = err == nil
	return err
}

// stillThere returns an error if a file is gone that was moved to its place but not
// linked: it was a stray meanwhile.
func stillThere(path string) error {
	_, err := durable.Size(path)
	return err
}

func (w *dirWriter) Close() error {
	if w.over {
		return nil
	}
	w.over, w.small = true, nil
	if w.file == nil {
		return nil
	}
	w.file.Close()
	if w.placed {
		return w.d.wrap("close", w.repo, w.c, w.d.removeFile(w.c))
	}
	return w.d.wrap("close", w.repo, w.c, w.d.disk.Remove(w.file.Name()))
}

// commitSmall keeps bytes in the index, which do not change any more, and links them.
// also, if not nil, is done in the same transaction.
func (d *Dir) commitSmall(repo string, c content, info Info, data []byte, also func(t dirTx)) error {
	var file bool
	err := d.update(func(t dirTx) error {
		file = t.keep(repo, c, info, data)
		if also != nil {
			also(t)
		}
		return nil
	})
	if err == nil && file {
		err = d.removeFile(c)
	}
	return err
}

// commitFile lets put move a file that is on disk to its place, and links it. also, if
// not nil, is done in the same transaction.
func (d *Dir) commitFile(repo string, c content, info Info, put func(path string) error, also func(t dirTx)) error {
	if err := d.makeFolder(c); err != nil {
		return err
	}
	d.place.RLock()
	defer d.place.RUnlock()
	path := d.blobPath(c)
	err := put(path)
	if err != nil && isFolder(path) { // which another program has made
		if err = d.disk.Remove(path); err == nil {
			err = put(path)
		}
	}
	if err == nil {
		err = d.disk.SyncFolder(d.blobFolder(c))
	}
	if err != nil {
		return err
	}
	return d.update(func(t dirTx) error {
		t.keepFile(repo, c, info)
		if also != nil {
			also(t)
		}
		return nil
	})
}

// algorithms are the folders in blobs/. Others are not ours.
var algorithms = [...]string{"sha256", "sha512"}

// makeFolder makes the folder of a blob, whose name is on disk when it returns. The
// folder stays for ever.
func (d *Dir) makeFolder(c content) error {
	folder := d.blobFolder(c)
	d.foldersMu.Lock()
	defer d.foldersMu.Unlock()
	if d.folders[folder] {
		return nil
	}
	if err := d.disk.MkdirAll(folder); err != nil {
		return err
	}
	d.folders[folder] = true
	return nil
}

// openFolders notes the folders of blobs that are there, after their names are on disk: a
// former process may have ended before it had synced them.
func (d *Dir) openFolders() error {
	for _, alg := range algorithms {
		names, err := readNames(d.path("blobs", alg))
		if err == nil && len(names) > 0 {
			err = d.disk.SyncFolder(d.path("blobs", alg))
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			d.folders[d.path("blobs", alg, name)] = true
		}
	}
	return d.disk.SyncFolder(d.path("blobs"))
}

// removeFile removes the file of content that has none any more. A file that was linked
// meanwhile stays.
func (d *Dir) removeFile(c content) error {
	d.place.Lock()
	defer d.place.Unlock()
	if needed, err := d.needsFile(c); err != nil || needed {
		return err
	}
	return d.disk.Remove(d.blobPath(c))
}

// isStray reports whether the file of content is not linked, and not about to be.
func (d *Dir) isStray(c content) (bool, error) {
	d.place.Lock()
	defer d.place.Unlock()
	needed, err := d.needsFile(c)
	return !needed, err
}

func (d *Dir) needsFile(c content) (needed bool, err error) {
	err = d.view(func(t dirTx) error {
		b, ok := t.blob(c)
		needed = ok && b.number == 0
		return nil
	})
	return needed, err
}

// readNames returns the names in a folder. What is not there, or no folder, has none.
func readNames(folder string) ([]string, error) {
	f, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return names, err
}

func isFolder(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.IsDir()
}

// sizeOnDisk is the size of a file, or 0 if it is not there.
func sizeOnDisk(path string) int64 {
	n, err := durable.Size(path)
	if err != nil {
		return 0
	}
	return n
}
