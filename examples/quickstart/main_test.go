package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// screen is an io.Writer that can be read while it is written to, and that closes a channel
// when a text has been written.
type screen struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	text string
	seen chan struct{} // closed when text has been written
}

// Write appends p.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := strings.Contains(s.buf.String(), s.text)
	n, err := s.buf.Write(p)
	if !before && strings.Contains(s.buf.String(), s.text) {
		close(s.seen)
	}
	return n, err
}

// String returns what was written.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// emptyTemp makes a folder for temporary files, which must be empty at the end of the test.
func emptyTemp(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	t.Cleanup(func() {
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
}

func TestTheStoryIsTrue(t *testing.T) {
	emptyTemp(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, &out, true); err != nil {
		t.Fatalf("%v after\n%s", err, out.String())
	}
	rest := out.String()
	for _, line := range []string{
		`1\. The first pull`, `client +first byte of a layer`, `client +the last of 10\.0 MiB`,
		`event .* complete: mirror/app`, `event .* complete: mirror/app`, `event .* complete: mirror/app`,
		`upstream +0 HEAD, 2 manifests, 4 blobs, 10\.0 MiB`,
		`2\. The second pull`, `upstream +1 HEAD, 0 manifests, 0 blobs, 0 B`,
		`3\. The tag has moved`, `upstream +1 HEAD, 2 manifests, 2 blobs, 2\.0 MiB`,
		`4\. The upstream is down`, `fwd=stale`, `upstream +0 HEAD, 0 manifests, 0 blobs, 0 B`,
		`All figures were counted`,
	} {
		at := regexp.MustCompile(line).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no line with %q where it should be in\n%s", line, out.String())
		}
		rest = rest[at[1]:]
	}
}

func TestServesOnUntilInterrupted(t *testing.T) {
	emptyTemp(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	out := &screen{text: "Ctrl-C ends", seen: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- run(ctx, out, false) }()
	select {
	case <-out.seen:
	case err := <-done:
		t.Fatalf("ended with %v after\n%s", err, out)
	}
	url := regexp.MustCompile(`http://\S+/v2/\S+`).FindString(out.String())
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("arm64")) {
		t.Errorf("%s: %s %s %v", url, resp.Status, body, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("interrupted: %v", err)
	}
}

func TestAFalseFigureIsAnError(t *testing.T) {
	if err := equal("figure", 1, 2); err == nil || !strings.Contains(err.Error(), "the story says 2") {
		t.Errorf("equal: %v", err)
	}
	if err := atMost("figure", 2, 1); err == nil {
		t.Error("atMost: no error")
	}
	if equal("figure", 1, 1) != nil || atMost("figure", 1, 1) != nil {
		t.Error("a true figure is an error")
	}
	s := &story{out: io.Discard, up: upstreamtest.NewRegistry(t)}
	if err := s.cost(0, 0, 0, 0); err != nil {
		t.Error("nothing was asked:", err)
	}
	if err := s.cost(1, 0, 0, 0); err == nil {
		t.Error("a HEAD that was not sent is no error")
	}
}
