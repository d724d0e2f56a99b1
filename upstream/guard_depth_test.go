package upstream_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// far is a network in which names lie anywhere but are served on loopback.
// Dialling a name that it does not know fails the test.
type far struct {
	*testing.T
	mu    sync.Mutex
	names map[string]place
	dials map[string]int
}

type place struct{ address, at string }

func (f *far) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	f.mu.Lock()
	p, ok := f.names[address]
	f.dials[address]++
	f.mu.Unlock()
	if !ok {
		f.Errorf("%s was dialled", address)
		return nil, fmt.Errorf("no such host")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, p.address)
	if err != nil {
		return nil, err
	}
	return farConn{c, &net.TCPAddr{IP: net.ParseIP(p.at), Port: 443}}, nil
}

type farConn struct {
	net.Conn
	at net.Addr
}

func (c farConn) RemoteAddr() net.Addr { return c.at }

func TestAnUpstreamLeadsNoDeeperThanItLies(t *testing.T) {
	for _, c := range []struct {
		host, at, target, targetAt string
		named, ok                  bool
	}{
		{"hub.example", "8.8.8.8", "cdn.example", "8.8.4.4", false, true},
		{"hub.example", "8.8.8.8", "cdn.example", "10.0.0.1", false, false},
		{"hub.example", "8.8.8.8", "cdn.example", "127.0.0.1", false, false},
		{"hub.example", "8.8.8.8", "cdn.example", "fd12::1", false, false},
		{"hub.example", "8.8.8.8", "cdn.example", "::ffff:10.0.0.1", false, false},
		{"hub.example", "8.8.8.8", "cdn.example", "10.0.0.1", true, true},
		{"hub.example", "8.8.8.8", "cdn.example", "169.254.169.254", true, false},
		{"hub.example", "8.8.8.8", "cdn.example", "fd00:ec2::254", true, false},
		{"hub.example", "10.0.0.2", "cdn.example", "10.0.0.1", false, true},
		{"hub.example", "10.0.0.2", "cdn.example", "127.0.0.1", false, false},
		{"hub.example", "127.0.0.1", "cdn.example", "127.0.0.1", false, true},
		{"hub.example", "168.63.129.16", "cdn.example", "8.8.8.8", false, false},
		{"acme.azurecr.io", "20.1.1.1", "x.blob.core.windows.net", "10.0.0.1", false, true},
		{"acme.azurecr.io", "20.1.1.1", "acme.weu.data.azurecr.io", "10.0.0.1", false, true},
		{"acme.azurecr.io", "20.1.1.1", "x.blob.core.windows.net", "127.0.0.1", false, false},
		{"acme.azurecr.io", "20.1.1.1", "cdn.example", "10.0.0.1", false, false},
		{"evil.example", "8.8.8.8", "x.blob.core.windows.net", "10.0.0.1", false, false},
	} {
		t.Run(fmt.Sprintf("%s %s %s %s %v", c.host, c.at, c.target, c.targetAt, c.named), func(t *testing.T) {
			up, target := upstreamtest.NewTLSRegistry(t, c.host), upstreamtest.NewTLSRegistry(t, c.target)
			f := &far{T: t, dials: map[string]int{}, names: map[string]place{c.host + ":443": {up.Host(), c.at}, c.target + ":443": {target.Host(), c.targetAt}}}
			roots := up.Roots().Clone()
			client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{c.host: {RootCAs: roots}}}
			if c.named {
				client.Hosts[c.host] = upstream.Host{RootCAs: roots, Redirects: []string{c.target}}
				client.Hosts[c.target] = upstream.Host{RootCAs: target.Roots()}
			}
			d := target.AddBlob("a", []byte("content"))
			up.Fail(upstreamtest.Fault{Redirect: "https://" + c.target + "/v2/a/blobs/" + d.String()})
			r, err := client.Open(upstream.Source{Rule: "r", Host: c.host, Repository: "a"}, alice())
			if err != nil {
				t.Fatal(err)
			}
			b, err := r.Blob(t.Context(), d, 0, -1)
			class, _ := upstream.ClassOf(err)
			switch {
			case c.ok && err == nil:
				_, _ = io.Copy(io.Discard, b)
				_ = b.Close()
			case c.ok && strings.Contains(err.Error(), "TLS"): // allowed, but its roots are not known
			case c.ok || err == nil || class != upstream.Protocol:
				t.Errorf("%v", err)
			}
			for _, q := range target.Requests() {
				if !c.ok || q.Header.Get("Authorization") != "" {
					t.Errorf("the target got %s with %v", q.Path, q.Header)
				}
			}
		})
	}
}

