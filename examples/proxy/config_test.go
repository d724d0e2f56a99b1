package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
)

// TestMistakes has one row for each mistake that a file can have; those of Azure are in
// [TestAzureMistakes], those of webhooks in [TestWebhookMistakes]. The wanted text is
// "LINE: KEY: " and a part of the message.
func TestMistakes(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"unknown key", "listen: 127.0.0.1:0\nlisten2: x\n", "2: listen2: unknown key; did you mean listen?"},
		{"unknown key of a rule", rules("    freshnes: 1s\n"), "5: rules[0].freshnes: unknown key"},
		{"unknown key of a secret", secrets("{valu: x}"), "4: credentials[0].username.valu: unknown key"},
		{"twice", "store: mem\nstore: mem\n", "2: store: is given twice, first in line 1"},
		{"not YAML", "listen: 127.0.0.1:0\n  rules: [\n", "2: not YAML"},
		{"not YAML in the first line", "store: mem:\n", "1: not YAML"},
		{"alias of nothing", "listen: *a\n", "not YAML: unknown anchor"},
		{"not a mapping", "- a\n", "1: wants keys with values, not a list"},
		{"two documents", "store: mem\n---\nstore: mem\n", "a second document"},
		{"address", "listen: localhost\n", `1: listen: "localhost" is not an address`},
		{"port", "admin: 127.0.0.1:70000\n", `1: admin: "70000" is not a port`},
		{"empty", "listen:\n", "1: listen: is empty"},
		{"not a text", "listen: [a]\n", "1: listen: wants a text, not a list"},
		{"store", "store: disk:/x\n", `1: store: "disk:/x" is neither dir:PATH nor mem`},
		{"store without path", "store: 'dir:'\n", `1: store: "dir:" is neither`},
		{"a bucket as a store", "store: s3:bucket\n", `1: store: "s3:bucket" is not a store: a bucket stands behind one, as far: {s3: {...}}`},
		{"freshness", "freshness: 10\n", `1: freshness: "10" is not a duration`},
		{"drain", "drain: long\n", `1: drain: "long" is not a duration`},
		{"negative drain", "drain: -1s\n", "1: drain: must not be negative"},
		{"nested", "nested: maybe\n", "1: nested: wants true or false"},
		{"nested rules", "rules:\n  - {name: first, source: quay.io/*, target: q/*}\n  - {name: second, source: ghcr.io/*, target: '*'}\n", "3: rules[1].target: There is already a cache rule 'first' with target repository 'q/*', which conflicts with target repository '*'. Targets with wildcards must not include one another, unless nested targets are allowed (nested: true)."},
		{"scheme of the public host", "listen: 127.0.0.1:0\npublicHost: https://cache.example.com\n", `2: publicHost: "https://cache.example.com" is neither HOST nor HOST:PORT`},
		{"path of the public host", "publicHost: cache.example.com/hub\n", `1: publicHost: "cache.example.com/hub" is neither HOST nor HOST:PORT`},
		{"port of the public host", "publicHost: cache.example.com:70000\n", `1: publicHost: "cache.example.com:70000" is neither`},
		{"public host without a name", "publicHost: ':5000'\n", `1: publicHost: ":5000" is neither`},
		{"empty public host", "publicHost:\n", "1: publicHost: is empty"},
		{"public hosts", "publicHost: [a.example, b.example]\n", "1: publicHost: wants a text, not a list"},
		{"negative", "freshness: -1s\n", "1: freshness: must not be negative"},
		{"freshness of a rule", rules("    freshness: soon\n"), `5: rules[0].freshness: "soon" is not a duration`},
		{"staleness of a rule", rules("    maxStale: 1 day\n"), `5: rules[0].maxStale: "1 day" is not a duration`},
		{"flag", rules("    requireAccess: maybe\n"), "5: rules[0].requireAccess: wants true or false"},
		{"platforms", rules("    platforms: amd64\n"), `5: rules[0].platforms: Cache rule with platforms: "amd64" is neither "all", "pulled" nor OS/ARCHITECTURE[/VARIANT]. (InvalidPlatforms)`},
		{"one of several platforms", rules("    platforms:\n      - linux/amd64\n      - linux/ARM\n"), `7: rules[0].platforms[1]: Cache rule with platforms: "linux/ARM" is neither`},
		{"all platforms and one", rules("    platforms:\n      - linux/amd64\n      - all\n"), `5: rules[0].platforms: Cache rule with platforms: "all" stands alone`},
		{"no platform", rules("    platforms: []\n"), "5: rules[0].platforms: is empty"},
		{"empty platforms", rules("    platforms:\n"), "5: rules[0].platforms: is empty"},
		{"empty platform", rules("    platforms: ['']\n"), "5: rules[0].platforms[0]: is empty"},
		{"platforms with keys", rules("    platforms: {linux: amd64}\n"), "5: rules[0].platforms: wants a list, not keys with values"},
		{"referrers", rules("    referrers: some\n"), "5: rules[0].referrers: wants true or false"},
		{"not a list", "rules: {name: x}\n", "1: rules: wants a list, not keys with values"},
		{"rule without target", "rules:\n  - name: docker-hub\n    source: docker.io/*\n", "2: rules[0]: target is missing"},
		{"rule's fault", "rules:\n  - {name: good-one, source: quay.io/*, target: q/*}\n  - {name: bad-one, source: docker.io/*, target: hub}\n", "3: rules[1]."},
		{"overlap", "rules:\n  - {name: first, source: quay.io/*, target: q/*}\n  - {name: second, source: docker.io/*, target: q/*}\n", "3: rules[1]."},
		{"unknown credentials", rules("    credentials: hub\n"), `5: rules[0].credentials: no credentials are called "hub"`},
		{"another login server", rules("    credentials: hub\n") + secretsFor("quay.io", "{value: a}"), "5: rules[0].credentials: "},
		{"credentials twice", secrets("{value: a}") + "  - {name: hub, loginServer: docker.io, username: {value: a}, password: {value: b}}\n", `6: credentials[1].name: "hub" is the name of the credentials in line 2 too`},
		{"no password", "credentials:\n  - {name: hub, loginServer: docker.io, username: {value: a}}\n", "2: credentials[0]: password is missing"},
		{"two sources of a secret", secrets("{value: a, env: B}"), "4: credentials[0].username: wants exactly one of value, env, file and keyVault"},
		{"no source of a secret", secrets("{}"), "4: credentials[0].username: wants exactly one"},
		{"login server", secretsFor("docker.io/library", "{value: a}"), ": credentials[0].loginServer: "},
		{"no host", "upstreams:\n  - plainHTTP: true\n", "2: upstreams[0]: host is missing"},
		{"host twice", "upstreams:\n  - host: a.example.com\n  - host: A.example.com\n", "3: upstreams[1].host: "},
		{"ca", "upstreams:\n  - host: a.example.com\n    ca: nowhere.pem\n", "3: upstreams[0].ca: "},
		{"ca without a certificate", "upstreams:\n  - host: a.example.com\n    ca: proxy.yaml\n", "3: upstreams[0].ca: "},
		{"ca of plain HTTP", "upstreams:\n  - host: a.example.com\n    plainHTTP: true\n    ca: x.pem\n", "4: upstreams[0].ca: makes no sense with plainHTTP"},
		{"certificate", "tls:\n  cert: nowhere.pem\n  key: nowhere.pem\n", "1: tls: "},
		{"half a certificate", "tls:\n  cert: a.pem\n", "1: tls: key is missing"},
	} {
		t.Run(test.name, func(t *testing.T) { wantMistake(t, test.file, test.want) })
	}
}

