package fleet_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
)

const (
	toldLater = "a replica is told later of a deletion"
	notTold   = "a replica is not told of a deletion"
)

// logged returns how often the log has a text.
func (s *stage) logged(text string) int {
	synctest.Wait() // until nobody writes
	return strings.Count(s.log.String(), text)
}

// deletes deletes something while a replica answers so; all others hear of it.
func (s *stage) deletes(peer string, answer peerFunc) {
	s.play(says(204), "a", "b", "c", "d", "e", "f")
	s.play(answer, peer)
	s.fleet.Deleted(s.Context(), cache.Deletion{Repository: "mirror/app", Reference: "v1", At: time.Now()})
	s.took()
}

// wantClosed closes the fleet and checks what it asked meanwhile, how long that took, and that
// nothing goes on.
func (s *stage) wantClosed(asked string, most time.Duration) {
	s.Helper()
	began := time.Now()
	s.fleet.Close()
	if took := time.Since(began); took > most {
		s.Errorf("Close took %v", took)
	}
	stacks := make([]byte, 1<<20)
	if text := string(stacks[:runtime.Stack(stacks, true)]); strings.Contains(text, "(*Fleet).tell") || strings.Contains(text, "(*Fleet).ping") {
		s.Errorf("goes on after Close:\n%s", text)
	}
	s.wantAsked(asked)
	time.Sleep(time.Hour)
	s.wantAsked("")
}

// At Close, a replica that did not hear of a deletion is told a last time. If it does not hear of
// it then, the log says so; nothing goes on in silence, nor ends in it.
func TestCloseEndsWhatTellsAgain(t *testing.T) {
	for name, c := range map[string]struct {
		last peerFunc // what the replica does at Close
		most time.Duration
		lost int
	}{
		"it hears of it":  {says(204), 0, 0},
		"it refuses":      {refuses, 0, 1},
		"it is silent":    {hangs, 2 * time.Second, 1},
		"it cannot do so": {says(500), 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				s.deletes("c", refuses)
				time.Sleep(20 * time.Second)
				if n := strings.Count(s.took(), "POST c"); n < 3 || n > 6 || s.logged(toldLater) != 1 {
					s.Errorf("told %d times in 20 seconds", n)
				}
				s.play(c.last, "c")
				s.wantClosed("POST c", c.most)
				if n := s.logged(notTold); n != c.lost {
					s.Errorf("%d lines say that it was not told", n)
				}
			})
		})
	}
}

// answersAfter answers after a while, if nobody gives up before.
func answersAfter(pause time.Duration, f peerFunc) peerFunc {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(pause):
			return f(r)
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
}

// What is being told at Close is not cut.
func TestCloseWaitsForWhatIsOnItsWay(t *testing.T) {
	for name, answer := range map[string]peerFunc{"it answers": answersAfter(time.Second, says(204)), "it does not": hangs} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				s.deletes("c", refuses)
				s.play(answer, "c")
				time.Sleep(1500 * time.Millisecond) // the first pause is 1.2 seconds at most
				s.wantAsked("POST c")
				s.wantClosed("", 2*time.Second)
				if told := s.logged(notTold) == 0; told != (name == "it answers") {
					s.Errorf("told: %v", told)
				}
			})
		})
	}
}

// A replica is told again for ten minutes, and as long as it is one.
func TestTellingAgainEnds(t *testing.T) {
	for name, leaves := range map[string]bool{"it does not answer": false, "it leaves": true} {
		t.Run(name, func(t *testing.T) {
			var gone atomic.Bool
			onStage(t, func(s *stage) {
				s.deletes("c", refuses)
				time.Sleep(9 * time.Minute)
				s.took()
				gone.Store(leaves)
				time.Sleep(40 * time.Second)
				if again := s.took() != ""; again == leaves {
					s.Errorf("told again: %v", again)
				}
				time.Sleep(2 * time.Minute)
				s.took()
				time.Sleep(time.Hour)
				s.wantAsked("")
				if lost := s.logged(notTold) == 1; lost == leaves {
					s.Errorf("the log says that it was not told: %v", lost)
				}
			}, func(f *fleet.Fleet) {
				f.Peers = func(context.Context) []string {
					if gone.Load() {
						return slices.DeleteFunc(slices.Clone(ranked), func(p string) bool { return p == "c:1" })
					}
					return ranked
				}
			})
		})
	}
}

// How many deletions are told again is bounded; the log names what is beyond.
func TestDeletionsThatAreToldAgainAreBounded(t *testing.T) {
	onStage(t, func(s *stage) {
		for round := 1; round <= 2; round++ {
			s.play(refuses, "a")
			for range 4097 {
				s.fleet.Deleted(s.Context(), cache.Deletion{Repository: "mirror/app", Reference: "v1", At: time.Now()})
			}
			if later, lost := s.logged(toldLater), s.logged(notTold); later != round*4096 || lost != round {
				s.Errorf("round %d: %d are told later, and %d are not", round, later, lost)
			}
			s.play(says(204), "a")
			time.Sleep(time.Minute) // then there is room again
		}
		s.fleet.Close()
	}, func(f *fleet.Fleet) { f.Peers = fleet.Static("a:1", "self:1") })
}

// After Close nothing is begun: a deletion is told once, and no copy is taken.
func TestNothingBeginsAfterClose(t *testing.T) {
	onStage(t, func(s *stage) {
		var all sync.WaitGroup
		for range 4 {
			all.Go(s.fleet.Close)
		}
		all.Wait()
		s.deletes("c", refuses)
		if s.logged(toldLater) != 0 || s.logged(notTold) != 1 {
			s.Error("the log does not say that it was not told")
		}
		s.wantClosed("", 0)
		r := httptest.NewRequest("POST", "/fleet/v1/copies", strings.NewReader("{}"))
		r.Header.Set("Authorization", "Bearer "+secret)
		w := httptest.NewRecorder()
		if s.fleet.Handler(nil).ServeHTTP(w, r); w.Code != http.StatusServiceUnavailable {
			s.Errorf("a copy is answered %d", w.Code)
		}
	})
}

// Close ends the question whether a replica lives, and waits for its end.
func TestCloseEndsPings(t *testing.T) {
	slow := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		time.Sleep(100 * time.Millisecond)
		return nil, context.Cause(r.Context())
	}
	onStage(t, func(s *stage) {
		s.play(refuses, "a")
		s.wantBlob("")
		s.play(slow, "a")
		time.Sleep(2 * time.Second)
		s.wantBlob("") // which has it asked whether it lives
		synctest.Wait()
		if got := s.took(); !strings.HasSuffix(got, "ping a") {
			s.Errorf("asked: %s", got)
		}
		s.wantClosed("", 100*time.Millisecond)
	})
}

// The connections that are kept to other replicas end with Close.
func TestCloseEndsConnections(t *testing.T) {
	var began, ended atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			began.Add(1)
		case http.StateClosed:
			ended.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	f := &fleet.Fleet{Self: "a:1", Peers: fleet.Static(server.Listener.Addr().String()), Secret: []byte(secret), Insecure: true}
	f.Deleted(t.Context(), cache.Deletion{Repository: "mirror/app"})
	f.Close()
	until(t, func() bool { return began.Load() > 0 && ended.Load() == began.Load() })
}

// A Fleet whose fields are wrong can be closed too, and so can one that was never used.
func TestCloseOfWhatNeverBegan(t *testing.T) {
	new(fleet.Fleet).Close()
	(&fleet.Fleet{Self: "a:1", Peers: fleet.Static("a:1"), Secret: []byte(secret), Insecure: true}).Close()
}
