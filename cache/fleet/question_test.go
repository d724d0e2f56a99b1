package fleet_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream"
)

// The first three ranks are asked for the blob, one after the other. Then five are asked at
// once who has begun, and then the upstream is.
func TestOrderOfQuestions(t *testing.T) {
	onStage(t, func(s *stage) {
		s.wantBlob("")
		s.wantAsked("GET a, GET b, GET c, HEAD abcde, upstream")
		if got := s.last.Header; got.Get("Authorization") != "Bearer "+secret || got.Get("Pullthrough-Peer") != "self:1" ||
			got.Get("Pullthrough-Source") != "team registry.example.com/team/app" || got.Get("Cdn-Loop") != "fleet.example.com" {
			s.Errorf("headers: %v", got)
		}
		if want := "http://e:1/fleet/v1/mirror/app/blobs/" + s.digest.String(); !strings.HasSuffix(s.last.URL.Path, s.digest.String()) {
			s.Errorf("URL: %v, want %s", s.last.URL, want)
		}
		s.play(sends(), "b")
		s.wantBlob("b:1")
		s.wantAsked("GET a, GET b")
	})
}

// What is no matter of the fleet goes to the upstream, and no replica is asked.
func TestNotShared(t *testing.T) {
	onStage(t, func(s *stage) {
		ask := func(h upstream.Hint, offset, length int64) {
			body, err := s.repo.Blob(upstream.WithHint(s.Context(), h), s.digest, offset, length)
			if err != nil {
				s.Fatal(err)
			}
			if body.Via != "" || len(s.fleet.Blobs()) != 0 {
				s.Errorf("%+v: from %q; %v", h, body.Via, s.fleet.Blobs())
			}
			_ = body.Close()
			s.wantAsked("upstream")
		}
		s.play(sends(), "a", "b", "c", "d", "e")
		ask(upstream.Hint{Size: 5000}, 0, -1)                          // the local name is not known
		ask(upstream.Hint{Repository: "mirror/app", Size: 5000}, 0, 1) // a probe
		ask(upstream.Hint{Repository: "mirror/app", Size: 999}, 0, -1)
		body, err := s.repo.Blob(upstream.WithHint(s.Context(), upstream.Hint{Repository: "mirror/app", Size: -1}), s.digest, 0, -1)
		if err != nil || body.Via != "a:1" {
			s.Errorf("a blob whose size is not known comes from %q: %v", body.Via, err)
			return
		}
		_ = body.Close()
	}, func(f *fleet.Fleet) { f.Least = 1000 })
}

// A part is asked for, and taken for what it is.
func TestParts(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(sends(), "a")
		for _, c := range []struct {
			offset, length int64
			header         string
		}{{0, -1, ""}, {10, -1, "bytes=10-"}, {10, 5, "bytes=10-14"}, {0, 5, "bytes=0-4"}} {
			body, err := s.blob(s.Context(), c.offset, c.length)
			if err != nil {
				s.Fatal(err)
			}
			got, err := io.ReadAll(body)
			_ = body.Close()
			n := c.length
			if n < 0 {
				n = int64(len(content)) - c.offset
			}
			if err != nil || string(got) != string(content[c.offset:c.offset+n]) || body.Offset != c.offset || body.Length != n || body.Size != int64(len(content)) || s.last.Header.Get("Range") != c.header {
				s.Errorf("%+v: %d bytes, %+v, Range %q, %v", c, len(got), body, s.last.Header.Get("Range"), err)
			}
			time.Sleep(time.Minute) // what is asked for again at once seems to have been wrong
		}
	})
}