// One who may ask private addresses must not leave a connection behind that
// one who may not finds.
func TestConnectionsAreNotLentToStrangers(t *testing.T) {
	inside, outside, cdn := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
	f := &far{T: t, dials: map[string]int{}, names: map[string]place{
		"inside.example:80":  {inside.Host(), "10.0.0.2"},
		"outside.example:80": {outside.Host(), "8.8.8.8"},
		"cdn.example:80":     {cdn.Host(), "10.0.0.3"},
	}}
	client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"inside.example": {PlainHTTP: true}, "outside.example": {PlainHTTP: true}}}
	d := cdn.AddBlob("a", []byte("content"))
	for _, up := range []*upstreamtest.Registry{inside, outside} {
		up.Fail(upstreamtest.Fault{Redirect: "http://cdn.example/v2/a/blobs/" + d.String()})
	}
	get := func(host string) error {
		r, err := client.Open(upstream.Source{Rule: "r", Host: host, Repository: "a"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Blob(t.Context(), d, 0, -1)
		if err == nil {
			_, _ = io.Copy(io.Discard, b)
			_ = b.Close()
		}
		return err
	}
	if err := get("inside.example"); err != nil {
		t.Fatal(err)
	}
	wantError(t, get("outside.example"), upstream.Protocol)
	if n := cdn.Count("", "", ""); n != 1 {
		t.Errorf("%d requests reached the private host, want 1", n)
	}
}

func TestDockerHubIsAskedWhereItIs(t *testing.T) {
	hub, tokens := upstreamtest.NewTLSRegistry(t, "registry-1.docker.io"), upstreamtest.NewTLSRegistry(t, "auth.docker.io")
	img := hub.AddImage("library/alpine", "3", nil)
	hub.RequireLoginAt(tokens, users, nil)
	f := &far{T: t, dials: map[string]int{}, names: map[string]place{"registry-1.docker.io:443": {hub.Host(), "8.8.8.8"}, "auth.docker.io:443": {tokens.Host(), "8.8.4.4"}}}
	client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"docker.io": {RootCAs: hub.Roots()}, "auth.docker.io": {RootCAs: tokens.Roots()}}}
	hub.Fail(upstreamtest.Fault{Times: 1, Challenge: `Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull"`})
	r, err := client.Open(upstream.Source{Rule: "r", Host: "docker.io", Repository: "library/alpine"}, alice())
	if err != nil {
		t.Fatal(err)
	}
	if d, err := r.Resolve(t.Context(), "3"); err != nil || d.Digest != img.Digest {
		t.Errorf("%+v, %v", d, err)
	}
	if o := r.(upstream.Originator).Origin(); o != "https://docker.io" {
		t.Errorf("Origin %q", o)
	}
}

func TestAProxyOfTheEmbedder(t *testing.T) {
	s := newSide(t)
	proxy := upstreamtest.NewRegistry(t)
	img := s.up.AddImage("a", "v1", nil)
	proxy.Fail(upstreamtest.Fault{Do: func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Host != "hub.example" {
			t.Errorf("the proxy was asked for %s", req.URL.Host)
		}
		if strings.Contains(req.URL.Path, "/blobs/") {
			w.Header().Set("Location", "http://10.0.0.1/secret")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("Content-Type", img.MediaType)
		_, _ = w.Write(img.Manifest)
	}})
	at, _ := url.Parse(proxy.URL())
	c := &upstream.Client{Proxy: http.ProxyURL(at), Hosts: map[string]upstream.Host{"hub.example": {PlainHTTP: true}}}
	r, err := c.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Manifest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
	_, err = r.Blob(t.Context(), img.Config.Digest, 0, -1)
	wantError(t, err, upstream.Protocol)
}

