package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// hears asks the replica of a stage as another one does, and returns the status and the
// holder.
func (s *stage) hears(method, peer string, without ...string) (status int, holder string) {
	s.Helper()
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: "registry.example.com/team/*", Target: "mirror/*"})
	if err != nil {
		s.Fatal(err)
	}
	c := &cache.Cache{ID: "fleet.example.com", Rules: rules, Store: &store.Mem{}, Upstream: s.fleet.Opener(s)}
	defer func() {
		if err := c.Shutdown(context.Background()); err != nil {
			s.Error(err)
		}
	}()
	r := httptest.NewRequestWithContext(s.Context(), method, "/fleet/v1/mirror/app/blobs/"+s.digest.String(), nil)
	for k, v := range map[string]string{"Authorization": "Bearer " + secret, "Pullthrough-Peer": peer, "Pullthrough-Source": "team registry.example.com/team/app", "Cdn-Loop": "fleet.example.com"} {
		r.Header.Set(k, v)
	}
	if len(without) > 0 {
		r.Header.Set("Pullthrough-Without", strings.Join(without, " "))
	}
	w := httptest.NewRecorder()
	defer func() { // the digest is not that of content, which ends an answer late
		p := recover()
		if p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
		s.aborted, s.heard = p != nil, w.Header()
		status, holder = w.Code, w.Header().Get("Pullthrough-Holder")
	}()
	s.fleet.Handler(c).ServeHTTP(w, r)
	return w.Code, w.Header().Get("Pullthrough-Holder")
}

// Of two replicas that are about to fetch a blob, the one of the lower rank gives way, also to
// one that it did not know. Before it fetches the blob, it asks those that it gave way to.
func TestTwoThatAskAtOnce(t *testing.T) {
	onStage(t, func(s *stage) {
		slow := func(r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(100 * time.Millisecond):
				return says(404)(r)
			case <-r.Context().Done():
				return nil, context.Cause(r.Context())
			}
		}
		s.play(byMethod(says(404), slow), "a", "b", "c", "d", "e", "f")
		done := make(chan string)
		go func() {
			body, err := s.blob(s.Context(), 0, -1)
			if err != nil {
				s.Error(err)
			} else {
				_ = body.Close()
			}
			done <- body.Via
		}()
		synctest.Wait() // it asks
		s.took()
		before, after := s.strangers()
		s.play(sends(), strings.TrimSuffix(before, ":1"))
		for peer, want := range map[string]int{"e:1": 200, "f:1": 200, after: 200, before: 404} {
			if got, _ := s.hears("HEAD", peer); got != want {
				s.Errorf("%s hears %d, want %d", peer, got, want)
			}
		}
		if got := <-done; got != before {
			s.Errorf("the blob comes from %q, want %s", got, before)
		}
		s.wantAsked("GET " + strings.TrimSuffix(before, ":1"))
		if got, _ := s.hears("HEAD", "e:1"); got != 404 {
			s.Errorf("afterwards: %d", got)
		}
	})
}

// strangers returns two replicas that are not in the list: one that comes before self in the
// rank, and one that comes after it.
func (s *stage) strangers() (before, after string) {
	for i := 0; before == "" || after == ""; i++ {
		name := fmt.Sprintf("stranger%d:1", i)
		if fleet.Rank([]string{"self:1", name}, stageSource, s.digest)[0] == name {
			before = name
		} else {
			after = name
		}
	}
	return before, after
}

// A party that gives no proof that it is a replica is not taken for a new one.
func TestNobodyIsMetInTheOpen(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(byMethod(says(404), later(100*time.Millisecond, says(404))), "a", "b", "c", "d", "e", "f")
		done := make(chan bool)
		go func() {
			s.wantBlob("")
			close(done)
		}()
		synctest.Wait() // it asks, and gives way to those that it knows alone
		before, _ := s.strangers()
		for range 2 {
			if got, _ := s.hears("HEAD", before); got != 200 {
				s.Errorf("it hears %d", got)
			}
		}
		<-done
		if m := s.fleet.Members(s.Context()); len(m) != len(ranked) {
			s.Errorf("members: %+v", m)
		}
	}, func(f *fleet.Fleet) { f.Open, f.Secret = true, nil })
}

// A party that has a former secret alone is not sent the new one.
func TestAFormerSecretMakesNoGuest(t *testing.T) {
	onStage(t, func(s *stage) {
		before, _ := s.strangers()
		if got, _ := s.hears("HEAD", before); got != 404 {
			s.Errorf("it hears %d", got)
		}
		if m := s.fleet.Members(s.Context()); len(m) != len(ranked) {
			s.Errorf("members: %+v", m)
		}
	}, func(f *fleet.Fleet) {
		f.Secret, f.FormerSecrets = []byte("another-secret-of-some-length"), [][]byte{[]byte(secret)}
	})
}

