package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestMirrorMistakes has a row for each mistake of mirrors.
func TestMirrorMistakes(t *testing.T) {
	mirrors := func(list string) string { return "upstreams:\n  - host: a.example\n    mirrors: " + list + "\n" }
	for _, test := range []struct{ name, file, want string }{
		{"scheme", mirrors("['https://m.example']"), `3: upstreams[0].mirrors[0]: "https://m.example" is neither HOST nor HOST/PREFIX`},
		{"prefix", mirrors("[m.example/Hub]"), `3: upstreams[0].mirrors[0]: "m.example/Hub" is neither`},
		{"empty prefix", mirrors("[m.example/]"), `3: upstreams[0].mirrors[0]: "m.example/" is neither`},
		{"empty", mirrors("['']"), "3: upstreams[0].mirrors[0]: is empty"},
		{"one", mirrors("m.example"), "3: upstreams[0].mirrors: wants a list, not a single value"},
		{"without a host", mirrors("[{tags: true}]"), "3: upstreams[0].mirrors[0]: host is missing"},
		{"tags", mirrors("[{host: m.example, tags: some}]"), "3: upstreams[0].mirrors[0].tags: wants true or false"},
		{"itself", mirrors("[A.example:443]"), "3: upstreams[0].mirrors[0]: is the host itself"},
		{"twice", mirrors("\n    - m.example/hub\n    - host: M.example/hub"), "5: upstreams[0].mirrors[1].host: is given in line 4 already"},
		{"many", mirrors("[m1.example, m2.example, m3.example, m4.example, m5.example]"), "3: upstreams[0].mirrors[4]: is one mirror too many: 4 are allowed"},
		{"credentials", mirrors("[{host: m.example, credentials: hub}]"), `3: upstreams[0].mirrors[0].credentials: no credentials are called "hub"`},
		{"credentials of another host", mirrors("[{host: m.example/hub, credentials: hub}]") + secrets("{value: a}"), "3: upstreams[0].mirrors[0].credentials: are for docker.io, and not for m.example"},
		{"misspelt", mirrors("[{host: m.example, credential: hub}]"), "3: upstreams[0].mirrors[0].credential: unknown key; did you mean credentials?"},
	} {
		t.Run(test.name, func(t *testing.T) { wantMistake(t, test.file, test.want) })
	}
}

// TestMirrors: an image whose tag the host has comes from a mirror below a prefix, which sees
// its own credential and not that of the rule. A reload takes the mirror away, and changes the
// credential.
func TestMirrors(t *testing.T) {
	home, copied := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
	home.RequireBasic(map[string]string{"alice": "secret-of-alice"})
	copied.RequireBasic(map[string]string{"cache": "secret-of-mirror"})
	var images []upstreamtest.Image
	for i := range 4 {
		img := home.AddImage("team/app", fmt.Sprint("v", i), upstreamtest.Layers(1, 1000+i))
		copied.AddImage("example/team/app", fmt.Sprint("v", i), upstreamtest.Layers(1, 1000+i))
		images = append(images, img)
	}
	config := func(mirrors, password string) string {
		return fmt.Sprintf("listen: 127.0.0.1:0\nupstreams:\n  - {host: %q, plainHTTP: true%s}\n  - {host: %q, plainHTTP: true}\n"+
			"rules:\n  - {name: local, source: %q, target: local/*, credentials: alice}\ncredentials:\n"+
			"  - {name: alice, loginServer: %q, username: {value: alice}, password: {value: secret-of-alice}}\n"+
			"  - {name: mirror, loginServer: %q, username: {value: cache}, password: {value: %s}}\n",
			home.Host(), mirrors, copied.Host(), home.Host()+"/*", home.Host(), copied.Host(), password)
	}
	mirrored := fmt.Sprintf(", mirrors: [{host: %q, credentials: mirror}]", copied.Host()+"/example")
	p := startProxy(t, config(mirrored, "secret-of-mirror"))
	pull := func(what string, i int, fromMirror bool) {
		t.Helper()
		repository := p.url + "/v2/local/team/app"
		if status, body := fetch(t, client(), repository+fmt.Sprint("/manifests/v", i)); status != 200 {
			t.Errorf("%s: status %d: %s", what, status, body)
		}
		layer := images[i].Layers[0].Digest
		if status, body := fetch(t, client(), repository+"/blobs/"+layer.String()); status != 200 || int64(len(body)) != images[i].Layers[0].Size {
			t.Errorf("%s: status %d, %d bytes", what, status, len(body))
		}
		if got := copied.BlobBytes(layer) > 0; got != fromMirror {
			t.Errorf("%s: it comes from the mirror: %v, want %v", what, got, fromMirror)
		}
		if got := home.BlobBytes(layer) > 0; got == fromMirror {
			t.Errorf("%s: it comes from the host: %v, want %v", what, got, !fromMirror)
		}
	}
	pull("with a mirror", 0, true)
	p.reload(t, config("", "secret-of-mirror"), reloaded)
	pull("without one", 1, false)
	p.reload(t, config(mirrored, "wrong"), reloaded)
	pull("with a wrong credential", 2, false)
	p.reload(t, config(mirrored, "secret-of-mirror"), reloaded)
	pull("with the right one again", 3, true)
	for _, q := range copied.Requests() {
		if user, password, ok := basic(q); ok && (user == "alice" || strings.Contains(password, "alice")) {
			t.Error("the mirror saw the credential of the rule")
		}
	}
	if log := p.log.String(); strings.Contains(log, "secret-of") {
		t.Error("a password was told")
	}
	p.signal(t)
	p.wantExit(t, exitOK)
}

// basic returns the credential of a request.
func basic(q upstreamtest.Request) (user, password string, ok bool) {
	return (&http.Request{Header: q.Header}).BasicAuth()
}
