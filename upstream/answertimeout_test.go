package upstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

// pipes is a network inside a bubble: each connection ends at a server of its own that
// handler serves, and connecting takes connect.
type pipes struct {
	handler http.HandlerFunc
	connect time.Duration
	servers []*http.Server
}

// dial implements upstream.Client.Dial.
func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	time.Sleep(p.connect)
	near, far := net.Pipe()
	l := &oneConn{make(chan net.Conn, 1)}
	l.conns <- far
	s := &http.Server{Handler: p.handler}
	p.servers = append(p.servers, s)
	go func() { _ = s.Serve(l) }()
	return near, nil
}

// oneConn is a listener that accepts one connection.
type oneConn struct{ conns chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, io.EOF
}
func (l *oneConn) Close() error   { close(l.conns); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// inBubble runs f with a Client whose time is that of the bubble. The host hub.example
// leads to tokens.example and cdn.example.
func inBubble(t *testing.T, p *pipes, f func(t *testing.T, c *upstream.Client, open func(auth.Authenticator) upstream.Repository)) {
	synctest.Test(t, func(t *testing.T) {
		plain := upstream.Host{PlainHTTP: true}
		c := &upstream.Client{Dial: p.dial, Hosts: map[string]upstream.Host{
			"hub.example":    {PlainHTTP: true, Realms: []string{"tokens.example"}, Redirects: []string{"cdn.example"}},
			"tokens.example": plain, "cdn.example": plain,
		}}
		f(t, c, func(a auth.Authenticator) upstream.Repository {
			r, err := c.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, a)
			if err != nil {
				t.Fatal(err)
			}
			return r
		})
		c.CloseIdleConnections()
		for _, s := range p.servers {
			_ = s.Close()
		}
	})
}

var layer = digest.FromString("layer")

// slowly serves the blob layer, its header after the time that the host takes.
func slowly(times map[string]time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(times[r.Host]):
		case <-r.Context().Done():
		}
		switch {
		case r.Host == "tokens.example":
			_, _ = w.Write([]byte(`{"token":"t"}`))
		case r.Host == "hub.example" && r.Header.Get("Authorization") == "" && times["tokens.example"] > 0:
			w.Header().Set("Www-Authenticate", `Bearer realm="http://tokens.example/"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Host == "hub.example" && times["cdn.example"] > 0:
			http.Redirect(w, r, "http://cdn.example/x", http.StatusTemporaryRedirect)
		default:
			_, _ = w.Write([]byte("layer"))
		}
	}
}

func TestAnswerTimeoutOfACaller(t *testing.T) {
	const second = time.Second
	for name, c := range map[string]struct {
		times  map[string]time.Duration
		own    time.Duration // the Client's limit
		caller time.Duration
		total  time.Duration
		fails  time.Duration // when the call fails, or 0
		owner  upstream.Owner
	}{
		"the default":             {times: map[string]time.Duration{"hub.example": 21 * second}, fails: 20 * second},
		"the Client's":            {times: map[string]time.Duration{"hub.example": 6 * second}, own: 5 * second, fails: 5 * second},
		"a shorter one":           {times: map[string]time.Duration{"hub.example": 6 * second}, caller: 5 * second, fails: 5 * second},
		"a longer one":            {times: map[string]time.Duration{"hub.example": 29 * second}, own: second, caller: 30 * second},
		"longer than the total":   {times: map[string]time.Duration{"hub.example": 29 * second}, total: second, caller: 30 * second},
		"one that is none":        {times: map[string]time.Duration{"hub.example": 6 * second}, own: 5 * second, caller: -1, fails: 5 * second},
		"of a token server":       {times: map[string]time.Duration{"tokens.example": 9 * second}, caller: 5 * second, fails: 5 * second, owner: upstream.Issuer},
		"a slow token server":     {times: map[string]time.Duration{"tokens.example": 50 * second}, caller: 55 * second},
		"of a redirect":           {times: map[string]time.Duration{"cdn.example": 9 * second}, caller: 5 * second, fails: 5 * second, owner: upstream.Elsewhere},
		"for each response again": {times: map[string]time.Duration{"hub.example": 4 * second, "cdn.example": 4 * second, "tokens.example": 4 * second}, caller: 5 * second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, &pipes{handler: slowly(c.times)}, func(t *testing.T, client *upstream.Client, open func(auth.Authenticator) upstream.Repository) {
				client.AnswerTimeout, client.TotalTimeout = c.own, c.total
				start := time.Now()
				b, err := open(alice()).Blob(upstream.WithAnswerTimeout(t.Context(), c.caller), layer, 0, -1)
				if c.fails == 0 {
					if err != nil {
						t.Fatal(err)
					}
					if got, err := io.ReadAll(b); err != nil || string(got) != "layer" {
						t.Errorf("%q, %v", got, err)
					}
					_ = b.Close()
					return
				}
				e := wantError(t, err, upstream.Unreachable)
				if !e.Timeout || e.Owner != c.owner || e.Connect || e.Status != 0 || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != c.fails {
					t.Errorf("after %v: %+v", time.Since(start), e)
				}
			})
		})
	}
}

// The limit is for the header: neither connecting nor the body counts.
func TestAnswerTimeoutIsForTheHeader(t *testing.T) {
	p := &pipes{connect: 5 * time.Second, handler: func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		time.Sleep(time.Minute)
		_, _ = w.Write([]byte("layer"))
	}}
	inBubble(t, p, func(t *testing.T, _ *upstream.Client, open func(auth.Authenticator) upstream.Repository) {
		b, err := open(nil).Blob(upstream.WithAnswerTimeout(t.Context(), time.Second), layer, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); err != nil || string(got) != "layer" {
			t.Errorf("%q, %v", got, err)
		}
		_ = b.Close()
	})
}

// roundTrip is a transport of an embedder's.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// With a Transport of the embedder's, only the limit of the caller counts.
func TestAnswerTimeoutWithATransport(t *testing.T) {
	hangs := roundTrip(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
	inBubble(t, &pipes{}, func(t *testing.T, c *upstream.Client, open func(auth.Authenticator) upstream.Repository) {
		c.Transport, c.AnswerTimeout = hangs, time.Second
		for limit, want := range map[time.Duration]time.Duration{5 * time.Second: 5 * time.Second, 0: upstream.DefaultTotalTimeout} {
			start := time.Now()
			_, err := open(nil).Resolve(upstream.WithAnswerTimeout(t.Context(), limit), "v1")
			if e := wantError(t, err, upstream.Unreachable); !e.Timeout || e.Owner != upstream.Home || time.Since(start) != want {
				t.Errorf("limit %v: after %v: %+v", limit, time.Since(start), e)
			}
		}
	})
}
