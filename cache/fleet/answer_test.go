package fleet_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
)

// hears asks the replica of a stage as another one does, and returns the status and the
// holder.
func (s *stage) hears(method, peer string) (int, string) {
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
	w := httptest.NewRecorder()
	s.fleet.Handler(c).ServeHTTP(w, r)
	return w.Code, w.Header().Get("Pullthrough-Holder")
}

// Of two replicas that are about to fetch a blob, the one of the lower rank gives way, if
// they know one another. Who asks one that does not know it gives way, too.
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
		done := make(chan bool)
		go func() {
			s.wantBlob("")
			close(done)
		}()
		synctest.Wait() // it asks
		for peer, want := range map[string]int{"a:1": 404, "d:1": 404, "e:1": 200, "f:1": 200, "stranger:1": 200} {
			if got, _ := s.hears("HEAD", peer); got != want {
				s.Errorf("%s hears %d, want %d", peer, got, want)
			}
		}
		<-done
		if got, _ := s.hears("HEAD", "e:1"); got != 404 {
			s.Errorf("afterwards: %d", got)
		}
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
