package cache

import (
	"context"
	"io"
	"os"

	"github.com/pullthrough/pullthrough/store"
)

// fileSpool is the spool of a download for a store that cannot be written out of order: a
// temporary file, which is uploaded after the digest has matched.
type fileSpool struct {
	*os.File
	store store.Store
	repo  string
	want  store.Info
}

func newFileSpool(dir string, s store.Store, repo string, want store.Info) (store.Spool, error) {
	f, err := os.CreateTemp(dir, "pullthrough-*.part")
	if err != nil {
		return nil, err
	}
	return &fileSpool{File: f, store: s, repo: repo, want: want}, nil
}

// Open returns a handle with a position of its own.
func (s *fileSpool) Open() (io.ReadSeekCloser, error) { return os.Open(s.Name()) }

// Commit uploads the file.
func (s *fileSpool) Commit(ctx context.Context, got store.Info) error {
	want := s.want
	want.Size = got.Size
	r, err := s.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := s.store.Create(ctx, s.repo, want)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.Copy(w, io.LimitReader(r, got.Size)); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// Close removes the file. Handles that are open still read it.
func (s *fileSpool) Close() error {
	err := s.File.Close()
	_ = os.Remove(s.Name())
	return err
}
