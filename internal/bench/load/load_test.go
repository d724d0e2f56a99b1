package load

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/bench/registry"
)

// content is what a server has, by path.
type content map[string][]byte

// part adds bytes under a path.
func (c content) part(path string, body []byte) registry.Part {
	c[path] = body
	sum := sha256.Sum256(body)
	return registry.Part{Path: path, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(body))}
}

func (c content) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, ok := c[req.URL.Path]
	if !ok {
		http.NotFound(w, req)
		return
	}
	if strings.HasPrefix(req.URL.Path, "/chunked") {
		w.(http.Flusher).Flush()
	}
	if strings.HasPrefix(req.URL.Path, "/closing") {
		w.Header().Set("Connection", "close")
	}
	w.Write(body)
}

// start serves h and returns its address.
func start(t *testing.T, h http.Handler) string {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(func() { web.CloseClientConnections(); web.Close() })
	return web.Listener.Addr().String()
}

// wantError fails unless an error has a text.
func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %v, want one with %q", err, text)
	}
}

// TestRightBytes: every way of pulling takes what is right, whole, in chunks, and from a
// server that ends its connections.
func TestRightBytes(t *testing.T) {
	c := content{}
	var parts []registry.Part
	for _, path := range []string{"/plain", "/chunked", "/closing", "/plain/large"} {
		parts = append(parts, c.part(path, bytes.Repeat([]byte(path), 1000)))
	}
	large := c.part("/chunked/large", bytes.Repeat([]byte("0123456789abcdef"), 100_000))
	addr, ctx := start(t, c), t.Context()
	times, err := Pull(ctx, addr, append(parts, large)...)
	if err != nil || times.FirstByte <= 0 || times.Whole < times.FirstByte {
		t.Errorf("Pull: %v, %v", times, err)
	}
	for _, p := range append(parts, large) {
		if err := Verify(ctx, addr, p); err != nil {
			t.Error("Verify:", err)
		}
		if _, err := Together(ctx, addr, []registry.Part{p}, 5); err != nil {
			t.Error("Together:", err)
		}
	}
	if _, err := Storm(ctx, addr, [][]registry.Part{parts, parts, {large}}, 2); err != nil {
		t.Error("Storm:", err)
	}
	if _, err := Latency(ctx, addr, parts); err != nil {
		t.Error("Latency:", err)
	}
	if n, took, err := Rate(ctx, addr, "/closing", c["/closing"], 3, 50*time.Millisecond); err != nil || n < 3 || took < 50*time.Millisecond {
		t.Errorf("Rate: %d in %v, %v", n, took, err)
	}
}

// TestWrongBytes: one wrong bit is seen, and so is a wrong length of what is discarded.
func TestWrongBytes(t *testing.T) {
	c := content{}
	good := c.part("/good", bytes.Repeat([]byte("good"), 1000))
	bad := c.part("/bad", bytes.Repeat([]byte("same"), 1000))
	short := c.part("/short", bytes.Repeat([]byte("long"), 1000))
	want := bytes.Clone(c["/bad"])
	c["/bad"][777] ^= 1
	c["/short"] = c["/short"][:3999]
	addr, ctx := start(t, c), t.Context()
	for _, p := range []registry.Part{bad, short} {
		wantError(t, Verify(ctx, addr, p), "wrong bytes")
		_, err := Storm(ctx, addr, [][]registry.Part{{good}, {p}, {good}}, 2)
		wantError(t, err, "wrong bytes")
		_, err = Latency(ctx, addr, []registry.Part{good, p})
		wantError(t, err, "wrong bytes")
		_, err = Pull(ctx, addr, p, good)
		wantError(t, err, "wrong bytes")
	}
	_, _, err := Rate(ctx, addr, "/bad", want, 3, time.Hour)
	wantError(t, err, "wrong bytes")
	_, err = Pull(ctx, addr, good, short)
	wantError(t, err, "3999 bytes came")
	_, err = Together(ctx, addr, []registry.Part{short}, 3)
	wantError(t, err, "3999 bytes came")
}

