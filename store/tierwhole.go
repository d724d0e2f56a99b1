package store

import (
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// wholeReader reads content of Far for one reader, which does not come to an end of wrong
// bytes if it reads all of them in order. It is used by one goroutine.
type wholeReader struct {
	io.ReadSeekCloser // of Far
	t                 *Tier
	repo              string
	info              Info

	pos    int64
	sum    digest.Verifier
	summed int64 // bytes from the first one on that were read in order
	wrong  error // set once all of them were, and have another digest
}

func newWholeReader(t *Tier, repo string, info Info, far io.ReadSeekCloser) *wholeReader {
	return &wholeReader{ReadSeekCloser: far, t: t, repo: repo, info: info, sum: info.Digest.Verifier()}
}

// begins says that n bytes were read already, which r yields.
func (w *wholeReader) begins(r io.Reader, n int64) error {
	_, err := io.CopyN(w.sum, r, n)
	w.summed = n
	return err
}

func (w *wholeReader) Read(p []byte) (int, error) {
	switch {
	case w.wrong != nil:
		return 0, w.wrong
	case w.pos >= w.info.Size:
		return 0, io.EOF
	}
	n, err := w.ReadSeekCloser.Read(p[:min(int64(len(p)), w.info.Size-w.pos)])
	if w.pos == w.summed {
		_, _ = w.sum.Write(p[:n])
		w.summed += int64(n)
	}
	w.pos += int64(n)
	if err == io.EOF && w.pos < w.info.Size {
		err = io.ErrUnexpectedEOF
	}
	if w.summed == w.info.Size && !w.sum.Verified() {
		w.t.damaged(w.repo, w.info)
		w.wrong = fmt.Errorf("%w: %s in %s", errDamagedCopy, w.info.Digest, w.repo)
		return 0, w.wrong
	}
	return n, err
}

func (w *wholeReader) Seek(offset int64, whence int) (int64, error) {
	pos, err := w.ReadSeekCloser.Seek(offset, whence)
	if err == nil {
		w.pos = pos
	}
	return pos, err
}

// damaged notes that content of Far has wrong bytes.
func (t *Tier) damaged(repo string, info Info) {
	t.log().Error("content of the far store is damaged; it counts as missing", "repository", repo, "digest", info.Digest.String())
	t.state().memory.damaged(repo, info)
}
