package upstream_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

var everybody = map[string]string{"": ""}

// A rule without a credential has nothing to lose at a token server that nobody
// listed; one with a credential does not go there.
func TestAnonymousRealms(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, up, issuer *upstreamtest.Registry) *upstream.Client{
		"plain and named": func(_ *testing.T, up, issuer *upstreamtest.Registry) *upstream.Client { return up.Client(issuer) },
		"listed": func(_ *testing.T, up, issuer *upstreamtest.Registry) *upstream.Client {
			c := up.Client(issuer)
			h := c.Hosts[up.Host()]
			h.Realms = []string{issuer.Host()}
			c.Hosts[up.Host()] = h
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			up, issuer := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
			img := up.AddImage("a", "v1", upstreamtest.Layers(1, 100))
			client := open(t, up, issuer)
			up.RequireLoginAt(issuer, everybody, nil)
			r, err := client.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "a"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if desc, _, err := r.Manifest(t.Context(), "v1"); err != nil || desc.Digest != img.Digest {
					t.Errorf("anonymous: %v", err)
				}
			}
			if n := issuer.Count("", "token", ""); n != 1 {
				t.Errorf("%d tokens, want one", n)
			}
			for _, q := range issuer.Requests() {
				if q.Header.Get("Authorization") != "" {
					t.Errorf("the token server was shown %q", q.Header["Authorization"])
				}
			}
			issuer.Reset()
			r, err = client.Open(upstream.Source{Rule: "s", Host: up.Host(), Repository: "a"}, alice())
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = r.Manifest(t.Context(), "v1")
			if name == "listed" {
				wantError(t, err, upstream.Denied)
				return
			}
			if e := wantError(t, err, upstream.Protocol); !strings.Contains(e.Reason, "realms") || strings.Contains(e.Reason, issuer.Host()) {
				t.Errorf("the reason %q should name realms, and nothing that the upstream wrote", e.Reason)
			}
			if n := len(issuer.Requests()); n != 0 {
				t.Errorf("%d requests with a credential to a token server that is not listed", n)
			}
		})
	}
}

// The rules for addresses hold for anonymous tokens too.
func TestAnonymousRealmsDeeperInside(t *testing.T) {
	for _, realm := range []string{"https://169.254.169.254/token", "http://inner.example/token", "https://localhost/token", "https://user:password@hub.example/token", "ftp://hub.example/token"} {
		hub, inner := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
		f := &far{T: t, dials: map[string]int{}, names: map[string]place{
			"hub.example:80": {hub.Host(), "8.8.8.8"}, "inner.example:80": {inner.Host(), "10.0.0.1"},
		}}
		hub.AddImage("a", "v1", nil)
		hub.Fail(upstreamtest.Fault{Challenge: fmt.Sprintf(`Bearer realm=%q,service="x"`, realm)})
		client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"hub.example": {PlainHTTP: true}}}
		r, err := client.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = r.Manifest(t.Context(), "v1")
		wantError(t, err, upstream.Protocol)
		if n := len(inner.Requests()); n != 0 {
			t.Errorf("%s: %d requests inside", realm, n)
		}
	}
}

// mirrors is a registry that redirects everything to a second one with a token
// server of its own, and perhaps that to a third.
type mirrors struct {
	*side
	second, third *upstreamtest.Registry
	issuer        *upstreamtest.Registry // of the second
	img           upstreamtest.Image
}

func newMirrors(t *testing.T) *mirrors {
	m := &mirrors{side: newSide(t), second: upstreamtest.NewRegistry(t), third: upstreamtest.NewRegistry(t), issuer: upstreamtest.NewRegistry(t)}
	m.img = m.second.AddImage("org/a", "v1", upstreamtest.Layers(1, 1000))
	m.second.RequireLoginAt(m.issuer, everybody, nil)
	m.up.Fail(upstreamtest.Fault{Do: func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, m.second.URL()+strings.Replace(r.URL.Path, "/v2/a/", "/v2/org/a/", 1), http.StatusTemporaryRedirect)
	}})
	m.client = m.up.Client(m.second, m.third, m.issuer)
	return m
}

// all returns every request that left the client but those to the first registry.
func (m *mirrors) all() (list []upstreamtest.Request) {
	for _, r := range []*upstreamtest.Registry{m.second, m.third, m.issuer} {
		list = append(list, r.Requests()...)
	}
	return list
}

