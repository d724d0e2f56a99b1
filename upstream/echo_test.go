package upstream_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// echo makes an upstream write text in some place of its answer, each of which has
// come to stand in an error.
var echo = map[string]func(w *way, text string) (kind string){
	"Content-Type": func(w *way, text string) string { return w.manifest("text/"+text, `{}`) },
	"mediaType": func(w *way, text string) string {
		return w.manifest("application/json", mediaType("text/"+text))
	},
	"two types": func(w *way, text string) string {
		return w.manifest("application/vnd.x."+text, mediaType("application/vnd.y."+text))
	},
	"unknown type": func(w *way, text string) string { return w.manifest("application/vnd."+text, `{}`) },
	"digest": func(w *way, text string) string {
		return w.manifest("application/json", `{}`, "Docker-Content-Digest", "sha256:"+text+strings.Repeat("0", max(0, 64-len(text))))
	},
	"realm":    func(w *way, text string) string { return w.lead("manifest", "https://"+text+".example/token") },
	"Location": func(w *way, text string) string { return w.lead("blob", "http://"+text+".example/x") },
	"deeper":   func(w *way, text string) string { return w.lead("blob", "http://"+text+".localhost/x") },
	"code": func(w *way, text string) string {
		w.refuse("manifest", http.StatusForbidden, text)
		return "manifest"
	},
	"code of a token server": func(w *way, text string) string {
		w.lead("manifest", "http://hub.example/token")
		w.refuse("token", http.StatusUnauthorized, text)
		return "manifest"
	},
}

// mediaType is a manifest that says nothing but its type.
func mediaType(t string) string {
	body, _ := json.Marshal(map[string]string{"mediaType": t})
	return string(body)
}

// manifest makes the hub answer with a manifest of that type.
func (w *way) manifest(contentType, body string, header ...string) string {
	w.hub.Heal()
	w.hub.Fail(upstreamtest.Fault{Kind: "manifest", Do: func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", contentType)
		for i := 0; i+1 < len(header); i += 2 {
			rw.Header().Set(header[i], header[i+1])
		}
		_, _ = io.WriteString(rw, body)
	}})
	return "manifest"
}

// refuse makes the hub refuse with a code.
func (w *way) refuse(kind string, status int, code string) {
	w.hub.Fail(upstreamtest.Fault{Kind: kind, Do: func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(map[string]any{"errors": []any{map[string]string{"code": code}}})
	}})
}

// told returns what is said of an error, to whom ever.
func told(t *testing.T, err error) string {
	t.Helper()
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		t.Fatalf("%T %v is no *upstream.Error", err, err)
	}
	return fmt.Sprintf("%v %+v %s %s", err, err, e.Code, e.Reason)
}