// TestRefusals: a status other than 200 and an end in the middle are errors that say so.
func TestRefusals(t *testing.T) {
	c := content{}
	p := c.part("/cut", make([]byte, 100_000))
	missing := registry.Part{Path: "/missing", Size: 1}
	addr := start(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/cut" {
			w.Header().Set("Content-Length", "100000")
			w.Write(make([]byte, 50_000))
			panic(http.ErrAbortHandler)
		}
		c.ServeHTTP(w, req)
	}))
	ctx := t.Context()
	wantError(t, Verify(ctx, addr, missing), "status 404: 404 page not found")
	_, err := Storm(ctx, addr, [][]registry.Part{{missing}}, 1)
	wantError(t, err, "status 404")
	if _, err := Pull(ctx, addr, p); err == nil {
		t.Error("Pull takes half of a body")
	}
	if err := Verify(ctx, addr, p); err == nil {
		t.Error("Verify takes half of a body")
	}
}

// TestEndOfContext: whoever interrupts does not wait for the servers.
func TestEndOfContext(t *testing.T) {
	asked, never := make(chan struct{}, 10), make(chan struct{})
	defer close(never)
	addr := start(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked <- struct{}{}
		select {
		case <-never:
		case <-req.Context().Done():
		}
	}))
	p := registry.Part{Path: "/", Size: 1}
	for name, pull := range map[string]func(context.Context) error{
		"Pull":  func(ctx context.Context) error { _, err := Pull(ctx, addr, p); return err },
		"Storm": func(ctx context.Context) error { _, err := Storm(ctx, addr, [][]registry.Part{{p}}, 1); return err },
		"Slow": func(ctx context.Context) error {
			_, err := Slow(ctx, addr, p, 1, time.Hour, func() error { return nil })
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		if err := pull(ctx); err == nil {
			t.Error(name, "does not end with an error")
		}
		cancel()
	}
}

// TestSlowClients: all of them read when they are looked at, and none has everything.
func TestSlowClients(t *testing.T) {
	const clients = 5
	var reading atomic.Int64
	body := bytes.Repeat([]byte("slow"), 4<<20)
	c := content{}
	p, short := c.part("/slow", body), c.part("/short", []byte("short"))
	addr := start(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		reading.Add(1)
		defer reading.Add(-1)
		c.ServeHTTP(w, req)
	}))
	looked := int64(0)
	look := func() error { looked = reading.Load(); return nil }
	if first, err := Slow(t.Context(), addr, p, clients, time.Millisecond, look); err != nil || looked != clients || first <= 0 {
		t.Errorf("%d of %d read, first byte after %v, %v", looked, clients, first, err)
	}
	begun := time.Now()
	if _, err := Slow(t.Context(), addr, p, 1, 100*time.Millisecond, look); err != nil || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("it took %v, %v; want 100 ms at least", time.Since(begun), err)
	}
	broken := errors.New("no memory is known")
	if _, err := Slow(t.Context(), addr, p, clients, 0, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("the error is %v, want %v", err, broken)
	}
	_, err := Slow(t.Context(), addr, short, 1, time.Hour, look)
	wantError(t, err, "after 5 of 5 bytes")
	_, err = Slow(t.Context(), addr, registry.Part{Path: "/missing"}, 1, time.Hour, look)
	wantError(t, err, "status 404")
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		all  []time.Duration
		want time.Duration
	}{{nil, 0}, {[]time.Duration{7}, 7}, {[]time.Duration{9, 1, 5}, 5}, {[]time.Duration{4, 9, 1, 6}, 5}} {
		if got := Median(c.all); got != c.want {
			t.Errorf("Median(%v) is %v, want %v", c.all, got, c.want)
		}
	}
}
