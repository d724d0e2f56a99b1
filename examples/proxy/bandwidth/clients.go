package bandwidth

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"time"
)

// Clients limits the bodies of all responses of a handler together. The addresses of clients
// share the limit fairly. While nothing is limited, the handler gets the ResponseWriter of
// the server itself, so that the kernel can send files. It is safe for concurrent use.
type Clients struct {
	Handler http.Handler
	Limit   *Limit
	// Client returns the address of the client that sent a request, which may lie behind a
	// proxy. If nil, it is the one that the connection comes from.
	Client func(*http.Request) netip.Addr
}

// ServeHTTP serves a request.
func (c *Clients) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.Limit.Piece() == 0 {
		c.Handler.ServeHTTP(w, r)
		return
	}
	c.Handler.ServeHTTP(&writer{ResponseWriter: w, ctx: r.Context(), limit: c.Limit, key: Share(c.client(r))}, r)
}

// client returns the address of the client, or one that is not valid if it has none.
func (c *Clients) client(r *http.Request) netip.Addr {
	if c.Client != nil {
		return c.Client(r)
	}
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a.Addr()
}

// Share names the share that an address has. Since a single machine may have all addresses of
// an IPv6 network of 64 bits, these have one share.
func Share(a netip.Addr) string {
	if a = a.Unmap(); !a.Is6() {
		return a.String()
	}
	network, _ := a.WithZone("").Prefix(64) // fails for no such address
	return network.String()
}

// writer is a ResponseWriter that waits for each piece of the body. The time for which it
// waits is not counted against the deadline for writing.
type writer struct {
	http.ResponseWriter
	ctx   context.Context
	limit *Limit
	key   string
	until time.Time // the deadline for writing; zero if there is none
}

// Unwrap serves [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// SetWriteDeadline sets the deadline for writing. Waiting puts it off.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.until = t
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(t)
}

// take waits until n bytes may pass.
func (w *writer) take(n int) error {
	began := time.Now()
	if err := w.limit.Take(w.ctx, w.key, n); err != nil {
		return err
	}
	if waited := time.Since(began); waited > time.Millisecond && w.until.After(began) {
		_ = w.SetWriteDeadline(w.until.Add(waited)) // a connection that is gone fails to write
	}
	return nil
}

// Write writes the body piece by piece.
func (w *writer) Write(p []byte) (n int, err error) {
	for first := true; first || len(p) > 0; first = false {
		piece := p
		if most := w.limit.Piece(); most > 0 {
			piece = p[:min(len(p), most)]
		}
		if err := w.take(len(piece)); err != nil {
			return n, err
		}
		m, err := w.ResponseWriter.Write(piece)
		n += m
		if err != nil {
			return n, err
		}
		p = p[m:]
	}
	return n, nil
}

// ReadFrom lets the server send a file by itself, piece by piece. What it is given must stay
// a limited file, or the kernel would not be asked.
func (w *writer) ReadFrom(src io.Reader) (n int64, err error) {
	whole, ok := src.(*io.LimitedReader)
	if !ok {
		whole = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	for whole.N > 0 {
		most := w.limit.Piece()
		if most == 0 {
			most = mostPiece // nothing is limited any more
		}
		piece := &io.LimitedReader{R: whole.R, N: min(whole.N, int64(most))}
		want := piece.N
		if err := w.take(int(want)); err != nil {
			return n, err
		}
		m, err := io.Copy(w.ResponseWriter, piece)
		n += m
		whole.N -= want - piece.N
		if err != nil || piece.N > 0 { // it failed, or there is no more
			return n, err
		}
	}
	return n, nil
}