// wantMistake fails unless this is the only mistake in a file.
func wantMistake(t *testing.T, file, want string) {
	t.Helper()
	t.Chdir(t.TempDir()) // mistakes name the file by a relative path
	said := mistakesOf(t, file)
	if !strings.HasPrefix(said, "proxy.yaml:") || !strings.Contains(said, want) {
		t.Errorf("got:\n%s\nwant %q in it", said, want)
	}
	if lines := strings.Count(said, "\n") + 1; lines != 1 {
		t.Errorf("%d mistakes were found, want 1:\n%s", lines, said)
	}
	wantRefusedBySchema(t, file, said)
}

// rules is a valid rule followed by more of its keys, from line 5 on.
func rules(more string) string {
	return "rules:\n  - name: docker-hub\n    source: docker.io/*\n    target: hub/*\n" + more
}

// secrets is a credential set with a user name in line 4.
func secrets(username string) string { return secretsFor("docker.io", username) }

// secretsFor is secrets for another login server.
func secretsFor(host, username string) string {
	return "credentials:\n  - name: hub\n    loginServer: " + host + "\n    username: " + username + "\n    password: {value: b}\n"
}

// mistakesOf builds a file and returns its mistakes.
func mistakesOf(t *testing.T, file string) string {
	t.Helper()
	if err := os.WriteFile("proxy.yaml", []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := build("proxy.yaml")
	if err == nil {
		t.Fatal("nothing was found wrong")
	}
	return err.Error()
}

// TestAllMistakesAtOnce: one run shows all mistakes, in the order of the file.
func TestAllMistakesAtOnce(t *testing.T) {
	t.Chdir(t.TempDir())
	said := mistakesOf(t, `listen: nowhere
colour: blue
freshness: soon
rules:
  - name: docker-hub
    source: docker.io/*
    target: hub/*
    credentials: nobody
  - name: broken
    source: quay.io/*
    target: quay
  - {name: overlap, source: ghcr.io/*, target: hub/*}
  - {name: login, source: dev.azurecr.io/app, target: app}
  - {name: foreign, source: quay.io/app, target: app, credentials: hub}
credentials:
  - name: hub
    loginServer: docker.io
    username: {value: alice, env: ALICE}
    password: {env: HUB_TOKEN}
upstreams:
  - host: a.example.com
    ca: nowhere.pem
`)
	var lines []string
	for one := range strings.Lines(said) {
		lines = append(lines, strings.Join(strings.SplitN(one, ":", 4)[1:3], ":"))
	}
	want := []string{"1: listen", "2: colour", "3: freshness", "8: rules[0].credentials", "11: rules[1].target",
		"12: rules[2].target", "13: rules[3]", "14: rules[4].credentials", "14: rules[4].target",
		"18: credentials[0].username", "22: upstreams[0].ca"}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got lines\n%s\nwant\n%s\nwhole text:\n%s", got, strings.Join(want, "\n"), said)
	}
}

