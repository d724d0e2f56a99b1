package upstream_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// atLocalhost is the same server under another name.
func atLocalhost(host string) string { return strings.Replace(host, "127.0.0.1", "localhost", 1) }

// The authorities of a registry hold for the token server that is listed for it,
// unless that has an entry of its own, and for nobody else.
func TestAuthoritiesOfTheTokenServer(t *testing.T) {
	for name, c := range map[string]struct {
		realms []string
		entry  bool
		good   bool
	}{
		"listed": {realms: []string{"localhost"}, good: true}, "not listed": {}, "an entry of its own": {realms: []string{"localhost"}, entry: true},
	} {
		t.Run(name, func(t *testing.T) {
			up := upstreamtest.NewTLSRegistry(t)
			up.AddImage("a", "v1", nil)
			up.RequireLogin(everybody, nil)
			up.Fail(upstreamtest.Fault{Kind: "manifest", Times: 1, Challenge: fmt.Sprintf(`Bearer realm="https://%s/token",service="x",scope="repository:a:pull"`, atLocalhost(up.Host()))})
			h := upstream.Host{RootCAs: up.Roots()}
			if c.realms != nil {
				h.Realms = []string{atLocalhost(up.Host())}
			}
			client := &upstream.Client{Hosts: map[string]upstream.Host{up.Host(): h}}
			if c.entry {
				client.Hosts[atLocalhost(up.Host())] = upstream.Host{}
			}
			r, err := client.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "a"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = r.Manifest(t.Context(), "v1")
			if c.good {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := wantError(t, err, upstream.Unreachable)
			if !strings.Contains(err.Error(), atLocalhost(up.Host())) || !strings.Contains(err.Error(), "x509") || !strings.Contains(e.Reason, "not trusted") {
				t.Errorf("%v, reason %q: want the host that failed, and why", err, e.Reason)
			}
			if named := strings.Contains(e.Reason, atLocalhost(up.Host())); named != (c.realms != nil) {
				t.Errorf("the reason %q: a host is named to clients only if somebody here named it", e.Reason)
			}
		})
	}
}

// An error says which host failed, if it is not the rule's own.
func TestErrorsNameTheHostThatFailed(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Challenge: `Bearer realm="https://127.0.0.1:1/token",service="x"`})
	h := s.client.Hosts[s.up.Host()]
	h.Realms = []string{"127.0.0.1:1"}
	s.client.Hosts[s.up.Host()] = h
	s.who = alice()
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Unreachable); !strings.Contains(err.Error(), `the host "127.0.0.1:1": connection refused`) || e.Reason != "its token server 127.0.0.1:1: connection refused" {
		t.Errorf("token server: %v, reason %q", err, e.Reason)
	}
	s = newSide(t)
	d := s.up.AddBlob("a", []byte("x"))
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Redirect: "http://127.0.0.1:1/x?sig=hunter2"})
	_, err = s.repo("a").Blob(t.Context(), d, 0, -1)
	if e := s.want(err, upstream.Unreachable); !strings.Contains(err.Error(), "127.0.0.1:1") || e.Reason != "a host that it leads to: connection refused" {
		t.Errorf("redirect: %v, reason %q", err, e.Reason)
	}
	s.up.Stop()
	_, err = s.repo("a").Blob(t.Context(), d, 0, -1)
	if e := s.want(err, upstream.Unreachable); e.Reason != "connection refused" {
		t.Errorf("home: %v, reason %q", err, e.Reason)
	}
}
