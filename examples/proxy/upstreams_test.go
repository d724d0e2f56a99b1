package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestFailuresNameKeys: what is missing in upstreams is called as in the file,
// and what is said helps.
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