// A replica that is not in the list is one of the members for a minute after its last request,
// if its name is an address and there are not too many.
func TestGuests(t *testing.T) {
	onStage(t, func(s *stage) {
		guests := func() (n int) { return len(s.fleet.Members(s.Context())) - len(ranked) }
		for _, name := range []string{"", "nowhere", "nowhere:", ":1", "a b:1", "nowhere:0", "nowhere:65536", "nowhere:http", "user@nowhere:1", "nowhere/x:1", "no%2Fwhere:1", strings.Repeat("x", 300) + ":1", "self:1", "a:1"} {
			s.hears("HEAD", name)
			if n := guests(); n != 0 {
				s.Errorf("%q is a guest", name)
			}
		}
		s.hears("HEAD", "[2001:db8::1]:5443")
		time.Sleep(40 * time.Second)
		s.hears("HEAD", "guest.example.com:5443")
		time.Sleep(19 * time.Second)
		if n := guests(); n != 2 {
			s.Errorf("%d guests, want 2", n)
		}
		time.Sleep(time.Second)
		if n := guests(); n != 1 {
			s.Errorf("%d guests a minute after the request of one", n)
		}
		s.hears("HEAD", "guest.example.com:5443")
		time.Sleep(59 * time.Second)
		if n := guests(); n != 1 {
			s.Errorf("%d guests after another request", n)
		}
		for i := range 100 {
			s.hears("HEAD", fmt.Sprintf("guest%d:1", i))
		}
		if n := guests(); n != 64 {
			s.Errorf("%d guests of 101", n)
		}
		time.Sleep(time.Minute)
		s.hears("HEAD", "late:1")
		if n := guests(); n != 1 {
			s.Errorf("%d guests, want the last one", n)
		}
	})
}

// What a replica that follows sends on: nothing to one that may ask the holder, and nothing
// before it comes.
func TestSendingOn(t *testing.T) {
	onStage(t, func(s *stage) {
		silent := make(chan bool)
		s.play(byMethod(func(r *http.Request) (*http.Response, error) {
			<-silent
			return sends(stalls(1000, time.Second))(r)
		}, says(200)), "a")
		done := make(chan upstream.Body)
		go func() {
			body, err := s.blob(s.Context(), 0, -1)
			if err != nil {
				s.Error(err)
			}
			done <- body
		}()
		synctest.Wait()
		hear := func(when string, want int, without ...string) {
			s.Helper()
			status, holder := s.hears("HEAD", "e:1", without...)
			if status != want || (holder != "") != (want == 409) {
				s.Errorf("%s, without %v: %d, holder %q; want %d", when, without, status, holder, want)
			}
		}
		hear("before it comes", 409)
		hear("before it comes", 409, "a:1")
		close(silent)
		body := <-done
		hear("when it comes", 409)
		hear("when it comes", 409, "b:1")
		hear("when it comes", 200, "a:1")
		hear("when it comes", 200, "b:1", "a:1")
		_, _ = io.Copy(io.Discard, body)
		_ = body.Close()
	})
}

// A replica that is to send on what b brings, and gets it from a in the end, says so.
func TestSendingOnSomethingElse(t *testing.T) {
	onStage(t, func(s *stage) {
		slow := sends(stalls(100000, time.Second)) // or its digest, which is not that of content, is seen at once
		s.play(byMethod(slow, says(404)), "a")
		s.play(says(200), "b")
		if status, holder := s.hears("GET", "e:1", "b:1"); status != 409 || holder != "a:1" {
			s.Errorf("answered %d, holder %q", status, holder)
		}
		if s.aborted || len(s.heard) != 1 {
			s.Errorf("what is sent away is cut off: %v; %v", s.aborted, s.heard)
		}
	})
}

// A replica whose upstream has just refused a blob does not say that it brings it, and does not
// try again for others at once.
func TestRefusedByTheUpstream(t *testing.T) {
	onStage(t, func(s *stage) {
		s.up = func(context.Context, int64, int64) (upstream.Body, error) {
			return upstream.Body{}, errors.New("too many requests")
		}
		if _, err := s.blob(s.Context(), 0, -1); err == nil {
			s.Error("it is not refused")
		}
		s.took()
		s.up = nil
		for _, c := range []struct {
			method string
			status int
		}{{"HEAD", 404}, {"GET", 503}} {
			if got, _ := s.hears(c.method, "e:1"); got != c.status {
				s.Errorf("%s is answered %d, want %d", c.method, got, c.status)
			}
		}
		s.wantAsked("")
		s.play(byMethod(says(404), later(100*time.Millisecond, says(404))), "a", "b", "c", "d", "e", "f")
		done := make(chan bool)
		go func() {
			s.wantBlob("")
			close(done)
		}()
		synctest.Wait()
		if got, _ := s.hears("HEAD", "e:1"); got != 404 { // although it asks, and comes first
			s.Errorf("while it asks for another client: %d", got)
		}
		<-done
		time.Sleep(time.Second)
		if got, _ := s.hears("GET", "e:1"); got == 503 || !strings.Contains(s.took(), "upstream") {
			s.Errorf("a second later: %d", got)
		}
	})
}

