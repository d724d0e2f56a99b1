package upstream_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/pullthrough/pullthrough/upstream"
)

// countedDials leads to one registry for every name and counts the connections. They are
// pipes in a bubble: net/http keeps a connection only if the end of writing the request is
// seen within 50 ms of the response, which a busy machine may miss, and the time of a
// bubble does not.
type countedDials struct {
	to            *scripted
	dialled, open atomic.Int64
}

func (d *countedDials) Dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go d.to.serve(far)
	d.dialled.Add(1)
	d.open.Add(1)
	return &countedConn{Conn: near, open: &d.open}, nil
}

type countedConn struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// hosts returns a client that asks h0.example, h1.example ... at s, over http. It is
// called in a bubble.
func (s *scripted) hosts(t *testing.T, n int, roots func() *x509.CertPool) (*upstream.Client, *countedDials) {
	d := &countedDials{to: s}
	c := &upstream.Client{Dial: d.Dial, Hosts: map[string]upstream.Host{}}
	for i := range n {
		c.Hosts[fmt.Sprintf("h%d.example", i)] = upstream.Host{PlainHTTP: true, RootCAs: roots()}
	}
	t.Cleanup(c.CloseIdleConnections)
	return c, d
}

// askHost has the client ask one host for a tag.
func askHost(t *testing.T, c *upstream.Client, host string) {
	t.Helper()
	r, err := c.Open(upstream.Source{Rule: "rule", Host: host, Repository: "team/api"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	head(t, r)
}

func noRoots() *x509.CertPool { return nil }

// Of what package cache has under way at one host at once, 64 requests and 32 downloads,
// the next wave finds all connections again.
func TestStormDialsOnce(t *testing.T) {
	const width = 96
	s := newScripted(t, "")
	synctest.Test(t, func(t *testing.T) {
		c, d := s.hosts(t, 1, noRoots)
		r, err := c.Open(upstream.Source{Rule: "rule", Host: "h0.example", Repository: "team/api"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			var bodies []upstream.Body
			for range width {
				b, err := r.Blob(t.Context(), smallDigest, 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				bodies = append(bodies, b)
			}
			for _, b := range bodies {
				if _, err := io.Copy(io.Discard, b); err != nil {
					t.Error(err)
				}
				b.Close()
			}
		}
		if n := d.dialled.Load(); n != width {
			t.Errorf("%d requests, %d at once, dialled %d times", 5*width, width, n)
		}
	})
}

// Many hosts hold a bounded number of connections together.
func TestIdleConnectionsAreBounded(t *testing.T) {
	const most, n = 256, 300
	s := newScripted(t, "")
	synctest.Test(t, func(t *testing.T) {
		c, d := s.hosts(t, n, noRoots)
		for i := range n {
			askHost(t, c, fmt.Sprintf("h%d.example", i))
		}
		if open := d.open.Load(); d.dialled.Load() != n || open > most {
			t.Errorf("%d connections are open after requests to %d hosts, want at most %d", open, d.dialled.Load(), most)
		}
	})
}

// So do hosts with authorities of their own, which share no transport.
func TestTransportsAreBounded(t *testing.T) {
	const most, n = 16, 20
	s := newScripted(t, "")
	synctest.Test(t, func(t *testing.T) {
		c, d := s.hosts(t, n, x509.NewCertPool)
		for range 2 {
			for i := range n {
				askHost(t, c, "h0.example") // used all the time, and so kept
				askHost(t, c, fmt.Sprintf("h%d.example", i))
			}
		}
		if open, dialled := d.open.Load(), d.dialled.Load(); open > most || dialled != 2*n-1 {
			t.Errorf("%d connections are open of %d that were dialled, want %d of %d", open, dialled, most, 2*n-1)
		}
		c.CloseIdleConnections()
		if open := d.open.Load(); open != 0 {
			t.Errorf("%d connections are open after all were closed", open)
		}
	})
}
