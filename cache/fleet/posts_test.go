package fleet_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
)

// pipes is a listener for connections in a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// slowRules takes its time.
type slowRules struct{ rule.Set }

func (s *slowRules) Match(ctx context.Context, repository string) (*rule.Match, error) {
	time.Sleep(time.Minute)
	return s.Set.Match(ctx, repository)
}

// posted runs a test with the server of a replica, in a bubble. post opens a connection, and
// sends the header of a deletion whose body has a length, and the beginning of that. ended says that
// the context of the last request ended while it was worked on.
func posted(t *testing.T, test func(t *testing.T, ended *atomic.Bool, post func(length int, body string) net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet.Fleet{Self: "a:1", Peers: fleet.Static("a:1", "b:1"), Secret: []byte(secret), Insecure: true}
		c := &cache.Cache{ID: "x", Rules: &slowRules{}, Upstream: f.Opener(nil)}
		server, listener := f.Server(c), make(pipes)
		var ended atomic.Bool
		handler := server.Handler
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.ServeHTTP(w, r)
			ended.Store(r.Context().Err() != nil)
		})
		go func() { _ = server.Serve(listener) }()
		test(t, &ended, func(length int, body string) net.Conn {
			here, there := net.Pipe()
			t.Cleanup(func() { _ = here.Close() })
			listener <- there
			if _, err := fmt.Fprintf(here, "POST /fleet/v1/forget HTTP/1.1\r\nHost: a:1\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", secret, length, body); err != nil {
				t.Fatal(err)
			}
			return here
		})
		_ = server.Close()
		if err := c.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		f.Close()
	})
}

// answer is the status of what comes over a connection.
func answer(t *testing.T, conn net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// What another replica posts may be worked on for longer than its body may take.
func TestPostIsWorkedOnForLong(t *testing.T) {
	posted(t, func(t *testing.T, ended *atomic.Bool, post func(int, string) net.Conn) {
		body := `{"repository":"mirror/app"}`
		if got := answer(t, post(len(body), body)); got != http.StatusNoContent {
			t.Errorf("status %d", got)
		}
		if ended.Load() {
			t.Error("the request ended while it was worked on")
		}
	})
}

// A body that does not come is waited for as long as a body may take, and a few are waited for at
// once.
func TestBodiesThatDoNotCome(t *testing.T) {
	posted(t, func(t *testing.T, _ *atomic.Bool, post func(int, string) net.Conn) {
		began := time.Now()
		var waits []net.Conn
		for range 16 {
			waits = append(waits, post(100, `{"repos`))
			synctest.Wait()
		}
		body := strings.Repeat(" ", 100)
		if got := answer(t, post(len(body), body)); got != http.StatusServiceUnavailable || time.Since(began) > 0 {
			t.Errorf("one too many: %d after %v", got, time.Since(began))
		}
		late := post(100, `{"repos`)
		for _, conn := range waits {
			if got := answer(t, conn); got != http.StatusBadRequest {
				t.Errorf("status %d", got)
			}
		}
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("they were waited for for %v", took)
		}
		if got := answer(t, late); got != http.StatusServiceUnavailable || time.Since(began) != 15*time.Second {
			t.Errorf("one too many whose body does not come: %d after %v", got, time.Since(began))
		}
		if got := answer(t, post(len(body), body)); got != http.StatusBadRequest { // and not 503
			t.Errorf("afterwards: %d", got)
		}
	})
}
