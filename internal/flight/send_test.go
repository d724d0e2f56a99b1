package flight

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/pullthrough/pullthrough/store"
)

// paper is a spool in a real file.
type paper struct {
	*os.File
	path string
}

func newPaper(dir string) (*paper, error) {
	f, err := os.Create(filepath.Join(dir, "spool"))
	return &paper{f, f.Name()}, err
}

func (p *paper) Open() (io.ReadSeekCloser, error)         { return os.Open(p.path) }
func (p *paper) Commit(context.Context, store.Info) error { return nil }

// spyListener tells how the server sends.
type spyListener struct {
	net.Listener
	files, others *atomic.Int64 // bytes sent by the kernel from files, and otherwise
}

func (l spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return spyConn{c.(*net.TCPConn), l}, nil
}

type spyConn struct {
	*net.TCPConn
	l spyListener
}

func (c spyConn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(r)
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			c.l.files.Add(n)
			return n, err
		}
	}
	c.l.others.Add(n)
	return n, err
}

func (c spyConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.l.others.Add(int64(n))
	return n, err
}

func TestSendLeavesItToTheKernel(t *testing.T) {
	const size = 8 << 20
	r := newRig(t, size)
	dir := t.TempDir()
	handler := func(w http.ResponseWriter, _ *http.Request) {
		req := r.request()
		req.Spool = func(context.Context) (store.Spool, error) { return newPaper(dir) }
		h, err := r.g.Join(context.Background(), req)
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		n, err := h.Header(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(http.StatusOK)
		flush := func() { _ = http.NewResponseController(w).Flush() }
		if _, err := h.Send(context.Background(), w, flush, 0, n, true); err != nil {
			t.Error(err)
		}
	}
	l := spyListener{files: &atomic.Int64{}, others: &atomic.Int64{}}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	l.Listener, srv.Listener = srv.Listener, nil
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	res, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	srv.Close() // waits for the handler, which counts after it has sent
	if files, others := l.files.Load(), l.others.Load(); files < size*9/10 || others > 64<<10 {
		t.Errorf("%d bytes were sent from the file, %d otherwise", files, others)
	}
}
