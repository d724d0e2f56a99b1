package flight

import (
	"errors"
	"io"
	"sync"

	"github.com/pullthrough/pullthrough/store"
)

// spoolLife is the lifetime of a flight's spool. There is at most one spool for
// a blob. The download holds a reference to it, and so does each reader that
// may still open it: a reader gives its reference up once it has a file of its
// own. The last reference closes the spool and lets another flight for the same
// blob begin. If the download fails, it withdraws the spool instead; then
// references count no more, and the download itself calls free.
type spoolLife struct {
	forget func()        // takes the flight out of its group
	freed  chan struct{} // closed after forget: another flight for the blob may begin

	mu        sync.Mutex
	spool     store.Spool // nil before set, and after the last reference or withdraw
	refs      int
	withdrawn bool
}

// newSpoolLife gives the download the first reference.
func newSpoolLife(forget func()) *spoolLife {
	return &spoolLife{forget: forget, freed: make(chan struct{}), refs: 1}
}

// set says which spool it is.
func (s *spoolLife) set(spool store.Spool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spool = spool
}

// get returns the spool, nil if there is none. It is not closed while the caller
// holds a reference, unless the download withdraws it.
func (s *spoolLife) get() store.Spool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spool
}

// acquire adds a reference. The caller knows that there is another one.
func (s *spoolLife) acquire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs++
}

// release gives one reference up.
func (s *spoolLife) release() {
	s.mu.Lock()
	s.refs--
	last := s.refs == 0 && !s.withdrawn
	spool := s.spool
	if last {
		s.spool = nil
	}
	s.mu.Unlock()
	if last {
		_ = spool.Close() // it is committed, or cannot be
		s.free()
	}
}

// withdraw takes the spool away from all references and returns it, nil if
// there is none. The caller keeps or closes it, and then calls free.
func (s *spoolLife) withdraw() store.Spool {
	s.mu.Lock()
	defer s.mu.Unlock()
	spool := s.spool
	s.spool, s.withdrawn = nil, true
	return spool
}

// free lets another flight for the blob begin. It is called once.
func (s *spoolLife) free() {
	s.forget()
	close(s.freed)
}

// spoolReader is one reader's way to the spool: a reference, and from open on a
// file instead. It is used by one goroutine.
type spoolReader struct {
	life *spoolLife
	held bool // it holds a reference
	file io.ReadSeekCloser
	pos  int64 // of file; -1 if unknown
}

// newSpoolReader acquires a reference for a reader.
func newSpoolReader(life *spoolLife) spoolReader {
	life.acquire()
	return spoolReader{life: life, held: true}
}

// open makes the reader's own file, once, and gives the reference up for it.
func (r *spoolReader) open() error {
	if r.file != nil {
		return nil
	}
	spool := r.life.get()
	if spool == nil {
		return errBroken
	}
	file, err := spool.Open()
	if err != nil {
		return err
	}
	r.file = file
	r.release()
	return nil
}

// copy sends n bytes from off on, which are present, to w. If the file is an
// *os.File, the kernel sends them.
func (r *spoolReader) copy(w io.Writer, off, n int64) (int64, error) {
	if err := r.open(); err != nil {
		return 0, err
	}
	if r.pos != off {
		if _, err := r.file.Seek(off, io.SeekStart); err != nil {
			return 0, err
		}
		r.pos = off
	}
	m, err := io.CopyN(w, r.file, n)
	r.pos += m
	if err != nil {
		r.pos = -1 // w may have taken less than was read
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}

// release gives the reference up, if the reader still holds it.
func (r *spoolReader) release() {
	if r.held {
		r.held = false
		r.life.release()
	}
}

// close closes the reader's file and gives its reference up.
func (r *spoolReader) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
	r.release()
}
