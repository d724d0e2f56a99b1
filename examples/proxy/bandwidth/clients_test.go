package bandwidth_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/bandwidth"
)

// kernel is a ResponseWriter that notes what the kernel would be asked to send.
type kernel struct {
	*httptest.ResponseRecorder
	files int // pieces that were limited files
	other int
	most  int64
}

func (k *kernel) ReadFrom(src io.Reader) (int64, error) {
	l, ok := src.(*io.LimitedReader)
	if ok {
		_, ok = l.R.(*os.File)
		k.most = max(k.most, l.N)
	}
	if ok {
		k.files++
	} else {
		k.other++
	}
	return io.Copy(k.ResponseRecorder, src)
}

// TestKernelStillSendsFiles: without a limit the handler has the ResponseWriter of the server
// itself, and with one a file is still a file, in pieces.
func TestKernelStillSendsFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	data := bytes.Repeat([]byte("0123456789"), 30_000)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &bandwidth.Clients{Limit: new(bandwidth.Limit), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(path)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, plain := w.(*kernel); plain != (r.URL.Path == "/plain") {
			t.Errorf("%s: the handler has a %T", r.URL.Path, w)
		}
		if n, err := io.CopyN(w, f, int64(len(data))); err != nil || n != int64(len(data)) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})}
	send := func(path string) *kernel {
		k := &kernel{ResponseRecorder: httptest.NewRecorder()}
		c.ServeHTTP(k, httptest.NewRequest("GET", path, nil))
		if !bytes.Equal(k.Body.Bytes(), data) || k.other != 0 {
			t.Errorf("%d bytes, %d pieces that are no files", k.Body.Len(), k.other)
		}
		return k
	}
	if k := send("/plain"); k.files != 1 {
		t.Errorf("%d pieces, want one", k.files)
	}
	c.Limit.Set(16 << 20)
	if k := send("/limited"); k.files < 9 || k.most > 32<<10 {
		t.Errorf("%d pieces, the longest of %d bytes", k.files, k.most)
	}
}

// piped is a listener whose connections are pipes, so that a server of a bubble lives in fake time.
type piped struct {
	dialled chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// dial is the other side of Accept.
func (p *piped) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.dialled <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *piped) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialled:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *piped) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *piped) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// TestClientsWait: responses take as long as the limit says, by HTTP/1.1 and h2, whether the
// body is a file or not. The time does not count against the deadline for writing.
func TestClientsWait(t *testing.T) {
	const size = 300 << 10
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, h2 := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := &bandwidth.Clients{Limit: new(bandwidth.Limit), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
					t.Error(err)
				}
				if r.URL.Path == "/file" {
					http.ServeFile(w, r, path)
					return
				}
				_, _ = w.Write(make([]byte, size))
			})}
			c.Limit.Set(bandwidth.Least)
			l := &piped{dialled: make(chan net.Conn), closed: make(chan struct{})}
			server := httptest.NewUnstartedServer(c)
			_ = server.Listener.Close()
			server.Listener, server.EnableHTTP2 = l, h2
			server.StartTLS()
			defer server.Close()
			server.Client().Transport.(*http.Transport).DialContext = l.dial
			for _, what := range []string{"/file", "/bytes"} {
				begun := time.Now()
				resp, err := server.Client().Get(server.URL + what)
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if took := time.Since(begun); err != nil || n != size || took < 900*time.Millisecond || (resp.ProtoMajor == 2) != h2 {
					t.Errorf("%s, %s: %d bytes in %v, %v; want about 1.1 s", resp.Proto, what, n, took, err)
				}
			}
		})
	}
}

// TestClientThatLeaves: its response ends, and takes nothing more.
func TestClientThatLeaves(t *testing.T) {
	ended := make(chan error, 1)
	c := &bandwidth.Clients{Limit: new(bandwidth.Limit), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, 1<<30))
		ended <- err
	})}
	c.Limit.Set(bandwidth.Least)
	server := httptest.NewServer(c)
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("1 GiB was written")
		}
	case <-time.After(20 * time.Second):
		t.Error("the response does not end")
	}
}

// TestAddressesOfOneClient: each client has its share, whatever its connections are, and
// addresses of one IPv6 network are one client.
func TestAddressesOfOneClient(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "10.0.0.1", true}, {"10.0.0.1", "10.0.0.2", false}, {"10.0.0.1", "::ffff:10.0.0.1", true},
		{"2001:db8::1", "2001:db8::2", true}, {"2001:db8::1", "2001:db8:0:1::1", false}, {"fe80::1%eth0", "fe80::2%eth0", true},
	} {
		a, b := netip.MustParseAddr(test.a), netip.MustParseAddr(test.b)
		if same := bandwidth.Share(a) == bandwidth.Share(b); same != test.same {
			t.Errorf("%s and %s: %v", test.a, test.b, same)
		}
	}
}

// TestClientBehindAProxy: a client whose requests come through a proxy beside those of a
// crowd has its own share.
func TestClientBehindAProxy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var mu sync.Mutex
		got := map[string]int{}
		c := &bandwidth.Clients{
			Limit:  new(bandwidth.Limit),
			Client: func(r *http.Request) netip.Addr { return netip.MustParseAddr(r.URL.Path[1:]) },
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for {
					n, err := w.Write(make([]byte, 512))
					if err != nil {
						return
					}
					mu.Lock()
					got[r.URL.Path] += n
					mu.Unlock()
				}
			}),
		}
		c.Limit.Set(bandwidth.Least)
		var all sync.WaitGroup
		for _, path := range append(many(50, "/10.0.0.1"), "/10.0.0.2") {
			all.Go(func() {
				c.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", path, nil))
			})
		}
		all.Wait()
		if share := float64(got["/10.0.0.2"]) / float64(got["/10.0.0.1"]+got["/10.0.0.2"]); share < 0.47 || share > 0.53 {
			t.Errorf("one connection beside 50 gets %.2f, want half: %v", share, got)
		}
	})
}
