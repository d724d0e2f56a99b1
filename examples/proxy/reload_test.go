package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// reloaded is the text in the log after a reload.
const reloaded = `msg=reloaded now="`

// TestReload adds a rule, puts a mistake into the file, removes the file, and then all rules.
func TestReload(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	up.AddImage("team/app", "v2", upstreamtest.Layers(1, 2000))
	base := file(up)
	second := fmt.Sprintf("  - {name: second, source: %s/team/*, target: second/*}\n", up.Host())
	p := startProxy(t, base)
	want := func(path string, want int) {
		t.Helper()
		if status, body := fetch(t, client(), p.url+"/v2/"+path); status != want {
			t.Errorf("%s: status %d, want %d: %s", path, status, want, body)
		}
	}
	wantImage(t, p.url, img, up)
	want("second/app/manifests/v1", 404)
	p.reload(t, base+second, reloaded+"2 rules, ")
	want("second/app/manifests/v1", 200)
	wantImage(t, p.url, img, up)

	third := strings.ReplaceAll(second, "second", "third")
	lines := strings.Count(base+second, "\n")
	p.reload(t, base+second+third+"  - {name: broken, source: quay.io/x, target: x, colour: blue}\n",
		fmt.Sprintf("error=\"%s:%d: rules[3].colour: unknown key", p.file, lines+2))
	want("third/app/manifests/v1", 404)
	want("second/app/manifests/v2", 200)
	wantImage(t, p.url, img, up)

	if err := os.Remove(p.file); err != nil {
		t.Fatal(err)
	}
	before := len(p.log.String())
	p.send(t, syscall.SIGHUP)
	p.until(t, "the file to be missed", func() bool { return strings.Contains(p.log.String()[before:], p.file+": cannot be read: ") })
	want("second/app/manifests/v2", 200)

	p.reload(t, "listen: 127.0.0.1:0\nupstreams: [{host: \""+up.Host()+"\", plainHTTP: true}]\n", reloaded+"0 rules, ")
	want("local/team/app/manifests/v2", 404)
	p.signal(t)
	p.wantExit(t, exitOK)
}

// TestReloadNeedsRestart: if a key that needs a restart has changed, nothing of the file is
// applied.
func TestReloadNeedsRestart(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	p := startProxy(t, file(up))
	more := fmt.Sprintf("  - {name: second, source: %s/team/*, target: second/*}\n", up.Host())
	p.reload(t, strings.Replace(file(up, "admin: 127.0.0.1:0")+more, "listen: 127.0.0.1:0", "listen: localhost:0", 1),
		`level=ERROR msg="not reloaded: a change needs a restart; what was read before stays in force" keys="listen, admin"`)
	if status, body := fetch(t, client(), p.url+"/v2/second/app/manifests/v1"); status != 404 {
		t.Errorf("status %d, want 404: %s", status, body)
	}
	wantImage(t, p.url, img, up)
	p.reload(t, file(up)+more, reloaded+"2 rules, ")
	if status, body := fetch(t, client(), p.url+"/v2/second/app/manifests/v1"); status != 200 {
		t.Errorf("status %d, want 200: %s", status, body)
	}
}

// TestReloadCredentials: a password that was wrong in the file, and one that was removed. The
// log holds neither.
func TestReloadCredentials(t *testing.T) {
	const right, wrong = "s3cret-of-alice", "s3cret-of-old"
	up := upstreamtest.NewRegistry(t)
	up.RequireLogin(map[string]string{"alice": right}, nil)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	config := func(password string) string {
		return file(up, "credentials:", "  - {name: alice, loginServer: \""+up.Host()+"\", username: {value: alice}, password: {"+password+"}}") + "    credentials: alice\n"
	}
	p := startProxy(t, config("value: "+wrong))
	if status, _ := fetch(t, client(), p.url+"/v2/local/team/app/manifests/v1"); status != 403 {
		t.Errorf("status %d, want 403", status)
	}
	p.reload(t, config("value: "+right), reloaded)
	wantImage(t, p.url, img, up)
	p.reload(t, config("file: nowhere"), `msg="credentials cannot be read; pulls that need them will fail" credentials=alice`)
	if log := p.log.String(); strings.Contains(log, right) || strings.Contains(log, wrong) {
		t.Error("a password was told")
	}
}

