//go:build linux

package cache_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// rig is a cache on a Dir in front of a registry, for benchmarks.
type rig struct {
	testing.TB
	up    *upstreamtest.Registry
	cache *cache.Cache
	addr  string
	close func()
}

func newRig(b testing.TB, up *upstreamtest.Registry, fresh time.Duration) *rig {
	b.Helper()
	return newRigOf(b, up, up.Client(), fresh)
}

// newRigOf reaches the registry by a client.
func newRigOf(b testing.TB, up *upstreamtest.Registry, by *upstream.Client, fresh time.Duration) *rig {
	b.Helper()
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "app/*"})
	if err != nil {
		b.Fatal(err)
	}
	dir, err := store.OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	c := &cache.Cache{Rules: rules, Store: dir, Upstream: by, Freshness: fresh}
	web := httptest.NewServer(c)
	r := &rig{TB: b, up: up, cache: c, addr: web.Listener.Addr().String()}
	done := false
	r.close = func() {
		if done {
			return
		}
		done = true
		web.CloseClientConnections()
		web.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			b.Error("Shutdown:", err)
		}
		if err := dir.Close(); err != nil {
			b.Error("Close:", err)
		}
	}
	b.Cleanup(r.close)
	return r
}

// bare serves a handler beside the cache.
func bare(b testing.TB, h http.HandlerFunc) string {
	web := httptest.NewServer(h)
	b.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	return web.Listener.Addr().String()
}

// pull gets an image and waits until it is complete.
func (r *rig) pull(img upstreamtest.Image, tag string) {
	r.Helper()
	c := dial(r, r.addr)
	defer c.Close()
	c.get(manifestPath(tag))
	for _, d := range append(img.Layers, img.Config) {
		c.get(blobPath(d.Digest))
	}
	r.copied(1)
}

// copied waits until so many manifests are complete and nothing is under way.
func (r *rig) copied(n int64) {
	r.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if s := r.cache.Stats(); s.Copied >= n && s.Jobs == 0 && s.Downloads == 0 {
			return
		}
		time.Sleep(time.Millisecond) // polls a condition; the deadline is the failure
	}
	r.Fatalf("copies do not end: %+v", r.cache.Stats())
}

func manifestPath(ref string) string  { return "/v2/app/api/manifests/" + ref }
func blobPath(d digest.Digest) string { return "/v2/app/api/blobs/" + d.String() }
func rawRequest(path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: bench\r\n\r\n")
}
func perGiB(d time.Duration, n int64) float64 { return d.Seconds() * 1e3 / (float64(n) / (1 << 30)) }

// client costs as little as a client can: its requests are made, it reads heads
// of known length, and the kernel discards the bodies of blobs (MSG_TRUNC).
type client struct {
	*net.TCPConn
	tb   testing.TB
	raw  syscall.RawConn
	br   *bufio.Reader
	head []byte
}

func dial(tb testing.TB, addr string) *client {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	c := &client{TCPConn: conn.(*net.TCPConn), tb: tb, br: bufio.NewReaderSize(conn, 4096)}
	if c.raw, err = c.SyscallConn(); err != nil {
		tb.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
	return c
}

// get reads a response with net/http and returns its body.
func (c *client) get(path string) []byte {
	c.tb.Helper()
	if _, err := c.Write(rawRequest(path)); err != nil {
		c.tb.Fatal(err)
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		c.tb.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		c.tb.Fatalf("%s: status %d, %v", path, resp.StatusCode, err)
	}
	return body
}

// exchange sends a request whose answer is as long as every time, and which ends
// with tail.
func (c *client) exchange(req, answer, tail []byte) error {
	if _, err := c.Write(req); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.br, answer); err != nil {
		return err
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !bytes.HasSuffix(answer, tail) {
		return fmt.Errorf("answer %.300q", answer)
	}
	return nil
}

// measure returns how long the whole answer to a request is.
func (c *client) measure(req []byte) (int, error) {
	if _, err := c.Write(req); err != nil {
		return 0, err
	}
	n := 0
	length := 0
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			return 0, err
		}
		n += len(line)
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			if _, err := fmt.Sscan(v, &length); err != nil {
				return 0, err
			}
		}
		if line == "\r\n" {
			break
		}
	}
	m, err := c.br.Discard(length)
	return n + m, err
}

// scrap is never written to: the kernel discards instead of copying.
var scrap [1 << 20]byte

// blocking makes reads occupy the thread, so that what the thread used is what
// the client cost.
func (c *client) blocking() {
	if err := c.raw.Control(func(fd uintptr) { _ = syscall.SetNonblock(int(fd), false) }); err != nil {
		c.tb.Fatal(err)
	}
}

// discard sends a request and throws away the answer, of whose body there are
// size bytes.
func (c *client) discard(req []byte, size int64) error {
	if _, err := c.Write(req); err != nil {
		return err
	}
	// The head is read with one peek: no more of the body than comes with it.
	head := c.head[:0]
	if head == nil {
		head = make([]byte, 0, 4096)
	}
	var end int
	recv := func(p []byte, flags int) (n int, err error) {
		e := c.raw.Read(func(fd uintptr) bool {
			for {
				n, _, err = syscall.Recvfrom(int(fd), p, flags)
				if err != syscall.EINTR {
					return err != syscall.EAGAIN
				}
			}
		})
		if e != nil {
			return 0, e
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	for {
		n, err := recv(head[len(head):cap(head)], 0)
		if err != nil {
			return err
		}
		head = head[:len(head)+n]
		if end = bytes.Index(head, []byte("\r\n\r\n")); end >= 0 {
			break
		}
	}
	c.head = head
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %.300q", head)
	}
	for left := size - int64(len(head)-end-4); left > 0; {
		n, err := recv(scrap[:min(int64(len(scrap)), left)], syscall.MSG_TRUNC)
		if err != nil {
			return fmt.Errorf("%d bytes before the end: %w", left, err)
		}
		left -= int64(n)
	}
	return nil
}

// cpu is the processor time that the process or the thread used.
func cpu(who int) time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(who, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const (
	wholeProcess = syscall.RUSAGE_SELF
	thisThread   = 1 // RUSAGE_THREAD
)

// growth watches how far heap and resident memory grow until stop is called.
func growth() (stop func() (heap, rss float64)) {
	runtime.GC()
	now := func() (uint64, uint64) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		var size, resident uint64
		if data, err := os.ReadFile("/proc/self/statm"); err == nil {
			_, _ = fmt.Sscan(string(data), &size, &resident)
		}
		return m.HeapInuse, resident * uint64(os.Getpagesize())
	}
	heap0, rss0 := now()
	heap, rss := heap0, rss0
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			h, r := now()
			heap, rss = max(heap, h), max(rss, r)
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	}()
	return func() (float64, float64) {
		close(end)
		<-ended
		return float64(heap-heap0) / (1 << 20), float64(rss-rss0) / (1 << 20)
	}
}
