package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/mirror"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestMirrorInTrouble: a mirror that is down, slow, limits or is in trouble is left out for a
// while, for the rule that it failed. Then one request finds out whether it answers again.
func TestMirrorInTrouble(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault upstreamtest.Fault
		takes time.Duration
		pause time.Duration
	}{
		{"trouble", upstreamtest.Fault{Status: 503}, 0, 30 * time.Second},
		{"limit", upstreamtest.Fault{Status: 429, RetryAfter: "120"}, 0, 2 * time.Minute},
		{"slow", upstreamtest.Fault{Hang: true}, mirror.Patience, 30 * time.Second},
	} {
		inBubble(t, func(s *scene) {
			s.upstream.Set(map[string][]mirror.Mirror{"registry.example.com": s.mirrors()["registry.example.com"][:1]})
			s.first.Fail(test.fault)
			r := s.repo("r", nil)
			begun := time.Now()
			if err := s.blob(r, 1); err != nil || time.Since(begun) != test.takes {
				t.Errorf("%s: %v after %v, want %v", test.name, err, time.Since(begun), test.takes)
			}
			s.want(test.name, 1, 1, 0)
			if d, err := s.manifest(r, s.img.Digest.String()); err != nil {
				t.Error(d, err)
			}
			s.want(test.name+", left out", 1, 0, 0)
			if d, err := s.manifest(s.repo("another", nil), s.img.Digest.String()); err != nil {
				t.Error(d, err)
			}
			s.want(test.name+", another rule", 1, 1, 0)

			time.Sleep(test.pause - test.takes - time.Second) // another rule has waited, too
			if err := s.blob(r, 1); err != nil {
				t.Error(err)
			}
			s.want(test.name+", left out all the time", 1, 0, 0)
			time.Sleep(time.Second)
			if err := s.blob(r, 1); err != nil {
				t.Error(err)
			}
			s.want(test.name+", still there", 1, 1, 0)
			s.first.Heal()
			s.first.Release()
			time.Sleep(59 * time.Second) // twice as long
			if err := s.blob(r, 1); err != nil {
				t.Error(err)
			}
			if test.pause < time.Minute {
				s.want(test.name+", left out for longer", 1, 0, 0)
				time.Sleep(time.Second)
			} else {
				s.want(test.name+", left out for as long as it asked for", 1, 0, 0)
				time.Sleep(61 * time.Second)
			}
			if err := s.blob(r, 1); err != nil {
				t.Error(err)
			}
			s.want(test.name+", over", 0, 1, 0)
			s.mu.Lock()
			defer s.mu.Unlock()
			if n := strings.Count(s.log.String(), "a mirror is left out for a while"); n != 3 {
				t.Errorf("%s: %d lines:\n%s", test.name, n, s.log.String())
			}
		})
	}
	inBubble(t, func(s *scene) {
		s.first.Stop()
		if d, err := s.manifest(s.repo("r", nil), "v1"); err != nil || d != s.img.Digest {
			t.Error(d, err)
		}
		s.want("down", 1, 0, 1)
	})
}

// TestSlowManifest: no call of a mirror takes longer than the patience with it.
func TestSlowManifest(t *testing.T) {
	inBubble(t, func(s *scene) {
		s.first.Fail(upstreamtest.Fault{Hang: true})
		begun := time.Now()
		if d, err := s.manifest(s.repo("r", nil), "v1"); err != nil || d != s.img.Digest || time.Since(begun) != mirror.Patience {
			t.Errorf("%s, %v after %v", d, err, time.Since(begun))
		}
		s.want("slow manifest", 1, 1, 1)
	})
}