// TestReloadIdentity replaces the identity of one rule. The other rule keeps its tokens.
func TestReloadIdentity(t *testing.T) {
	s := newScene(t)
	ids := []*azuretest.Identity{s.az.NewIdentity("former"), s.az.NewIdentity("later"), s.az.NewIdentity("steady")}
	s.dev.Grant(ids[0].PrincipalID, "team/former")
	s.dev.Grant(ids[1].PrincipalID, "team/later")
	s.dev.Grant(ids[2].PrincipalID, "team/steady")
	images := map[string]upstreamtest.Image{}
	for i, name := range []string{"team/former", "team/later", "team/steady"} {
		images[name] = s.dev.Content.AddImage(name, "v1", upstreamtest.Layers(1, 1000+i))
		s.dev.Content.AddImage(name, "v2", upstreamtest.Layers(1, 2000+i))
	}
	with := func(id *azuretest.Identity) string {
		return s.file(ids, "rules:", s.rule("x", "identity: "+id.ResourceID), s.rule("y", "identity: "+ids[2].ResourceID))
	}
	s.start(with(ids[0]))
	s.wantImage("x", "v1", images["team/former"])
	s.want("x/team/later/manifests/v1", 403, strings.ToLower(ids[0].ResourceID))
	s.wantImage("y", "v1", images["team/steady"])

	s.az.Reset()
	s.p.reload(t, with(ids[1]), reloaded)
	s.wantImage("x", "v1", images["team/later"])
	s.want("x/team/former/manifests/v2", 403, strings.ToLower(ids[1].ResourceID))
	if n := s.az.Count(azuretest.Exchange); n != 1 {
		t.Errorf("%d exchanges, want 1 for the identity that came", n)
	}
	s.az.Reset()
	s.want("y/team/steady/manifests/v2", 200)
	for _, e := range []azuretest.Endpoint{azuretest.AppService, azuretest.Exchange, azuretest.Token} {
		if n := s.az.Count(e); n != 0 {
			t.Errorf("the rule that did not change asked for %d tokens (%s)", n, e)
		}
	}
}

// TestReloadCertificate: new connections use the new certificate.
func TestReloadCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key)
	config := fmt.Sprintf("listen: 127.0.0.1:0\ntls: {cert: %q, key: %q}\n", cert, key)
	p := startProxy(t, config)
	shown := func() []byte {
		t.Helper()
		conn, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Raw
	}
	before := shown()
	writeCertificate(t, cert, key)
	p.reload(t, config, reloaded)
	if bytes.Equal(before, shown()) {
		t.Error("the old certificate is shown")
	}
}

// TestHangupNeverEnds: SIGHUP does not end the program, neither many at once nor one while it
// drains.
func TestHangupNeverEnds(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<20))
	up.Fail(upstreamtest.Fault{Kind: "blob", Stall: 1 << 19}) // until the last signal was sent
	p := startProxy(t, file(up))
	resp, err := client().Get(p.url + "/v2/local/team/app/blobs/" + img.Layers[0].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 200 {
		p.send(t, syscall.SIGHUP)
	}
	p.until(t, "a reload", func() bool { return strings.Contains(p.log.String(), reloaded) })
	p.signal(t)
	p.until(t, "the drain", func() bool { return strings.Contains(p.log.String(), "draining") })
	p.send(t, syscall.SIGHUP)
	up.Release()
	if body, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(body, up.Blob("team/app", img.Layers[0].Digest)) {
		t.Errorf("got %d bytes and %v, want the layer", len(body), err)
	}
	p.wantExit(t, exitOK)
}

