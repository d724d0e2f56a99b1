package cache

import (
	"io"
	"net/http"
	"time"
)

// A response is written in pieces, each under its own deadline: small ones at first,
// and larger ones to clients that take them quickly.
const (
	sendPiece     = 512 << 10
	sendPieceMost = 4 << 20
)

// buffered is how many bytes of a body the server keeps until the handler returns: to
// write them waits for no client, and needs no deadline.
const buffered = 2 << 10

// recorder notes what is answered, and lets go of clients that do not read it: each
// piece of a response has its own deadline, so that a slow client may take as long as
// the whole needs, and one that stopped is not waited for. It hands io.ReaderFrom on,
// so that the kernel can send files.
type recorder struct {
	http.ResponseWriter
	status   int
	bytes    int64
	begun    time.Time     // zero if nobody wants to know how long it takes
	first    time.Duration // until the header
	patience time.Duration // for one piece; no end if negative
	until    time.Time     // the last deadline that was set; zero if none was
	piece    int64         // how long the next piece may be

	deadlines deadliner // of the connection
}

type deadliner interface{ SetWriteDeadline(time.Time) error }

// deadlines finds what sets the deadlines of a connection, or nil if it has none, such as
// that of a test. It looks where [http.ResponseController] looks, which makes an error
// each time that there is nothing.
func deadlines(w http.ResponseWriter) deadliner {
	for {
		switch t := w.(type) {
		case deadliner:
			return t
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return nil
		}
	}
}

// WriteHeader notes the status.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
		if !r.begun.IsZero() {
			r.first = time.Since(r.begun)
		}
	}
	r.ResponseWriter.WriteHeader(status)
}

// next sets the deadline of the next piece and returns how long that may be, of n
// bytes. A piece that took a small part of its time is followed by a larger one.
func (r *recorder) next(n int64) int64 {
	if r.patience <= 0 {
		return n
	}
	if r.deadlines == nil {
		if r.deadlines = deadlines(r.ResponseWriter); r.deadlines == nil {
			r.patience = 0
			return n
		}
	}
	now := time.Now()
	switch left := r.until.Sub(now); {
	case r.until.IsZero():
		r.piece = sendPiece
	case left > r.patience*31/32:
		r.piece = min(2*r.piece, sendPieceMost)
	case left < r.patience*3/4:
		r.piece = sendPiece
	}
	r.until = now.Add(r.patience)
	_ = r.deadlines.SetWriteDeadline(r.until) // a connection that is gone fails to write
	return min(n, r.piece)
}

// end takes the deadline away, which would hold for the next request of the
// connection.
func (r *recorder) end() {
	if !r.until.IsZero() {
		_ = r.deadlines.SetWriteDeadline(time.Time{})
	}
}

// Write counts bytes.
func (r *recorder) Write(p []byte) (n int, err error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if r.until.IsZero() && r.bytes+int64(len(p)) <= buffered {
		n, err = r.ResponseWriter.Write(p)
		r.bytes += int64(n)
		return n, err
	}
	for {
		piece := p[:r.next(int64(len(p)))]
		m, err := r.ResponseWriter.Write(piece)
		n += m
		r.bytes += int64(m)
		if p = p[len(piece):]; err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// addsLength reports whether the server itself adds Content-Length to a body of that size,
// as that of net/http does for what it has buffered as a whole when the handler returns.
// Only its writers send files: others, such as that of [Cache.Transport], add nothing. Set
// by us, it would be the ninth header of a blob, which takes a larger map, and a larger copy
// of that.
func (r *recorder) addsLength(size int64) bool {
	_, server := r.ResponseWriter.(io.ReaderFrom)
	return server && size >= 0 && size <= buffered
}

// ReadFrom counts bytes and lets the server send a file by itself, piece by piece.
// What it is given must stay a limited file, or the kernel would not be asked.
func (r *recorder) ReadFrom(src io.Reader) (n int64, err error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	whole, limited := src.(*io.LimitedReader)
	if !limited {
		whole = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	for whole.N > 0 {
		piece := &io.LimitedReader{R: whole.R, N: r.next(whole.N)}
		want := piece.N
		m, err := io.Copy(r.ResponseWriter, piece)
		n += m
		r.bytes += m
		whole.N -= want - piece.N
		if err != nil || piece.N > 0 { // it failed, or there is no more
			return n, err
		}
	}
	return n, nil
}

// Unwrap serves http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