// What a rule showed does not come back in an error, wherever an upstream writes it.
func TestEchoesOfCredentials(t *testing.T) {
	for _, secret := range []string{
		"31415926535897932384626433832795", // may stand in a code, a digest and a host
		"HUNTER2_QUITE_A_LONG_SECRET",      // comes back in lower case
		"p+s/w=d with {odd} characters",
	} {
		basic := base64.StdEncoding.EncodeToString([]byte("alice:" + secret))
		for name, cred := range map[string]auth.Credential{
			"password": password("alice", secret), "refresh token": {RefreshToken: auth.NewSensitive(secret)}, "access token": {AccessToken: auth.NewSensitive(secret)},
		} {
			texts := []string{secret, "x" + secret + "x", strings.Repeat("9", 80) + secret, url.QueryEscape(secret), url.PathEscape(secret), strings.ToLower(secret)}
			if name == "password" {
				texts = append(texts, basic)
			}
			for place, write := range echo {
				for _, text := range texts {
					w, client := ways(t)["Dial"]()
					r, err := client.Open(upstream.Source{Rule: "r", Host: w.host, Repository: "a"}, &keeper{cred: cred})
					if err != nil {
						t.Fatal(err)
					}
					said := strings.ToLower(told(t, ask(t, r, write(w, text))))
					for _, s := range []string{secret[:10], url.QueryEscape(secret)[:10], url.PathEscape(secret)[:10], basic[:10], basic[20:]} {
						if strings.Contains(said, strings.ToLower(s)) {
							t.Errorf("%s, %s: %q in %s", name, place, s, said)
						}
					}
				}
			}
		}
	}
	// A token that was earned is as good as a password.
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(users, nil)
	s.who = alice()
	s.up.Fail(upstreamtest.Fault{Kind: "manifest", Method: http.MethodGet, Do: func(w http.ResponseWriter, req *http.Request) {
		if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
			w.Header().Set("Content-Type", "text/"+token)
			_, _ = io.WriteString(w, `{}`)
			return
		}
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="x",scope="repository:a:pull"`, s.up.URL()))
		w.WriteHeader(http.StatusUnauthorized)
	}})
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Protocol); !strings.Contains(err.Error(), "left out") {
		t.Errorf("%v, %q", err, e.Reason)
	}
}

// The names of hosts, of token servers and of those in a certificate are texts of an
// upstream too.
func TestEchoesInNames(t *testing.T) {
	const secret = "quite-a-long-secret"
	hub, mirror, cdn := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t), upstreamtest.NewTLSRegistry(t, secret+".example")
	mirror.Fail(upstreamtest.Fault{Challenge: `Bearer realm="http://` + secret + `.example/token"`})
	mirror.Fail(upstreamtest.Fault{Kind: "token", Status: http.StatusForbidden})
	f := &far{T: t, dials: map[string]int{}, names: map[string]place{
		"hub.example:80": {hub.Host(), "8.8.8.8"}, "mirror.example:80": {mirror.Host(), "8.8.4.4"}, secret + ".example:80": {mirror.Host(), "8.8.4.4"}, "cdn.example:443": {cdn.Host(), "8.8.4.5"},
	}}
	plain := upstream.Host{PlainHTTP: true}
	client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"hub.example": plain, secret + ".example": plain, "cdn.example": {RootCAs: cdn.Roots()}}}
	r, err := client.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, &keeper{cred: password("alice", secret)})
	if err != nil {
		t.Fatal(err)
	}
	for to, class := range map[string]upstream.Class{
		"https://cdn.example/x": upstream.Unreachable, "http://mirror.example/v2/a/blobs/x": upstream.Denied, "http://" + secret + ".example/v2/a/blobs/x": upstream.Denied,
		"http://" + secret + ".localhost/x": upstream.Protocol,
	} {
		hub.Heal()
		hub.Fail(upstreamtest.Fault{Kind: "blob", Redirect: to})
		err := ask(t, r, "blob")
		wantError(t, err, class)
		if said := told(t, err); strings.Contains(said, secret) {
			t.Errorf("%s: %s", to, said)
		}
	}
}

// What an upstream writes is shown in part, and so that it can be seen.
func TestForeignTextsAreShort(t *testing.T) {
	for place, write := range echo {
		for _, text := range []string{
			strings.Repeat("x", 10<<10), strings.Repeat("x", 60) + "." + strings.Repeat("x.", 90) + "x", "x\x1b[31m\x07x\u202e\u0085" + strings.Repeat("\U0001F980", 500), strings.Repeat("\x00", 1000),
			strings.Repeat("X", 1000),
		} {
			w, client := ways(t)["Dial"]()
			r, err := client.Open(upstream.Source{Rule: "r", Host: w.host, Repository: "a"}, alice())
			if err != nil {
				t.Fatal(err)
			}
			said := told(t, ask(t, r, write(w, text)))
			if len(said) > 4<<10 || strings.Contains(strings.ToLower(said), strings.Repeat("x", 101)) || strings.Contains(said, strings.Repeat("x.", 51)) {
				t.Errorf("%s: %d bytes: %s", place, len(said), said)
			}
			if i := strings.IndexFunc(said, func(c rune) bool { return !unicode.IsPrint(c) }); i >= 0 {
				t.Errorf("%s: %q", place, said)
			}
		}
	}
	w, client := ways(t)["Dial"]()
	r, err := client.Open(upstream.Source{Rule: "r", Host: w.host, Repository: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{strings.Repeat("x", 1<<20), "sha256:" + strings.Repeat("\x00", 1<<20), "\n" + strings.Repeat("v", 200)} {
		if _, _, err := r.Manifest(t.Context(), reference); err == nil || len(err.Error()) > 1<<10 || strings.Contains(err.Error(), "\n") {
			t.Errorf("a reference of %d bytes: %.200v", len(reference), err)
		}
	}
}

// A certificate is written by the host that shows it: what an error quotes of it is
// short, and a secret that the end of what is shown cuts in two is found.
func TestCertificatesAreQuotedShort(t *testing.T) {
	const secret = "quite-a-long-secret"
	var many []string
	for i := range 90 {
		many = append(many, fmt.Sprintf("%s%02d.example", strings.Repeat("x", 60), i))
	}
	for name, names := range map[string][]string{"many": many, "a secret across the end": {strings.Repeat("9", 50) + "." + secret + ".example"}} {
		hub, cdn := upstreamtest.NewRegistry(t), upstreamtest.NewTLSRegistry(t, names...)
		f := &far{T: t, dials: map[string]int{}, names: map[string]place{"hub.example:80": {hub.Host(), "8.8.8.8"}, "cdn.example:443": {cdn.Host(), "8.8.4.4"}}}
		client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"hub.example": {PlainHTTP: true}, "cdn.example": {RootCAs: cdn.Roots()}}}
		r, err := client.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, &keeper{cred: password("alice", secret)})
		if err != nil {
			t.Fatal(err)
		}
		hub.Fail(upstreamtest.Fault{Kind: "blob", Redirect: "https://cdn.example/x"})
		err = ask(t, r, "blob")
		wantError(t, err, upstream.Unreachable)
		if said := told(t, err); len(said) > 1<<10 || strings.Contains(said, secret[:4]) {
			t.Errorf("%s: %d bytes: %s", name, len(said), said)
		}
	}
}

// The host of a token server is named by an upstream, and shown as short as the rest.
func TestTokenServersAreNamedShort(t *testing.T) {
	long := strings.Repeat("x.", 100) + "example"
	hub, issuer := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
	hub.Fail(upstreamtest.Fault{Challenge: `Bearer realm="http://` + long + `/token",service="x"`})
	issuer.Fail(upstreamtest.Fault{Kind: "token", Status: http.StatusForbidden})
	f := &far{T: t, dials: map[string]int{}, names: map[string]place{"hub.example:80": {hub.Host(), "8.8.8.8"}, long + ":80": {issuer.Host(), "8.8.4.4"}}}
	plain := upstream.Host{PlainHTTP: true}
	client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"hub.example": plain, long: plain}}
	r, err := client.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = ask(t, r, "manifest")
	wantError(t, err, upstream.Denied)
	if said := told(t, err); !strings.Contains(said, "token server") || strings.Contains(said, strings.Repeat("x.", 51)) {
		t.Errorf("%d bytes: %s", len(said), said)
	}
}