// built reads a valid file.
func built(t *testing.T, file string) *settings {
	t.Helper()
	if err := os.WriteFile("proxy.yaml", []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := build("proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFixed has one row for each change that needs a restart, and for changes that only look
// like one.
func TestFixed(t *testing.T) {
	t.Chdir(t.TempDir())
	writeCertificate(t, "ca.pem", "key.pem")
	writeCertificate(t, "other.pem", "other-key.pem")
	const tenant = "11111111-2222-3333-4444-5555555555ab"
	for _, test := range []struct{ name, before, after, want string }{
		{"nothing", "", "", ""},
		{"defaults", "", "listen: 127.0.0.1:5000\nstore: mem\ncloud: AzureCloud\n", ""},
		{"spelling", "upstreams: [{host: a.example}, {host: b.example, realms: [c.example]}]\ntenant: " + tenant + "\n",
			"tenant: " + strings.ToUpper(tenant) + "\n\n# later\nupstreams:\n  - host: B.example:443\n    realms: [c.example]\n  - {host: a.example}\n", ""},
		{"another certificate", "tls: {cert: ca.pem, key: key.pem}\n", "tls: {cert: other.pem, key: other-key.pem}\n", ""},
		{"rules and what they need", "", assigned + "freshness: 5m\n" + secrets("{value: a}") + rules("    credentials: hub\n"), ""},
		{"listen", "", "listen: 127.0.0.1:5001\n", "listen"},
		{"admin", "", "admin: 127.0.0.1:5001\n", "admin"},
		{"tls", "", "tls: {cert: ca.pem, key: key.pem}\n", "tls"},
		{"store", "", "store: dir:images\n", "store"},
		{"a bucket", "store: dir:images\n", "store: dir:images\n" + inBucket, "far"},
		{"another bucket", "store: dir:images\n" + inBucket, "store: dir:images\n" + strings.Replace(inBucket, "bucket: b", "bucket: c", 1), "far"},
		{"another key of a bucket", "store: dir:images\n" + inBucket, "store: dir:images\n" + strings.Replace(inBucket, "value: d", "value: e", 1), "far"},
		{"eviction", "", "eviction: {maxBytes: 5GiB}\n", "eviction"},
		{"a pattern", "eviction: {keep: [a]}\n", "eviction: {keep: [b]}\n", "eviction"},
		{"free bytes", "eviction: {minFree: 0}\n", "", "eviction"},
		{"path of the store", "store: dir:images\n", "store: dir:pictures\n", "store"},
		{"tenant", "", "tenant: " + tenant + "\n", "tenant"},
		{"public host", "publicHost: cache.example.com\n", "publicHost: cache.example.com:5000\n", "publicHost"},
		{"no public host", "publicHost: cache.example.com\n", "", "publicHost"},
		{"spelling of the public host", "publicHost: Cache.Example.com:443\n", "publicHost: cache.example.com\n", ""},
		{"nested", "", "nested: true\n", "nested"},
		{"not nested", "nested: true\n", "nested: false\n", "nested"},
		{"default of nested", "", "nested: false\n", ""},
		{"drain", "", "drain: 1m\n", "drain"},
		{"default of drain", "", "drain: 30s\n", ""},
		{"cloud", "", "cloud: AzureChinaCloud\n", "cloud"},
		{"another host", "", "upstreams: [{host: a.example}]\n", "upstreams"},
		{"plain HTTP", "upstreams: [{host: a.example}]\n", "upstreams: [{host: a.example, plainHTTP: true}]\n", "upstreams"},
		{"realms", "upstreams: [{host: a.example}]\n", "upstreams: [{host: a.example, realms: [b.example]}]\n", "upstreams"},
		{"redirects", "upstreams: [{host: a.example}]\n", "upstreams: [{host: a.example, redirects: [b.example]}]\n", "upstreams"},
		{"another redirect", "upstreams: [{host: a.example, redirects: [b.example]}]\n", "upstreams: [{host: a.example, redirects: [c.example]}]\n", "upstreams"},
		{"any upstream", "upstreams: [{host: a.example}]\n", "upstreams: [{host: a.example, anyUpstream: true}]\n", "upstreams"},
		{"spelling of redirects", "upstreams: [{host: a.example, redirects: [B.example:443], anyUpstream: false}]\n", "upstreams: [{host: a.example, redirects: [b.example]}]\n", ""},
		{"ca", "upstreams: [{host: a.example, ca: ca.pem}]\n", "upstreams: [{host: a.example, ca: other.pem}]\n", "upstreams"},
		{"no ca", "upstreams: [{host: a.example, ca: ca.pem}]\n", "upstreams: [{host: a.example}]\n", "upstreams"},
		{"what a source is like", "upstreams: [{host: a.azurecr.io}]\n", "upstreams: [{host: a.azurecr.io, azure: {}}]\n", "upstreams"},
		{"network of a source", "upstreams: [{host: a.azurecr.io, azure: {}}]\n", "upstreams: [{host: a.azurecr.io, azure: {network: selected}}]\n", "upstreams"},
		{"several", "", "listen: 127.0.0.1:5001\nadmin: 127.0.0.1:5002\nstore: dir:images\n", "listen, admin, store"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(built(t, test.before).fixed(built(t, test.after)), ", "); got != test.want {
				t.Errorf("keys %q, want %q", got, test.want)
			}
		})
	}
}

// TestKept: an authenticator that did not change stays one object, with its tokens and cached
// secrets; one that changed is a new object.
func TestKept(t *testing.T) {
	t.Chdir(t.TempDir())
	const other = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/other"
	config := func(x, y, password string) string {
		set := func(name, secret string) string {
			return "  - {name: " + name + ", loginServer: docker.io, username: {env: U}, password: {" + secret + "}}\n"
		}
		return "identities: [" + uami + ", " + other + "]\nrules:\n" +
			"  - {name: x, source: dev.azurecr.io/x, target: x, identity: " + x + "}\n" +
			"  - {name: y, source: dev.azurecr.io/y, target: y, identity: " + y + "}\n" +
			"  - {name: a, source: docker.io/team/a, target: a, credentials: a}\n" +
			"  - {name: b, source: docker.io/team/b, target: b, credentials: b}\n" +
			"credentials:\n" + set("a", "file: a-file") + set("b", password)
	}
	var log bytes.Buffer
	l := newLive("proxy.yaml", built(t, config(uami, uami, "value: old")), slog.New(slog.NewTextHandler(&log, nil)))
	find := func() map[string]auth.Authenticator {
		all := map[string]auth.Authenticator{}
		for r := range l.current.rules.All() {
			all[r.Name] = r.Auth
		}
		return all
	}
	before, set := find(), l.current.rules
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // so that no secrets are read
	for _, test := range []struct {
		file    string
		changed []string
	}{
		{config(strings.ToUpper(uami), uami, "value: old"), nil},
		{config(uami, other, "value: old"), []string{"y"}},
		{config(uami, other, "value: new"), []string{"b"}},
		{config(uami, other, "env: new"), []string{"b"}},
	} {
		built(t, test.file)
		l.reload(ctx)
		after := find()
		for name := range after {
			if changed := slices.Contains(test.changed, name); (before[name] != after[name]) != changed {
				t.Errorf("rule %s: changed %t, want %t", name, !changed, changed)
			}
		}
		before = after
	}
	if l.current.rules != set || strings.Count(log.String(), reloaded) != 4 {
		t.Errorf("the cache's own rules did not change, or the log does not say so:\n%s", &log)
	}
	if r, _ := set.Get("b"); r.Auth != l.current.credentials["b"] {
		t.Error("the credentials that are looked at are not those of the rules")
	}
}

// counted is a secret that caches its value.
type counted struct {
	auth.Value
	invalid int
}

func (c *counted) Invalidate() { c.invalid++ }

// TestReread: after a reload, secrets that cache their value read it again.
func TestReread(t *testing.T) {
	t.Chdir(t.TempDir())
	l := newLive("proxy.yaml", built(t, secrets("{value: a}")), slog.New(slog.DiscardHandler))
	user, password := &counted{}, &counted{}
	set := l.current.credentials["hub"]
	set.Username, set.Password = user, password
	l.reload(t.Context())
	if user.invalid != 1 || password.invalid != 1 {
		t.Errorf("told %d and %d times", user.invalid, password.invalid)
	}
}
