//go:build linux

package e2e

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends p.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns what was written.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestDiskFull copies an image to a disk that is too small for it: clients still get it,
// the copy waits and logs the reason once, and ends when the disk is larger. The test
// mounts a tmpfs, which needs root.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=12m,mode=700"); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, 0) })
	dir, err := store.OpenDir(disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(4, 5<<20))
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: up.Host() + "/team/*", Target: "app/*"})
	if err != nil {
		t.Fatal(err)
	}
	log, sink := &lines{}, &recorded{}
	c := &cache.Cache{Rules: rules, Store: dir, Upstream: up.Client(), Events: sink, Logger: slog.New(slog.NewTextHandler(log, nil))}
	t.Cleanup(func() { _ = c.Shutdown(t.Context()) })
	web := httptest.NewServer(c)
	t.Cleanup(web.Close)

	pull := func() {
		t.Helper()
		fetchBytes(t, web.URL+"/v2/app/api/manifests/v1", img.Digest)
		for _, d := range append(img.Layers[:4:4], img.Config) {
			fetchBytes(t, web.URL+"/v2/app/api/blobs/"+d.Digest.String(), d.Digest)
		}
	}
	pull()
	until(t, "a copy that waits for room", func() bool {
		all := c.Copies()
		return len(all) == 1 && all[0].State == "paused" && strings.Contains(all[0].Err.Error(), "full")
	})
	pull() // clients still get it
	if n := strings.Count(log.String(), "level=ERROR msg=\"a copy failed"); n != 1 {
		t.Errorf("%d lines say why:\n%s", n, log)
	}
	if events := sink.all(); len(events) != 0 {
		t.Errorf("events of what is not complete: %+v", events)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatalf("a larger disk: %v", err)
	}
	until(t, "the events of the copy", func() bool { return len(sink.all()) == 2 })
	up.Stop()
	pull()
}

func fetchBytes(t *testing.T, url string, want digest.Digest) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	v := want.Verifier()
	if _, err := io.Copy(v, resp.Body); err != nil || resp.StatusCode != http.StatusOK || !v.Verified() {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
}

// until polls a condition, and fails if it does not hold in time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s", what)
		}
	}
}