// An answer that is no part of what was asked for is none.
func TestAnswersThatDoNotFit(t *testing.T) {
	for name, play := range map[string]peerFunc{
		"another part":       says(206, "Content-Range", "bytes 5-9/200000"),
		"no Content-Range":   says(206),
		"a wrong range":      says(206, "Content-Range", "bytes 10-5/200000"),
		"beyond the end":     says(206, "Content-Range", "bytes 10-300000/200000"),
		"another length":     says(206, "Content-Range", "bytes 10-199999/200000"), // of a body that is empty
		"several parts":      says(206, "Content-Type", "multipart/byteranges; boundary=x"),
		"a redirect":         says(302, "Location", "http://elsewhere.example.com/"),
		"a redirect, 307":    says(307, "Location", "http://b:1/"),
		"not modified":       says(304),
		"no content":         says(204),
		"too many":           says(429, "Retry-After", "100"),
		"unavailable":        says(503),
		"an error":           says(500),
		"bad request":        says(400),
		"a holder with 404":  says(404, "Pullthrough-Holder", "d:1"),
		"a holder with 503":  says(503, "Pullthrough-Holder", "elsewhere.example.com:1"),
		"unknown holder":     follows("elsewhere.example.com:1"),
		"no holder":          follows(""),
		"self is the holder": follows("self:1"),
		"own holder":         follows("a:1"),
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				s.play(byMethod(play, says(404)), "a")
				body, err := s.blob(s.Context(), 10, -1)
				if err != nil || body.Via != "" {
					s.Fatalf("from %q, %v", body.Via, err)
				}
				_ = body.Close()
				asked := s.took()
				want := "GET a, GET b, GET c, HEAD abcde, upstream"
				if name == "unknown holder" { // whose bytes it may send on
					want = "GET a, GET a, GET b, GET c, HEAD aabbccddeef, upstream"
				}
				if asked != want {
					s.Errorf("asked: %s", asked)
				}
			})
		})
	}
}

// Whom a replica follows is asked next, each replica once; a lie leads nowhere else.
func TestHolders(t *testing.T) {
	for name, c := range map[string]struct {
		plays map[string]peerFunc
		via   string
		asked string
	}{
		"a chain": {map[string]peerFunc{"a": follows("e:1"), "e": follows("d:1"), "d": follows("f:1"), "f": sends()}, "f:1", "GET a, GET e, GET d, GET f"},
		// A replica that asks one of a cycle asks all of them once more.
		"a cycle with self":         {map[string]peerFunc{"a": follows("f:1"), "f": follows("self:1")}, "", "GET a, GET f, GET b, GET c, HEAD, GET f, upstream"},
		"a chain that ends":         {map[string]peerFunc{"a": follows("f:1"), "c": sends()}, "c:1", "GET a, GET f, GET b, GET c"},
		"a question that finds":     {map[string]peerFunc{"d": sends()}, "d:1", "GET a, GET b, GET c, HEAD, GET d"},
		"a question about a holder": {map[string]peerFunc{"e": follows("f:1"), "f": sends()}, "f:1", "GET a, GET b, GET c, HEAD, GET f"},
		// A replica that follows one that is not reached may send on what it gets from that one.
		"a holder that has gone":       {map[string]peerFunc{"a": follows("f:1"), "f": refuses}, "", "GET a, GET f, GET b, GET c, HEAD, GET a, upstream"},
		"a holder that is not reached": {map[string]peerFunc{"a": sendsOn("f:1"), "f": refuses}, "a:1", "GET a, GET f, GET b, GET c, HEAD, GET a"},
		"one that is known as dead":    {map[string]peerFunc{"b": refuses, "c": sendsOn("b:1")}, "c:1", "GET a, GET b, GET c, GET c"},
		"a holder that is a stranger":  {map[string]peerFunc{"e": follows("elsewhere.example.com:1")}, "", "GET a, GET b, GET c, HEAD, GET e, upstream"},
		"a stranger's bytes":           {map[string]peerFunc{"e": sendsOn("elsewhere.example.com:1")}, "e:1", "GET a, GET b, GET c, HEAD, GET e"},
		"a stranger's bytes, by rank":  {map[string]peerFunc{"b": sendsOn("elsewhere.example.com:1")}, "b:1", "GET a, GET b, GET b"},
		"two of them":                  {map[string]peerFunc{"b": sendsOn("x:1", "y:1")}, "b:1", "GET a, GET b, GET b, GET b"},
		"better one that has it":       {map[string]peerFunc{"d": sendsOn("x:1"), "e": byMethod(sends(), later(10*time.Millisecond, says(200)))}, "e:1", "GET a, GET b, GET c, HEAD, GET e"},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				for peer, play := range c.plays {
					s.play(play, peer)
				}
				s.wantBlob(c.via)
				s.wantAsked(c.asked)
			})
		})
	}
}