// wholeFile has every key.
const wholeFile = `listen: 127.0.0.1:0
admin: 127.0.0.1:0
publicHost: cache.example.com:8443
tls: {cert: cert.pem, key: key.pem}
store: dir:images
tenant: 11111111-2222-3333-4444-555555555555
cloud: AzureCloud
identities: [` + uami + `]
freshness: 1m
nested: true
rules:
  - name: docker-hub
    source: docker.io/*
    target: hub/*
    credentials: hub
    freshness: 0s
    maxStale: 24h
    requireAccess: true
    platforms: [linux/amd64, linux/arm/v7]
    referrers: true
  - {name: plain, source: "127.0.0.1:5100/team/app", target: team/app, platforms: all, referrers: false}
  - {name: promote, source: devregistry.azurecr.io/team-a/api, target: promoted/api, identity: ` + uami + `}
  - name: federated
    source: otherregistry.azurecr.io/app
    target: app
    federatedIdentity: {tenant: 22222222-2222-2222-2222-222222222222, clientID: 33333333-3333-3333-3333-333333333333}
credentials:
  - name: hub
    loginServer: index.docker.io
    username: {value: 1234}
    password: {env: HUB_TOKEN}
  - name: vault
    loginServer: quay.io
    identity: ` + uami + `
    username: {keyVault: https://v.vault.azure.net/secrets/user}
    password: {keyVault: https://v.vault.azure.net/secrets/password/0123456789abcdef}
upstreams:
  - host: devregistry.azurecr.io
    azure: {tenant: 11111111-2222-3333-4444-555555555555, network: selected, trustedServices: true}
  - {host: "127.0.0.1:5100", plainHTTP: true}
  - {host: registry.example.com, ca: cert.pem, realms: [token.example.com], redirects: [10.0.0.9:8080]}
  - {host: "10.0.0.9:8080", plainHTTP: true, anyUpstream: true}
webhooks:
  - url: http://127.0.0.1:8080/hook
    scope: "promoted/team-a/api:*"
    headers: {X-Token: {env: HOOK_TOKEN}}
  - name: deploy
    url: {file: deploy-url}
    actions: [delete]
    format: cloudevents
    source: /registries/prod
    headers: {X-Stage: production, authorization: {file: deploy-token}, X-Number: {value: 17}}
    secrets: [{env: DEPLOY_SECRET}, {file: old-secret}, ` + signing + `]
`

// TestWholeFile reads the file with every key.
func TestWholeFile(t *testing.T) {
	t.Chdir(t.TempDir())
	writeCertificate(t, "cert.pem", "key.pem")
	var stdout, stderr bytes.Buffer
	if err := os.WriteFile("proxy.yaml", []byte(wholeFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), nil, []string{"-check", "-config", "proxy.yaml"}, &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d, said:\n%s", code, &stderr)
	}
	if want := "ok: 4 rules, 2 credential sets, 1 identity, 2 webhooks, store dir:images, listen 127.0.0.1:0\n"; stdout.String() != want {
		t.Errorf("-check says %q, want %q", &stdout, want)
	}
	s, err := build("proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if s.certificate == nil || s.admin != "127.0.0.1:0" {
		t.Errorf("settings are %+v", s)
	}
	m, err := s.rules.Match(t.Context(), "hub/library/alpine")
	if err != nil {
		t.Fatal(err)
	}
	if m.Rule.Freshness >= 0 || m.Rule.MaxStale != 24*time.Hour || !m.Rule.RequireAccess || m.Rule.Auth == nil {
		t.Errorf("the rule is %+v; freshness: 0s must mean: ask every time", m.Rule)
	}
	if !slices.Equal(m.Rule.Platforms, []string{"linux/amd64", "linux/arm/v7"}) || !m.Rule.Referrers {
		t.Errorf("the rule is %+v; it must copy two platforms, with referrers", m.Rule)
	}
	if m, err = s.rules.Match(t.Context(), "team/app"); err != nil || m.Rule.Freshness != time.Minute {
		t.Errorf("%+v, %v; a rule without freshness must have the general one", m, err)
	}
	if !slices.Equal(m.Rule.Platforms, []string{"all"}) || m.Rule.Referrers {
		t.Errorf("the rule is %+v; it must copy all platforms, without referrers", m.Rule)
	}
	want := auth.FederatedIdentity{TenantID: "22222222-2222-2222-2222-222222222222", ClientID: "33333333-3333-3333-3333-333333333333"}
	if m, err = s.rules.Match(t.Context(), "app"); err != nil || m.Rule.Auth != want {
		t.Errorf("%+v, %v; want %+v", m, err, want)
	}
	if _, err := os.Stat("images"); err == nil {
		t.Error("-check made the store's folder")
	}
}