// A download that was not wanted any more is no refusal.
func TestWhoLeavesIsNotRefused(t *testing.T) {
	onStage(t, func(s *stage) {
		s.up = func(ctx context.Context, _, _ int64) (upstream.Body, error) {
			<-ctx.Done()
			return upstream.Body{}, context.Cause(ctx)
		}
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		if _, err := s.blob(ctx, 0, -1); err == nil {
			s.Error("the blob is there")
		}
		s.up = nil
		s.took()
		if got, _ := s.hears("GET", "e:1"); got == 503 || !strings.Contains(s.took(), "upstream") {
			s.Errorf("answered %d", got)
		}
	})
}

// A replica that knows nothing of a blob asks for one that does not reach the owner.
func TestAskedInPlaceOfAnother(t *testing.T) {
	onStage(t, func(s *stage) {
		hear := func(want int, asked string, without ...string) {
			s.Helper()
			if got, _ := s.hears("HEAD", "e:1", without...); got != want {
				s.Errorf("without %v: %d, want %d", without, got, want)
			}
			s.wantAsked(asked)
		}
		s.play(says(200), "a")
		hear(404, "")
		hear(200, "HEAD a", "a:1")
		hear(404, "HEAD b", "b:1")
		hear(404, "", "e:1", "self:1", "elsewhere:1", "a:1") // three at most
		s.play(follows("a:1"), "b")
		hear(404, "HEAD b", "b:1")
		s.play(follows("elsewhere:1"), "d")
		hear(404, "HEAD d", "d:1")
		s.play(hangs, "c")
		began := time.Now()
		hear(404, "HEAD c", "c:1")
		if took := time.Since(began); took != 125*time.Millisecond {
			s.Errorf("it took %v", took)
		}
		hear(404, "", "c:1") // which is known to be dead
	})
}

// What others hear while this replica fills, follows, or leaves.
func TestWhatOthersHear(t *testing.T) {
	for name, c := range map[string]struct {
		plays  map[string]peerFunc
		leave  bool
		status int
		holder string
	}{
		"it fills":              {nil, false, 200, ""},
		"it fills and leaves":   {nil, true, 404, ""}, // what it fills is not under way in the other cache of this test
		"it follows":            {map[string]peerFunc{"a": sends()}, false, 409, "a:1"},
		"it follows and leaves": {map[string]peerFunc{"a": sends()}, true, 409, "a:1"},
		"it follows a holder":   {map[string]peerFunc{"a": follows("f:1"), "f": sends()}, false, 409, "f:1"},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				for peer, play := range c.plays {
					s.play(play, peer)
				}
				body, err := s.blob(s.Context(), 0, -1)
				if err != nil {
					s.Fatal(err)
				}
				if c.leave {
					s.fleet.Leave()
				}
				for _, peer := range []string{"a:1", "e:1", "stranger:1"} {
					if status, holder := s.hears("HEAD", peer); status != c.status || holder != c.holder {
						s.Errorf("%s hears %d %q, want %d %q", peer, status, holder, c.status, c.holder)
					}
				}
				if c.holder != "" && !c.leave {
					if status, holder := s.hears("GET", "e:1"); status != 409 || holder != c.holder {
						s.Errorf("GET is answered %d %q", status, holder)
					}
				}
				_, _ = io.Copy(io.Discard, body)
				_ = body.Close()
			})
		})
	}
}

// While a replica asks for one blob, it is asked by the one that it asks: both follow no
// cycle, and each blob that is asked about is asked about once.
func TestAskedWhileAsking(t *testing.T) {
	onStage(t, func(s *stage) {
		var heard int
		var holder string
		s.play(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet {
				heard, holder = s.hears("GET", "a:1") // which wants to follow this one just now
			}
			return follows("self:1")(r)
		}, "a")
		s.wantBlob("")
		if heard != 409 || holder != "a:1" {
			s.Errorf("who is followed heard %d %q", heard, holder)
		}
	}, func(f *fleet.Fleet) { f.Peers = fleet.Static("a:1", "self:1") })
}
