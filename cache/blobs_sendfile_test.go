package cache_test

import (
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// spyListener notes what reaches the connections' ReadFrom: net hands a part of
// an *os.File to sendfile, and copies everything else.
type spyListener struct {
	net.Listener
	mu     sync.Mutex
	sent   int64
	copied []string // types of sources that are no files
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &spyConn{c.(*net.TCPConn), l}, nil
}

type spyConn struct {
	*net.TCPConn
	l *spyListener
}

func (c *spyConn) ReadFrom(src io.Reader) (int64, error) {
	inner := src
	for {
		limited, ok := inner.(*io.LimitedReader)
		if !ok {
			break
		}
		inner = limited.R
	}
	n, err := c.TCPConn.ReadFrom(src)
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if _, ok := inner.(*os.File); ok {
		c.l.sent += n
	} else {
		c.l.copied = append(c.l.copied, fmt.Sprintf("%T", inner))
	}
	return n, err
}

// spied serves the cache once more, with connections that are watched.
func (s *story) spied() *spyListener {
	web := httptest.NewUnstartedServer(s.cache)
	l := &spyListener{Listener: web.Listener}
	web.Listener = l
	web.Start()
	s.web = web
	s.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	return l
}

// wantSendfile ends the server, so that all is counted. It accepts that net/http
// copies the first 512 bytes, as it does where it might have to guess a type.
func (s *story) wantSendfile(l *spyListener, size int64) {
	s.Helper()
	s.web.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sent < size-512 || l.sent > size || len(l.copied) > 0 {
		s.Errorf("%d of %d bytes came from a file, and some from %q", l.sent, size, l.copied)
	}
}

// warmBlob is a story with a blob that is here.
func warmBlob(t *testing.T) (*story, digest.Digest) {
	s := newStory(t, onDir)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, mib))
	s.pull("app/api", "v1", img)
	s.settle()
	return s, img.Layers[0].Digest
}

func TestWarmBlobUsesSendfile(t *testing.T) {
	s, d := warmBlob(t)
	l := s.spied()
	if got := s.wantBlob("app/api", d).Header.Get("Cache-Status"); got != "pullthrough; hit" {
		t.Fatalf("Cache-Status %q", got)
	}
	s.wantSendfile(l, mib)
}

func TestWarmRangeUsesSendfile(t *testing.T) {
	s, d := warmBlob(t)
	l := s.spied()
	r := s.blob("app/api", d, "Range", "bytes=1000-900999")
	if r.StatusCode != 206 || len(r.body) != 900000 {
		t.Fatalf("status %d, %d bytes, %v", r.StatusCode, len(r.body), r.err)
	}
	s.wantSendfile(l, 900000)
}

func TestColdBlobUsesSendfile(t *testing.T) {
	s := newStory(t, onDir)
	l := s.spied()
	s.wantBlob("app/api", s.oneBlob(4*mib))
	s.wantSendfile(l, 4*mib)
}

func TestColdRangeUsesSendfile(t *testing.T) {
	s := newStory(t, onDir)
	l := s.spied()
	r := s.blob("app/api", s.oneBlob(4*mib), "Range", "bytes=1000-3000999")
	if r.StatusCode != 206 || len(r.body) != 3000000 {
		t.Fatalf("status %d, %d bytes, %v", r.StatusCode, len(r.body), r.err)
	}
	s.wantSendfile(l, 3000000)
}