// TestSample: the sample file is valid.
func TestSample(t *testing.T) {
	if _, err := build("config.yaml"); err != nil {
		t.Error(err)
	}
}

// TestEmptyFile: every key has a default.
func TestEmptyFile(t *testing.T) {
	for name, file := range map[string]string{"empty": "", "only a comment": "# later\n", "no values": "rules:\nupstreams: []\n"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "proxy.yaml")
			if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := build(path)
			if err != nil {
				t.Fatal(err)
			}
			if want := "0 rules, 0 credential sets, store mem:, listen 127.0.0.1:5000"; s.summary() != want {
				t.Errorf("summary %q, want %q", s.summary(), want)
			}
		})
	}
}

// FuzzLoad: any file is read, or refused with a line for each mistake.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(rules("    credentials: hub\n") + secrets("{value: a}")))
	f.Add([]byte("a: &a [*a]\nrules: *a\n"))
	f.Add([]byte(federated("{tenant: contoso, clientID: 33333333-3333-3333-3333-333333333333}")))
	f.Add([]byte("upstreams: [{host: a, realms: [b]}]\n"))
	f.Add([]byte("upstreams: [{host: a, mirrors: [b/c, {host: d, credentials: e}], bandwidth: 1MiB}]\nprefetch: [{image: a/b:c, at: '03:00', jitter: 1h}, {images: [d], every: 1h}]\n"))
	f.Add([]byte(hooked("    headers: {X-Token: {env: T}}\n    secrets: [a]\n    actions: [pull]\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, found := load(path)
		p := proofs{identities: newIdentities(c, found), sources: newSources(c, found)}
		p.sets = newCredentials(c.credentials, p.identities, found)
		newPrefetch(c.prefetch, newRules(c, p, found), found)
		newMirrors(c.upstreams, p.sets, found)
		newReceivers(c.webhooks, found)
		if err := found.err(); err != nil && !strings.HasPrefix(err.Error(), path+":") {
			t.Errorf("no position: %v", err)
		}
	})
}

// TestExample: the next step that is printed names a repository of the rule.
func TestExample(t *testing.T) {
	for _, test := range []struct{ source, target, want string }{
		{"docker.io/*", "hub/*", "hub/library/alpine"},
		{"docker.io/library/*", "base/*", "base/alpine"},
		{"quay.io/team/*", "team/*", "team/NAME:TAG"},
		{"quay.io/*", "*", "NAME:TAG"},
		{"quay.io/team/app", "apps/app", "apps/app"},
	} {
		if got := example(test.source, test.target); got != test.want {
			t.Errorf("example(%q, %q) = %q, want %q", test.source, test.target, got, test.want)
		}
	}
}

// TestUsage: a mistake on the command line has an exit code of its own.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"-config"}, {"-config", "a", "b"}, {"-what"}} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), nil, args, &stdout, &stderr); code != exitUsage || stderr.Len() == 0 {
			t.Errorf("proxy %q: exit code %d, said %q", args, code, &stderr)
		}
	}
}

// TestNoFile: the error names a missing file.
func TestNoFile(t *testing.T) {
	var stdout, stderr bytes.Buffer
	t.Chdir(t.TempDir())
	code := run(t.Context(), nil, []string{"-check", "-config", "nowhere.yaml"}, &stdout, &stderr)
	if want := "nowhere.yaml: cannot be read: "; code != exitFault || !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("exit code %d, said %q, want %q", code, &stderr, want)
	}
}

// writeCertificate makes a self-signed certificate for 127.0.0.1 and names.
func writeCertificate(t *testing.T, cert, key string, names ...string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: names,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: packed}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
