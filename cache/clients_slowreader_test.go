package cache_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// deaf sends a request on a connection of its own and reads nothing of the answer, of
// which the kernel takes little.
func (s *story) deaf(path string) net.Conn {
	s.Helper()
	c := s.dial()
	if t, ok := c.(*net.TCPConn); ok {
		if err := t.SetReadBuffer(4 << 10); err != nil {
			s.Fatal(err)
		}
	}
	s.send(c, path)
	return c
}

// dial opens a connection of its own.
func (s *story) dial() net.Conn {
	s.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.web.URL, "http://"))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *story) send(c net.Conn, path string) {
	s.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		s.Fatal(err)
	}
}

// answered waits until n more requests have ended here.
func (s *story) answered(n int, within time.Duration) {
	s.Helper()
	count := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.seen)
	}
	deadline := time.Now().Add(within)
	for before := count(); count() < before+n; {
		if time.Now().After(deadline) {
			s.Fatalf("%d of %d requests have ended after %v", count()-before, n, within)
		}
		time.Sleep(5 * time.Millisecond) // polls a condition; the deadline is the failure
	}
}

// TestClientsThatStopReadingAreLetGo: of what is stored, of what is on its way, of a
// manifest and of a list.
func TestClientsThatStopReadingAreLetGo(t *testing.T) {
	for _, dir := range []bool{false, true} {
		s := newStory(t, func(s *story) {
			if dir {
				onDir(s)
			}
			s.cache.Limits.SendTimeout = 3 * time.Second // the test's own pull must be quicker
		})
		img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 64*mib))
		s.pull("app/api", "v1", img)
		s.settle()
		flying := s.up.AddBlob("team/api", upstreamtest.Bytes(7, 64*mib))
		s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"tags":["v"`)
			for i := range 60_000 {
				_, _ = fmt.Fprintf(w, `,"v%d-%s"`, i, strings.Repeat("x", 100))
			}
			_, _ = fmt.Fprint(w, `]}`)
		}})
		for _, path := range []string{
			"/v2/app/api/blobs/" + img.Layers[0].Digest.String(), "/v2/app/api/blobs/" + flying.String(), tagsOfAPI,
		} {
			s.deaf(path)
			s.deaf(path)
		}
		s.answered(6, 2*time.Minute)
	}
}

// A client that reads slowly, and does read, gets everything.
func TestSlowReaderGetsEverything(t *testing.T) {
	s := newStory(t, func(s *story) {
		onDir(s)
		s.cache.Limits.SendTimeout = time.Second
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 24*mib))
	s.pull("app/api", "v1", img)
	s.settle()
	c := s.dial()
	s.send(c, "/v2/app/api/blobs/"+img.Layers[0].Digest.String())
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	verifier := digest.SHA256.Digester()
	begun := time.Now()
	for {
		n, err := io.CopyN(verifier.Hash(), resp.Body, mib)
		if err != nil && err != io.EOF {
			t.Fatalf("after %v: %v", time.Since(begun), err)
		}
		if n < mib {
			break
		}
		time.Sleep(50 * time.Millisecond) // it is what makes the reader slow
	}
	if verifier.Digest() != img.Layers[0].Digest {
		t.Errorf("other bytes came after %v", time.Since(begun))
	}
	if time.Since(begun) < time.Second {
		t.Error("the reader was not slow enough to show anything")
	}
}

// The deadline of one response is not that of the next on the same connection.
func TestDeadlineEndsWithItsResponse(t *testing.T) {
	s := newStory(t, func(s *story) { s.cache.Limits.SendTimeout = 200 * time.Millisecond })
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", img)
	s.settle()
	c := s.dial()
	s.send(c, "/v2/app/api/manifests/v1")
	r := bufio.NewReader(c)
	for i := range 3 {
		if i > 0 {
			time.Sleep(400 * time.Millisecond) // longer than a deadline that was left behind
			s.send(c, "/v2/app/api/manifests/v1")
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != string(img.Manifest) {
			t.Errorf("response %d: %d bytes, %v", i, len(body), err)
		}
	}
}

// Lists lie in memory until they are read: clients that do not read theirs hold as
// many as there are places, and no more.
func TestSlowReadersOfListsHoldLittle(t *testing.T) {
	s := newStory(t, func(s *story) { s.cache.Limits.Lists, s.cache.Limits.SlotTimeout = 2, 300*time.Millisecond })
	s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"tags":["v"`)
		for i := range 60_000 {
			_, _ = fmt.Fprintf(w, `,"v%d-%s"`, i, strings.Repeat("x", 100))
		}
		_, _ = fmt.Fprint(w, `]}`)
	}})
	var deaf []net.Conn
	var r reply
	deadline := time.Now().Add(time.Minute)
	for status := 0; status != 503; status = r.StatusCode {
		if time.Now().After(deadline) {
			t.Fatal("there is always a place")
		}
		deaf = append(deaf, s.deaf(tagsOfAPI)) // one that finds no place is gone again
		r = s.get(tagsOfAPI)
	}
	s.wantError(r, 503, "UNKNOWN")
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for _, c := range deaf {
		_ = c.Close()
	}
	for deadline = time.Now().Add(10 * time.Second); s.get(tagsOfAPI).StatusCode != 200; {
		if time.Now().After(deadline) {
			t.Fatal("the places are not given back")
		}
	}
}