// A hop that is trusted to lie inside lends its depth to nobody.
func TestAChainIsAsShallowAsItsShallowestHop(t *testing.T) {
	hub, inner, vault := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
	f := &far{T: t, dials: map[string]int{}, names: map[string]place{
		"hub.example:80":   {hub.Host(), "8.8.8.8"},
		"inner.example:80": {inner.Host(), "10.0.0.1"},
		"vault.example:80": {vault.Host(), "10.0.0.2"},
	}}
	d := vault.AddBlob("a", []byte("content"))
	hub.Fail(upstreamtest.Fault{Redirect: "http://inner.example/x"})
	inner.Fail(upstreamtest.Fault{Redirect: "http://vault.example/v2/a/blobs/" + d.String()})
	client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"hub.example": {PlainHTTP: true, Redirects: []string{"inner.example"}}, "inner.example": {PlainHTTP: true}}}
	r, err := client.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Blob(t.Context(), d, 0, -1)
	wantError(t, err, upstream.Protocol)
	if inner.Count("", "", "") != 1 || vault.Count("", "", "") != 0 {
		t.Errorf("%d requests to the named hop, %d to what it named", inner.Count("", "", ""), vault.Count("", "", ""))
	}
}

// Whatever the credential is, and whatever a foreign host asks for, it stays
// at home.
func TestAForeignHostGetsNoCredentialForAsking(t *testing.T) {
	for name, cred := range map[string]auth.Credential{
		"password":      password("alice", "hunter2"),
		"refresh token": {RefreshToken: auth.NewSensitive("hunter2")},
		"access token":  {AccessToken: auth.NewSensitive("hunter2")},
	} {
		for _, challenge := range []string{`Basic realm="x"`, `Bearer realm="%s/token",service="x"`, ``} {
			s := newSide(t)
			foreign := upstreamtest.NewRegistry(t)
			if strings.Contains(challenge, "%s") {
				challenge = fmt.Sprintf(challenge, foreign.URL())
			}
			foreign.Fail(upstreamtest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Www-Authenticate", challenge)
				w.Header().Set("Set-Cookie", "a=b")
				w.WriteHeader(http.StatusUnauthorized)
			}})
			d := s.up.AddBlob("a", []byte("x"))
			s.up.Fail(upstreamtest.Fault{Redirect: foreign.URL() + "/x"})
			k := &renewer{keeper: keeper{cred: cred}, next: cred}
			_, err := s.as("rule", "a", k).Blob(t.Context(), d, 0, -1)
			s.want(err, upstream.Denied)
			if k.asked != 0 {
				t.Errorf("%s: what a foreign host says invalidated the credential", name)
			}
			for _, q := range foreign.Requests() {
				if q.Header.Get("Authorization") != "" || q.Header.Get("Cookie") != "" || strings.Contains(q.Query, "hunter2") || q.Kind == "token" {
					t.Errorf("%s, %q: the foreign host got %s %s with %v", name, challenge, q.Method, q.Path, q.Header)
				}
			}
		}
	}
}