// A redirect into another registry that asks for a token of its own gets an
// anonymous one, and never sees what the rule has.
func TestRedirectIntoAnotherRegistry(t *testing.T) {
	for name, who := range map[string]auth.Authenticator{
		"anonymous": nil, "password": alice(),
		"refresh token": &keeper{cred: auth.Credential{RefreshToken: auth.NewSensitive("hunter2")}},
		"access token":  &keeper{cred: auth.Credential{AccessToken: auth.NewSensitive("hunter2")}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirrors(t)
			m.who = who
			for range 2 {
				if desc, _, err := m.repo("a").Manifest(t.Context(), "v1"); err != nil || desc.Digest != m.img.Digest {
					t.Fatalf("manifest: %v", err)
				}
			}
			if desc, err := m.repo("a").Resolve(t.Context(), "v1"); err != nil || desc.Digest != m.img.Digest {
				t.Errorf("HEAD: %v", err)
			}
			if got := m.read(m.repo("a").Blob(t.Context(), m.img.Layers[0].Digest, 0, -1)); len(got) != 1000 {
				t.Errorf("%d bytes of the blob", len(got))
			}
			if n := m.issuer.Count("", "token", ""); n != 1 {
				t.Errorf("%d tokens were asked for, want one", n)
			}
			for _, q := range m.all() {
				shown := q.Header.Get("Authorization")
				if strings.Contains(fmt.Sprint(q.Header, q.Query), "hunter2") || strings.HasPrefix(shown, "Basic") || q.Header.Get("Cookie") != "" {
					t.Errorf("%s %s got %q of the rule's", q.Method, q.Path, shown)
				}
				if q.Kind == "token" && shown != "" {
					t.Errorf("the second token server was shown %q", shown)
				}
				if asked, err := url.ParseQuery(q.Query); q.Kind == "token" && (err != nil || len(asked["scope"]) != 1) {
					t.Errorf("the second token server was asked %q, %v: its own scope is enough", q.Query, err)
				}
			}
		})
	}
}

// The token that the second registry gave is for the second alone: neither the
// third, to which that leads, nor the first gets it, nor does another rule share
// it.
func TestAnonymousTokensStayWhereTheyAre(t *testing.T) {
	m := newMirrors(t)
	m.who = alice()
	layer := m.img.Layers[0].Digest
	m.third.AddBlob("x", m.second.Blob("org/a", layer))
	if _, _, err := m.repo("a").Manifest(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	m.second.Fail(upstreamtest.Fault{Kind: "blob", Redirect: m.third.URL() + "/v2/x/blobs/" + layer.String()})
	if got := m.read(m.repo("a").Blob(t.Context(), layer, 0, -1)); len(got) != 1000 {
		t.Errorf("%d bytes", len(got))
	}
	token := ""
	for _, q := range m.second.Requests() {
		if text, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer "); ok {
			token = text
		}
	}
	if token == "" {
		t.Fatal("the second registry was shown no token")
	}
	for _, q := range append(m.third.Requests(), m.up.Requests()...) {
		if strings.Contains(fmt.Sprint(q.Header, q.Query), token) {
			t.Errorf("%s %s got the token of the second registry", q.Method, q.Path)
		}
	}
	m.second.Heal()
	if _, _, err := m.as("another", "a", nil).Manifest(t.Context(), "v1"); err != nil {
		t.Error(err)
	}
	if n := m.issuer.Count("", "token", ""); n != 2 {
		t.Errorf("%d tokens, want one for each rule", n)
	}
}

// What a registry says to which a redirect led, or its token server, is no word
// about the rule's credential.
func TestRefusedElsewhere(t *testing.T) {
	m := newMirrors(t)
	m.issuer.Fail(upstreamtest.Fault{Kind: "token", Status: http.StatusUnauthorized})
	k := &renewer{keeper: keeper{cred: password("alice", "hunter2")}, next: password("alice", "other")}
	m.who = k
	_, _, err := m.repo("a").Manifest(t.Context(), "v1")
	m.want(err, upstream.Denied)
	if k.asked != 0 {
		t.Error("a foreign token server invalidated the credential")
	}
}

// A registry behind a proxy that ends TLS writes its own address as http.
func TestRedirectToItselfOverHTTP(t *testing.T) {
	up := upstreamtest.NewTLSRegistry(t)
	d := up.AddBlob("a", []byte("content"))
	client := up.Client()
	r, err := client.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "a"}, alice())
	if err != nil {
		t.Fatal(err)
	}
	up.Fail(upstreamtest.Fault{Kind: "blob", Times: 1, Redirect: "http://" + up.Host() + "/v2/a/blobs/" + d.String()})
	b, err := r.Blob(t.Context(), d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	for _, other := range []string{"http://127.0.0.1:1/x", "http://elsewhere.example/x", "http://" + strings.Replace(up.Host(), "127.0.0.1", "localhost", 1) + "/x"} {
		up.Fail(upstreamtest.Fault{Kind: "blob", Times: 1, Redirect: other})
		_, err = r.Blob(t.Context(), d, 0, -1)
		wantError(t, err, upstream.Protocol)
	}
	up.Fail(upstreamtest.Fault{Kind: "blob", Times: 1, Redirect: "http://elsewhere.example/x"})
	_, err = r.Blob(t.Context(), d, 0, -1)
	if e := wantError(t, err, upstream.Protocol); !strings.Contains(e.Reason, "https address") {
		t.Errorf("the reason %q does not say what to set", e.Reason)
	}
}
