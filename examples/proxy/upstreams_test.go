package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestFailuresNameKeys: errors name the key that is missing in upstreams as the file has it,
// and adding it helps.
func TestFailuresNameKeys(t *testing.T) {
	plain, secure := upstreamtest.NewRegistry(t), upstreamtest.NewTLSRegistry(t, "127.0.0.1")
	guarded, issuer := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
	guarded.RequireLoginAt(issuer, map[string]string{"alice": "secret"}, nil)
	for _, test := range []struct {
		key            string
		up             *upstreamtest.Registry
		without, with  string // keys of the upstream
		more, ruleMore string
	}{
		{"plainHTTP", plain, "", "plainHTTP: true", "", ""},
		{"ca", secure, "", fmt.Sprintf("ca: %q", certificateOf(t, secure)), "", ""},
		{"realms", guarded, "plainHTTP: true", fmt.Sprintf("plainHTTP: true, realms: [%q]", issuer.Host()),
			fmt.Sprintf("  - {host: %q, plainHTTP: true}\ncredentials:\n  - {name: alice, loginServer: %q, username: {value: alice}, password: {value: secret}}\n", issuer.Host(), guarded.Host()),
			", credentials: alice"},
	} {
		t.Run(test.key, func(t *testing.T) {
			test.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
			try := func(keys string) (int, string) {
				p := startProxy(t, fmt.Sprintf("listen: 127.0.0.1:0\nupstreams:\n  - {host: %q, %s}\n", test.up.Host(), keys)+test.more+
					fmt.Sprintf("rules: [{name: local, source: %q, target: local/*%s}]\n", test.up.Host()+"/*", test.ruleMore))
				status, body := fetch(t, client(), p.url+"/v2/local/team/app/manifests/v1")
				p.signal(t)
				p.wantExit(t, exitOK)
				return status, string(body) + p.log.String()
			}
			if status, said := try(test.without); status == 200 || !regexp.MustCompile(`\b`+test.key+`\b`).MatchString(said) {
				t.Errorf("status %d, said:\n%s\nwant the key %s in it", status, said, test.key)
			}
			if status, said := try(test.with); status != 200 {
				t.Errorf("status %d with %s, said:\n%s", status, test.with, said)
			}
		})
	}
}

// TestHostsAreRead: the client gets the settings of a host from the file, in canonical form.
func TestHostsAreRead(t *testing.T) {
	t.Chdir(t.TempDir())
	s := built(t, "upstreams:\n  - {host: Registry.example.com, realms: [Token.example.com, \"t.example:8443\"], redirects: [CDN.example.com:443, \"10.0.0.9:8080\"]}\n"+
		"  - {host: \"10.0.0.9:8080\", plainHTTP: true, anyUpstream: true}\n  - {host: other.example, anyUpstream: false}\n")
	want := map[string]upstream.Host{
		"registry.example.com": {Realms: []string{"token.example.com", "t.example:8443"}, Redirects: []string{"cdn.example.com", "10.0.0.9:8080"}},
		"10.0.0.9:8080":        {PlainHTTP: true, AnyUpstream: true},
		"other.example":        {},
	}
	if got := s.client.Hosts; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestHostMistakes: hosts that are not valid are refused, each at its line.
func TestHostMistakes(t *testing.T) {
	for _, test := range []struct{ name, keys, want string }{
		{"path of a realm", "realms: [token.example.com/v2]", "3: upstreams[0].realms[0]: "},
		{"path of a redirect", "redirects: [cdn.example.com, cdn.example.com/x]", "3: upstreams[0].redirects[1]: "},
		{"scheme of a redirect", "redirects: ['https://cdn.example.com']", "3: upstreams[0].redirects[0]: "},
		{"wildcard of a redirect", "redirects: ['*.example.com']", "3: upstreams[0].redirects[0]: "},
		{"empty redirect", "redirects: ['']", "3: upstreams[0].redirects[0]: is empty"},
		{"one redirect", "redirects: cdn.example.com", "3: upstreams[0].redirects: wants a list, not a single value"},
		{"any upstream", "anyUpstream: cdn.example.com", "3: upstreams[0].anyUpstream: wants true or false"},
		{"misspelt", "redirect: [cdn.example.com]", "3: upstreams[0].redirect: unknown key; did you mean redirects?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantMistake(t, "upstreams:\n  - host: a.example.com\n    "+test.keys+"\n", test.want)
		})
	}
}

// certificateOf writes the certificate of a registry to a file.
func certificateOf(t *testing.T, up *upstreamtest.Registry) string {
	t.Helper()
	conn, err := tls.Dial("tcp", up.Host(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
