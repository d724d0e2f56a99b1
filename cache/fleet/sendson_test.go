package fleet_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream"
)

// sendsOn follows others, and sends the blob to one that does without them.
func sendsOn(holders ...string) peerFunc {
	return func(r *http.Request) (*http.Response, error) {
		for _, h := range holders {
			if !slices.Contains(strings.Fields(r.Header.Get("Pullthrough-Without")), h) {
				return follows(h)(r)
			}
		}
		return sends()(r)
	}
}

// later does something after a while.
func later(d time.Duration, do peerFunc) peerFunc {
	return func(r *http.Request) (*http.Response, error) {
		time.Sleep(d)
		return do(r)
	}
}

// A replica that is to bring the blob and does not is not asked again. The others are: one
// that was about to follow the same one may have begun meanwhile.
func TestAskedOnceMore(t *testing.T) {
	onStage(t, func(s *stage) {
		var failed atomic.Bool // d has: a question of the first round may come as late as that
		s.play(byMethod(func(r *http.Request) (*http.Response, error) {
			failed.Store(true)
			return says(429)(r)
		}, says(200)), "d")
		s.play(byMethod(sends(), func(r *http.Request) (*http.Response, error) {
			if !failed.Load() {
				return says(404)(r)
			}
			return says(200)(r)
		}), "e")
		s.wantBlob("e:1")
		s.wantAsked("GET a, GET b, GET c, HEAD, GET d, GET e")
	})
}

// A replica that waits for one that has just said that it lacks the blob is waited for in turn:
// otherwise both would fetch it.
func TestOneThatLacksIsDoneWithout(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(sendsOn("a:1"), "b")
		s.wantBlob("b:1")
		s.wantAsked("GET a, GET b")
	})
	onStage(t, func(s *stage) {
		s.play(says(503), "a") // it may have the blob
		s.play(sendsOn("a:1"), "b")
		s.play(sends(), "c")
		s.wantBlob("c:1")
		s.wantAsked("GET a, GET b, GET c")
	})
}

// However many holders are named, the questions have an end.
func TestHoldersHaveAnEnd(t *testing.T) {
	onStage(t, func(s *stage) {
		n := 0
		s.play(func(r *http.Request) (*http.Response, error) {
			n++
			return follows(fmt.Sprintf("x%d:1", n))(r)
		}, "a")
		s.wantBlob("")
		if n > 20 {
			s.Errorf("%d questions", n)
		}
	})
}

// A replica that sent a blob before it had all of it, and broke off or was wrong, is passed over until it
// says that it has all of it. One that had it is passed over.
func TestBroughtBadlyAndStoredSince(t *testing.T) {
	for name, c := range map[string]struct {
		header []string
		head   peerFunc
		via    string
		asked  string
	}{
		"it was coming, and is stored":   {[]string{"Pullthrough-Front", "0"}, says(200), "a:1", "GET b, GET c, GET d, HEAD, GET a"},
		"it was coming, and comes":       {[]string{"Pullthrough-Front", "0"}, says(200, "Pullthrough-Front", "70000"), "", "GET b, GET c, GET d, HEAD abcdef, upstream"},
		"it was coming, and it follows":  {[]string{"Pullthrough-Front", "0"}, follows("d:1"), "", "GET b, GET c, GET d, HEAD abcdef, upstream"},
		"it was coming, and is dead":     {[]string{"Pullthrough-Front", "0"}, nil, "", "GET b, GET c, GET d, HEAD bbccddeeff, upstream"},
		"it was coming, and has gone":    {[]string{"Pullthrough-Front", "0"}, says(404), "", "GET b, GET c, GET d, HEAD abcdef, upstream"},
		"it was stored, and still is so": {nil, says(200), "", "GET b, GET c, GET d, HEAD bcdef, upstream"},
	} {
		for _, broken := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, broken: %v", name, broken), func(t *testing.T) {
				onStage(t, func(s *stage) {
					pause := time.Duration(0)
					if broken {
						pause = -1
					}
					s.play(func(r *http.Request) (*http.Response, error) {
						resp, err := sends(stalls(1000, pause))(r)
						for i := 0; i < len(c.header); i += 2 {
							resp.Header.Set(c.header[i], c.header[i+1])
						}
						return resp, err
					}, "a")
					body, err := s.blob(s.Context(), 0, -1)
					if err != nil {
						s.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, body)
					_ = body.Close()
					s.took()
					if c.head == nil { // what is asked about another blob finds that out
						s.play(refuses, "a")
						s.seemsDead("a:1")
						s.took()
					} else {
						s.play(byMethod(sends(), c.head), "a")
					}
					s.wantBlob(c.via)
					s.wantAsked(c.asked)
				})
			})
		}
	}
}

// What was wrong is not taken from a replica that sends it on either.
func TestWrongBytesAreNotSentOn(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(sends(stalls(1000, -1)), "a") // from its store
		body, err := s.blob(s.Context(), 0, -1)
		if err != nil {
			s.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, body)
		_ = body.Close()
		s.took()
		s.play(sendsOn("a:1"), "b")
		s.wantBlob("")
		s.wantAsked("GET b, GET c, GET d, HEAD bbccddeeff, upstream")
	})
}

// seemsDead asks for other blobs until a replica that does not answer is known to be dead.
func (s *stage) seemsDead(peer string) {
	s.Helper()
	dead := func(m fleet.Member) bool { return m.Address == peer && m.Dead }
	for i := range 100 {
		body, err := s.repo.Blob(upstream.WithHint(s.Context(), upstream.Hint{Repository: "mirror/app", Size: -1}), digest.FromString(fmt.Sprint(i)), 0, -1)
		if err != nil {
			s.Fatal(err)
		}
		_ = body.Close()
		if slices.ContainsFunc(s.fleet.Members(s.Context()), dead) {
			return
		}
	}
	s.Errorf("%s is not dead", peer)
}
