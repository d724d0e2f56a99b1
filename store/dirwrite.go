package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// smallContent is the size up to which content is gathered in memory, so that its file
// is written in one go.
const smallContent = 64 << 10

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
	w := &dirWriter{d: d, repo: repo, want: want, c: c}
	if 0 < want.Size && want.Size <= smallContent {
		w.small = make([]byte, 0, want.Size)
	}
	return w, nil
}

type dirWriter struct {
	d     *Dir
	repo  string
	want  Info
	c     content
	small []byte   // what was written, up to smallContent
	file  *os.File // a temporary file for more than that; nil before
	n     int64
	over  bool
}

func (w *dirWriter) Write(p []byte) (int, error) {
	if w.over {
		return 0, errClosed
	}
	if err := checkSpan(w.want.Size, w.n, len(p)); err != nil {
		return 0, err
	}
	if w.file == nil {
		if w.n+int64(len(p)) <= smallContent {
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

func (w *dirWriter) spill() (err error) {
	if w.file, err = w.d.disk.CreateTemp(); err != nil {
		return err
	}
	_, err = w.file.Write(w.small)
	w.small = nil
	return err
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
	if w.file != nil {
		if err := w.d.disk.Sync(w.file); err != nil {
			return w.d.wrap("commit", w.repo, w.c, err)
		}
	}
	info := linked(w.want, w.n)
	var err error
	if w.file == nil {
		err = w.d.commitSmall(w.repo, w.c, info, w.small)
	} else {
		err = w.d.commit(w.repo, w.c, info, func(path string) error { return w.d.disk.Rename(w.file.Name(), path) })
	}
	if err != nil {
		return err
	}
	w.over = true
	if w.file != nil {
		w.file.Close() // nothing is left to fail: the bytes are synced
	}
	return nil
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
	return w.d.wrap("close", w.repo, w.c, w.d.disk.Remove(w.file.Name()))
}

// commit lets place move the bytes to their path in blobs/, and links them.
func (d *Dir) commit(repo string, c content, info Info, place func(path string) error) error {
	d.sweep.RLock()
	defer d.sweep.RUnlock()
	d.noteLinked(c)
	path := d.blobPath(c)
	err := d.at(repo, d.blobFolder(c), func() error { return place(path) })
	if err == nil {
		err = d.link(repo, c, info)
	}
	return d.wrap("commit", repo, c, err)
}

// commitSmall is commit for bytes in memory. A file that is there with these
// very bytes stays; a damaged one is repaired by the new copy.
func (d *Dir) commitSmall(repo string, c content, info Info, data []byte) error {
	if sameBytes(d.blobPath(c), data) {
		err := d.commit(repo, c, info, func(path string) error {
			_, err := durable.Size(path)
			return err
		})
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A Sweep has taken the file meanwhile.
	}
	temp, err := d.disk.WriteTemp(data, true)
	if err != nil {
		return d.wrap("commit", repo, c, err)
	}
	err = d.commit(repo, c, info, func(path string) error { return d.disk.Rename(temp, path) })
	if err != nil {
		_ = d.disk.Remove(temp)
	}
	return err
}

func sameBytes(path string, data []byte) bool {
	f, size, err := durable.OpenRead(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if size != int64(len(data)) {
		return false
	}
	old := make([]byte, size)
	_, err = io.ReadFull(f, old)
	return err == nil && bytes.Equal(old, data)
}