// Redirects names hosts for one host alone, as places to go to and as nothing else;
// an entry names its host for nobody else.
func TestNamedForItsOwnRule(t *testing.T) {
	for name, c := range map[string]struct {
		lists map[string][]string // Redirects of each host
		from  string
		ok    bool
		inner *upstream.Host // entry of the inner host
	}{
		"an entry of its own":         {nil, "hub.example", false, &upstream.Host{PlainHTTP: true}},
		"an entry that lists":         {nil, "hub.example", false, &upstream.Host{PlainHTTP: true, Redirects: []string{"hub.example"}, Realms: []string{"hub.example"}}},
		"an entry, and listed":        {map[string][]string{"hub.example": {"inner.example"}}, "hub.example", true, &upstream.Host{PlainHTTP: true}},
		"for any upstream":            {nil, "evil.example", true, &upstream.Host{PlainHTTP: true, AnyUpstream: true}},
		"listed":                      {map[string][]string{"hub.example": {"inner.example"}}, "hub.example", true, nil},
		"not listed":                  {map[string][]string{"hub.example": {"cdn.example"}}, "hub.example", false, nil},
		"listed by another":           {map[string][]string{"hub.example": {"inner.example"}}, "evil.example", false, nil},
		"listed by one on the way":    {map[string][]string{"evil.example": {"mid.example"}, "mid.example": {"inner.example"}}, "evil.example", false, nil},
		"listed for what is on a way": {map[string][]string{"evil.example": {"mid.example", "inner.example"}}, "evil.example", true, nil},
		"with a port":                 {map[string][]string{"hub.example": {"inner.example:80", "inner.example:443"}}, "hub.example", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			up, mid, inner := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
			f := &far{T: t, dials: map[string]int{}, names: map[string]place{
				"hub.example:80": {up.Host(), "8.8.8.8"}, "evil.example:80": {up.Host(), "8.8.4.4"}, "mid.example:80": {mid.Host(), "8.8.4.5"}, "inner.example:80": {inner.Host(), "10.0.0.7"},
			}}
			client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{}}
			for _, host := range []string{"hub.example", "evil.example"} {
				client.Hosts[host] = upstream.Host{PlainHTTP: true, Redirects: c.lists[host]}
			}
			if c.inner != nil {
				client.Hosts["inner.example"] = *c.inner
			}
			first := inner
			to := "http://inner.example/x"
			if strings.Contains(name, "way") {
				first, to = mid, "http://mid.example/x"
				client.Hosts["mid.example"] = upstream.Host{PlainHTTP: true, Redirects: c.lists["mid.example"]}
				mid.Fail(upstreamtest.Fault{Redirect: "http://inner.example/x"})
			}
			inner.Fail(upstreamtest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) }})
			w := &way{T: t, hub: up}
			r, err := client.Open(upstream.Source{Rule: "r", Host: c.from, Repository: "a"}, alice())
			if err != nil {
				t.Fatal(err)
			}
			w.lead("blob", to)
			err = ask(t, r, "blob")
			if n := len(inner.Requests()); (n == 1) != c.ok || n > 1 {
				t.Errorf("%d requests reached the inner host", n)
			}
			if !c.ok {
				wantError(t, err, upstream.Protocol)
			} else if err != nil {
				t.Error(err)
			}
			for _, q := range first.Requests() {
				if q.Header.Get("Authorization") != "" {
					t.Errorf("%s %s was shown a credential", q.Method, q.Path)
				}
			}
			inner.Reset()
			for _, scheme := range []string{"http", "https"} {
				w.lead("manifest", scheme+"://inner.example/token")
				wantError(t, ask(t, r, "manifest"), upstream.Protocol)
			}
			if n := len(inner.Requests()); n != 0 {
				t.Errorf("%d requests for a token reached a host that is listed under Redirects only", n)
			}
		})
	}
}

// A question that was led away from home comes home as a stranger.
func TestBackHomeWithoutCredential(t *testing.T) {
	for name, cred := range map[string]auth.Credential{
		"password":      password("alice", "hunter2"),
		"refresh token": {RefreshToken: auth.NewSensitive("refresh-hunter2")},
		"access token":  {AccessToken: auth.NewSensitive("access-hunter2")},
	} {
		for _, back := range []string{"/v2/a/blobs/back", "/v2/b/blobs/back?x=1", "/elsewhere"} {
			s := newSide(t)
			foreign := upstreamtest.NewRegistry(t)
			s.up.AddImage("a", "v1", nil)
			if name != "access token" {
				s.up.RequireLogin(map[string]string{"alice": "hunter2", "": ""}, nil)
				s.up.SetRefreshTokens(map[string]string{"refresh-hunter2": "alice"})
			}
			s.who = &keeper{cred: cred}
			if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
				t.Fatal(err)
			}
			secrets := []string{"hunter2", "Basic "}
			for _, q := range s.up.Requests() {
				if token, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer "); ok {
					secrets = append(secrets, token) // the rule's own
				}
			}
			if len(secrets) == 2 {
				t.Fatalf("%s: the registry was shown no token", name)
			}
			s.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: digest.FromString("x").String(), Redirect: foreign.URL() + "/x"})
			foreign.Fail(upstreamtest.Fault{Redirect: s.up.URL() + back})
			s.up.Reset()
			_ = ask(t, s.repo("a"), "blob") // whatever comes of it
			home := 0
			for _, q := range append(s.up.Requests(), foreign.Requests()...) {
				shown := q.Header.Get("Authorization")
				if q.Reference == digest.FromString("x").String() && q.Path != "/x" {
					continue // the question that began at home
				}
				home++
				for _, secret := range secrets {
					if strings.Contains(shown+q.Query, secret) || q.Header.Get("Cookie") != "" {
						t.Errorf("%s, %s: %s %s got %q", name, back, q.Method, q.Path, shown)
					}
				}
			}
			if home < 2 {
				t.Errorf("%s, %s: %d requests on the way home", name, back, home)
			}
		}
	}
}