// A question takes 250 ms at most. Who has not answered by then is passed over until it
// answers a ping, and since it may have left something behind, all are asked.
func TestQuestionHasAnEnd(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(hangs, "d", "e")
		began := time.Now()
		s.wantBlob("")
		if took := time.Since(began); took != 250*time.Millisecond {
			s.Errorf("it took %v", took)
		}
		s.wantAsked("GET a, GET b, GET c, HEAD aabbccdef, upstream")
		s.wantBlob("")
		s.wantAsked("GET a, GET b, GET c, HEAD abcf, upstream")
		s.play(func(r *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Millisecond) // the pull does not wait for the ping
			return says(204)(r)
		}, "d")
		time.Sleep(1500 * time.Millisecond)
		s.wantBlob("")
		time.Sleep(1500 * time.Millisecond) // the pings end
		if asked := s.took(); !strings.Contains(asked, "ping d") || !strings.Contains(asked, "ping e") || !strings.Contains(asked, "HEAD abcf,") {
			s.Errorf("asked: %s", asked)
		}
		s.play(nil, "d", "e")
		s.wantBlob("")
		if asked := s.took(); !strings.Contains(asked, "HEAD abcdf,") {
			s.Errorf("asked: %s", asked)
		}
		var dead []string
		for _, m := range s.fleet.Members(s.Context()) {
			if m.Dead {
				dead = append(dead, m.Address)
			}
		}
		if len(dead) != 1 || dead[0] != "e:1" {
			s.Errorf("dead: %v", dead)
		}
	})
}

// The first who says yes is followed, whatever the others do.
func TestFirstAnswerCounts(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(hangs, "d", "f")
		s.play(byMethod(sends(), func(r *http.Request) (*http.Response, error) {
			time.Sleep(100 * time.Millisecond)
			return says(200)(r)
		}), "e")
		began := time.Now()
		s.wantBlob("e:1")
		if took := time.Since(began); took != 100*time.Millisecond {
			s.Errorf("it took %v", took)
		}
		time.Sleep(time.Second)
		for _, m := range s.fleet.Members(s.Context()) {
			if m.Dead {
				s.Errorf("%s was not waited for, and is dead", m.Address)
			}
		}
	})
}

// A download that ends while a replica is asked says nothing about that replica.
func TestLeavingMarksNobodyDead(t *testing.T) {
	for _, cause := range []error{context.Canceled, errors.New("abandoned")} {
		onStage(t, func(s *stage) {
			s.play(hangs, "a", "b", "c", "d", "e", "f")
			for _, wait := range []time.Duration{10 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
				ctx, cancel := context.WithCancelCause(s.Context())
				time.AfterFunc(wait, func() { cancel(cause) })
				if _, err := s.blob(ctx, 0, -1); !errors.Is(err, cause) {
					s.Errorf("%v: %v", wait, err)
				}
			}
			s.play(says(404), "a", "b", "c")
			ctx, cancel := context.WithCancelCause(s.Context())
			time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
			if body, err := s.blob(ctx, 0, -1); err == nil {
				_ = body.Close()
			}
			synctest.Wait()
			for _, m := range s.fleet.Members(s.Context()) {
				if m.Dead {
					s.Errorf("%v: %s is dead", cause, m.Address)
				}
			}
		})
	}
}

// A replica that takes this one for a stranger is named in the log, and passed over until it
// does not.
func TestWrongSecretIsSaidOnce(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(says(401), "a")
		s.wantBlob("")
		s.wantBlob("")
		if got := s.took(); strings.Count(got, "GET a") != 1 || strings.Contains(got, "HEAD a") {
			s.Errorf("asked: %s", got)
		}
		for range 5 {
			time.Sleep(10 * time.Second)
			s.wantBlob("")
			synctest.Wait()
		}
		if n := strings.Count(s.log.String(), "level=WARN msg=\"fleet: a replica does not accept"); n != 1 {
			s.Errorf("%d lines in the log:\n%s", n, s.log.String())
		}
		s.play(byMethod(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/ping") {
				return says(204)(r)
			}
			return sends()(r)
		}, says(404)), "a")
		time.Sleep(time.Minute)
		s.wantBlob("")
		synctest.Wait()
		s.wantBlob("a:1")
	})
}