// TestOneProbe: while a request finds out whether a mirror answers again, others do not wait.
func TestOneProbe(t *testing.T) {
	inBubble(t, func(s *scene) {
		s.first.Fail(upstreamtest.Fault{Status: 503, Times: 1})
		r := s.repo("r", nil)
		if err := s.blob(r, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.first.Fail(upstreamtest.Fault{Hang: true, Times: 1})
		ctx, cancel := context.WithCancel(s.t.Context())
		ended := make(chan error)
		go func() {
			_, err := r.Blob(ctx, s.img.Layers[0].Digest, 1, -1)
			ended <- err
		}()
		synctest.Wait()
		begun := time.Now()
		if err := s.blob(r, 1); err != nil || time.Since(begun) > 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if n := s.first.Count("", "", ""); n != 2 {
			t.Errorf("the mirror got %d requests, want the one that failed and the one that finds out", n)
		}
		cancel() // the one that asked leaves: nobody knows, and the next one asks
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want the end of the call", err)
		}
		s.first.Reset()
		if err := s.blob(r, 1); err != nil || s.first.Count("", "", "") != 1 {
			t.Errorf("%v, %d requests, want one", err, s.first.Count("", "", ""))
		}
	})
}

// TestBodyThatBreaksOff: the rest comes from elsewhere.
func TestBodyThatBreaksOff(t *testing.T) {
	inBubble(t, func(s *scene) {
		s.first.Fail(upstreamtest.Fault{Kind: "blob", Cut: 40_000})
		r := s.repo("r", nil)
		if err := s.blob(r, 0); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%v, want the end of the connection", err)
		}
		if err := s.blob(r, 40_000); err != nil {
			t.Fatal(err)
		}
		s.want("the rest", 0, 1, 1)
	})
}

// TestWrongBytesOfAMirror: a client that pulls again after a mirror gave wrong bytes gets the
// right ones, from the host.
func TestWrongBytesOfAMirror(t *testing.T) {
	for _, size := range []int{10_000, 1 << 20} {
		inBubble(t, func(s *scene) {
			s.upstream.Set(map[string][]mirror.Mirror{"registry.example.com": {{Host: "second.example.com"}}})
			layer := s.home.AddImage("team/app", "v2", upstreamtest.Layers(1, size)).Layers[0].Digest
			s.second.AddBlob("team/app", s.home.Blob("team/app", layer))
			s.second.Fail(upstreamtest.Fault{Kind: "blob", Flip: true, FlipAt: 7})
			set, err := rule.NewSet(rule.Rule{Name: "local", Source: "registry.example.com/*", Target: "local/*"})
			if err != nil {
				t.Fatal(err)
			}
			c := &cache.Cache{Rules: set, Upstream: s.upstream, Limits: cache.Limits{LeastRate: -1}}
			defer c.Shutdown(context.Background())
			pull := func() (code int, data []byte, broken bool) {
				defer func() { broken = recover() != nil }()
				w := httptest.NewRecorder()
				defer func() { code, data = w.Code, w.Body.Bytes() }()
				c.ServeHTTP(w, httptest.NewRequestWithContext(s.t.Context(), "GET", "/v2/local/team/app/blobs/"+layer.String(), nil))
				return
			}
			code, data, broken := pull()
			if code == 200 && !broken && len(data) == size {
				t.Fatalf("%d wrong bytes were served", len(data))
			}
			code, data, broken = pull()
			if code != 200 || broken || !bytes.Equal(data, s.home.Blob("team/app", layer)) {
				t.Errorf("again: status %d, %d bytes of %d, broken %v", code, len(data), size, broken)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if !strings.Contains(s.log.String(), "comes from the host itself") {
				t.Errorf("the log does not tell:\n%s", s.log.String())
			}
		})
	}
}

// TestDoubtEnds: a blob that was pulled long ago comes from the mirror again.
func TestDoubtEnds(t *testing.T) {
	inBubble(t, func(s *scene) {
		r := s.repo("r", nil)
		for i, want := range []int{0, 1, 1} {
			if err := s.blob(r, 0); err != nil {
				t.Fatal(err)
			}
			if n := s.home.Count("", "", ""); n != want {
				t.Errorf("pull %d: %d requests to the host, want %d", i, n, want)
			}
			if s.home.Reset(); i == 1 {
				if err := s.blob(r, 5); err != nil || s.home.Count("", "", "") != 1 {
					t.Errorf("%v: the rest must come from the host too", err)
				}
				s.home.Reset()
			}
		}
		time.Sleep(11 * time.Minute)
		if err := s.blob(r, 0); err != nil || s.home.Count("", "", "") != 0 {
			t.Errorf("%v, %d requests to the host", err, s.home.Count("", "", ""))
		}
	})
}
