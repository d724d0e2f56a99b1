package cache_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
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

// prefetched adds an image with one layer, which it copies without a client, and returns the
// digest of that.
func (s *story) prefetched(size int) digest.Digest {
	s.Helper()
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, size))
	if err := s.cache.Prefetch(s.Context(), "app/api", "v1", cache.PrefetchOptions{}); err != nil {
		s.Fatal(err)
	}
	return img.Layers[0].Digest
}

// answered waits until n requests have ended here.
func (s *story) answered(n int, within time.Duration) {
	s.Helper()
	deadline := time.Now().Add(within)
	for len(s.outcomes()) < n {
		if time.Now().After(deadline) {
			s.Fatalf("%d of %d requests have ended after %v", len(s.outcomes()), n, within)
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
			s.cache.Limits.SendTimeout = time.Second
		})
		stored := s.prefetched(64 * mib)
		flying := s.up.AddBlob("team/api", upstreamtest.Bytes(7, 64*mib))
		s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"tags":["v"`)
			for i := range 60_000 {
				_, _ = fmt.Fprintf(w, `,"v%d-%s"`, i, strings.Repeat("x", 100))
			}
			_, _ = fmt.Fprint(w, `]}`)
		}})
		for _, path := range []string{
			"/v2/app/api/blobs/" + stored.String(), "/v2/app/api/blobs/" + flying.String(), tagsOfAPI,
		} {
			s.deaf(path)
			s.deaf(path)
		}
		s.answered(6, 2*time.Minute)
	}
}

// readSlowly reads a blob on a connection of its own, with a pause after each MiB. It returns
// the longest time that it took for one of them.
func (s *story) readSlowly(d digest.Digest) (longest time.Duration, err error) {
	c := s.dial()
	s.send(c, "/v2/app/api/blobs/"+d.String())
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	v := d.Verifier()
	for err == nil {
		begun := time.Now()
		if _, err = io.CopyN(v, resp.Body, mib); err == nil {
			time.Sleep(50 * time.Millisecond) // it is what makes the reader slow
		}
		longest = max(longest, time.Since(begun))
	}
	switch {
	case err != io.EOF:
		return longest, err
	case !v.Verified():
		return longest, errors.New("other bytes came")
	}
	return longest, nil
}

// A client that reads slowly, and does read, gets everything.
func TestSlowReaderGetsEverything(t *testing.T) {
	s := newStory(t, func(s *story) {
		onDir(s)
		s.cache.Limits.SendTimeout = time.Second
	})
	layer := s.prefetched(24 * mib)
	for try := 1; ; try++ {
		begun := time.Now()
		longest, err := s.readSlowly(layer)
		switch took := time.Since(begun); {
		case err == nil && took < time.Second:
			t.Fatal("the reader was not slow enough to show anything")
		case err == nil:
			return
		case longest < 500*time.Millisecond || try == 10: // a machine that stood still is no slow reader
			t.Fatalf("after %v, with %v for the slowest MiB: %v", took, longest, err)
		}
	}
}

// inTurn gets paths on one connection, with a pause after each response.
func (s *story) inTurn(pause time.Duration, paths ...string) error {
	c := s.dial()
	r := bufio.NewReader(c)
	for _, path := range paths {
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path) // whose error is that of the response
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: status %d, %d bytes, %w", path, resp.StatusCode, n, err)
		}
		time.Sleep(pause)
	}
	return nil
}

// The deadline of one response is not that of the next on the same connection.
func TestDeadlineEndsWithItsResponse(t *testing.T) {
	s := newStory(t, func(s *story) { s.cache.Limits.SendTimeout = 200 * time.Millisecond })
	blob, manifest := "/v2/app/api/blobs/"+s.prefetched(100_000).String(), "/v2/app/api/manifests/v1"
	for try := 1; ; try++ {
		// The manifest is so short that it gets no deadline of its own. The pause is longer
		// than one that is left behind, with which each try fails.
		err := s.inTurn(400*time.Millisecond, blob, manifest, blob, manifest)
		if err == nil {
			return
		}
		if try == 10 { // a machine that stands still for a moment may fail before
			t.Fatal(err)
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
	for deadline = time.Now().Add(time.Minute); s.get(tagsOfAPI).StatusCode != 200; {
		if time.Now().After(deadline) {
			t.Fatal("the places are not given back")
		}
	}
}
