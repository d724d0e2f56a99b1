package fleet_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// asPeer sends a request to the peer listener of r, as another replica does. header replaces
// what such a one sends; an empty value leaves it out.
func (r *replica) asPeer(t *testing.T, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = path // as it is
	match, err := r.rules.Match(t.Context(), "mirror/app")
	if err != nil {
		t.Fatal(err)
	}
	for i, all := 0, append([]string{"Authorization", "Bearer " + secret, "Pullthrough-Peer", "127.0.0.1:1", "Pullthrough-Source", "team " + match.Source.String(), "Cdn-Loop", "fleet.example.com"}, header...); i < len(all); i += 2 {
		if req.Header.Del(all[i]); all[i+1] != "" {
			req.Header.Set(all[i], all[i+1])
		}
	}
	resp, err := r.clients.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
	return resp, string(body)
}

// counting counts how often rules are asked.
type counting struct {
	rule.Matcher
	asked atomic.Int64
}

func (c *counting) Match(ctx context.Context, repository string) (*rule.Match, error) {
	c.asked.Add(1)
	return c.Matcher.Match(ctx, repository)
}

// Who does not prove to be a replica learns nothing, and nothing is looked up for it.
func TestStrangers(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	d := up.AddBlob("team/app", []byte("blob"))
	var rules counting
	r := fleetOf(t, up, 1, func(_ int, r *replica) {
		rules.Matcher, r.Cache.Rules = r.rules, &rules
		r.FormerSecrets = [][]byte{[]byte("a-former-secret-of-this-fleet")}
	})[0]
	if _, _, err := r.pull(t.Context(), "mirror/app", d); err != nil {
		t.Fatal(err)
	}
	rules.asked.Store(0)
	up.Reset()
	path := "/fleet/v1/mirror/app/blobs/" + d.String()
	n := int64(0)
	for _, proof := range []string{"", "Bearer", "Bearer ", "Bearer x", "Bearer " + secret + "x", "Bearer " + secret[1:], "bearer " + secret, "Bearer  " + secret, "Basic " + secret, secret} {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
			for _, path := range []string{path, "/fleet/v1/ping", "/fleet/v1/", "/", "/v2/", "/fleet/v2/ping"} {
				resp, body := r.asPeer(t, method, path, "Authorization", proof)
				if resp.StatusCode != http.StatusUnauthorized || body != "" || len(resp.Header.Get("Pullthrough-Holder")) > 0 {
					t.Errorf("%q: %s %s is answered %d %q", proof, method, path, resp.StatusCode, body)
				}
				n++
			}
		}
	}
	if got := rules.asked.Load(); got != 0 {
		t.Errorf("rules were asked %d times for strangers", got)
	}
	if s := r.Fleet.Stats(); s.Strangers != n || s.Served != 0 {
		t.Errorf("%+v, want %d strangers", s, n)
	}
	for _, proof := range []string{secret, "a-former-secret-of-this-fleet"} {
		if resp, body := r.asPeer(t, "GET", path, "Authorization", "Bearer "+proof); resp.StatusCode != http.StatusOK || body != "blob" {
			t.Errorf("a replica is answered %d %q", resp.StatusCode, body)
		}
	}
	up.WantRequests()
}

// A replica reads what the local name stands for here, and nothing else; and no upstream
// hears of anything else.
func TestNothingElseIsReadable(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	d := up.AddBlob("team/app", []byte("blob"))
	hidden := up.AddBlob("other/app", []byte("hidden"))
	r := fleetOf(t, up, 1, nil)[0]
	source := "team " + up.Host() + "/team/app"
	blob := "/blobs/" + d.String()
	for _, c := range []struct {
		method, path, source string
		status               int
	}{
		{"GET", "/fleet/v1/mirror/app" + blob, "other " + up.Host() + "/team/app", 404}, // another rule
		{"GET", "/fleet/v1/mirror/app" + blob, "team " + up.Host() + "/team/other", 404},
		{"GET", "/fleet/v1/mirror/app" + blob, "team elsewhere.example.com/team/app", 404},
		{"GET", "/fleet/v1/mirror/other" + blob, source, 404},
		{"GET", "/fleet/v1/team/app" + blob, source, 404}, // a name of the upstream
		{"GET", "/fleet/v1/mirror/app/blobs/" + hidden.String(), source, 404},
		{"GET", "/fleet/v1/other/app/blobs/" + hidden.String(), "team " + up.Host() + "/other/app", 404},
		{"GET", "/fleet/v1/mirror/app" + blob, "", 400},
		{"GET", "/fleet/v1/mirror/app" + blob, "team", 400},
		{"GET", "/fleet/v1/mirror/app" + blob, "team " + up.Host(), 400},
		{"GET", "/fleet/v1/" + blob, source, 400},
		{"GET", "/fleet/v1" + blob, source, 404},
		{"GET", "/fleet/v1/mirror//app" + blob, source, 400},
		{"GET", "/fleet/v1/mirror/app/" + blob, source, 400},
		{"GET", "/fleet/v1/mirror/../mirror/app" + blob, source, 400},
		{"GET", "/fleet/v1/../../etc" + blob, source, 400},
		{"GET", "/fleet/v1/mirror/app/blobs/../../../etc/passwd", source, 400},
		{"GET", "/fleet/v1/mirror/app/blobs/sha256:..%2f..%2fetc%2fpasswd", source, 400},
		{"GET", "/fleet/v1/mirror/%2e%2e/app" + blob, source, 400},
		{"GET", "/fleet/v1/mirror%00/app" + blob, source, 400},
		{"GET", "/fleet/v1/Mirror/app" + blob, source, 400},
		{"GET", "/fleet/v1/mirror/app/blobs/", source, 400},
		{"GET", "/fleet/v1/mirror/app/blobs/latest", source, 400},
		{"GET", "/fleet/v1/mirror/app/blobs/sha256:abc", source, 400},
		{"GET", "/fleet/v1/mirror/app/blobs/" + strings.ToUpper(d.String()), source, 400},
		{"GET", "/fleet/v1/mirror/app" + blob + "/", source, 400},
		{"GET", "/fleet/v1/" + strings.Repeat("a/", 1500) + "app" + blob, source, 400},
		{"GET", "/fleet/v1/mirror/app/manifests/latest", source, 404},
		{"GET", "/fleet/v1/", source, 404},
		{"GET", "/fleet/v2/mirror/app" + blob, source, 404}, // another version
		{"GET", "/fleet/v1x/mirror/app" + blob, source, 404},
		{"GET", "//fleet/v1/mirror/app" + blob, source, 404},
		{"GET", "/v2/mirror/app" + blob, source, 404},
		{"GET", "/", source, 404},
		{"POST", "/fleet/v1/mirror/app" + blob, source, 405},
		{"PUT", "/fleet/v1/mirror/app" + blob, source, 405},
		{"PATCH", "/fleet/v1/mirror/app" + blob, source, 405},
		{"DELETE", "/fleet/v1/mirror/app" + blob, source, 405},
		{"OPTIONS", "/fleet/v1/mirror/app" + blob, source, 405},
		{"HEAD", "/fleet/v1/mirror/app" + blob, source, 404},
		{"HEAD", "/fleet/v1/mirror/app/blobs/" + hidden.String(), source, 404},
		{"GET", "/fleet/v1/ping", source, 204},
	} {
		resp, body := r.asPeer(t, c.method, c.path, "Pullthrough-Source", c.source)
		if resp.StatusCode != c.status || strings.Contains(body, "hidden") || body == "blob" {
			t.Errorf("%s %.100s of %q is answered %d %q, want %d", c.method, c.path, c.source, resp.StatusCode, body, c.status)
		}
	}
	up.WantRequests("GET /v2/team/app/blobs/" + hidden.String()) // which is none of that rule's
	for _, path := range []string{"/fleet/v1/mirror/app" + blob, "/fleet/v1/mirror%2Fapp/blobs/sha256%3A" + d.Encoded(), "/fleet/v1/mirror/app" + blob + "?x=y"} {
		if resp, body := r.asPeer(t, "GET", path); resp.StatusCode != 200 || body != "blob" {
			t.Errorf("%s is answered %d %q", path, resp.StatusCode, body)
		}
	}
}

// A replica whose cache has another ID is of another fleet, or a loop would not be noticed;
// the log says so, once.
func TestOtherIDs(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	d := up.AddBlob("team/app", []byte("blob"))
	for id, c := range map[string]map[string]int{
		"fleet.example.com": {"fleet.example.com": 404, "": 400, "other.example.com": 400, "other.example.com, fleet.example.com": 400},
		"":                  {"fleet.example.com": 400, "": 400},
	} {
		var log safeBuffer
		r := fleetOf(t, up, 1, func(_ int, r *replica) {
			r.Cache.ID, r.Fleet.Logger = id, slog.New(slog.NewTextHandler(&log, nil))
		})[0]
		wrong := 0
		for theirs, status := range c {
			for range 3 {
				if resp, _ := r.asPeer(t, "HEAD", "/fleet/v1/mirror/app/blobs/"+d.String(), "Cdn-Loop", theirs); resp.StatusCode != status {
					t.Errorf("ID %q: a request of %q is answered %d", id, theirs, resp.StatusCode)
				}
			}
			if status == 400 {
				wrong++
			}
		}
		if n := strings.Count(log.String(), "another ID"); n != min(wrong, 1) {
			t.Errorf("%d lines in the log:\n%s", n, log.String())
		}
		if resp, _ := r.asPeer(t, "HEAD", "/fleet/v1/mirror/app/blobs/"+d.String(), "Pullthrough-Peer", ""); resp.StatusCode != 400 {
			t.Errorf("a request of nobody is answered %d", resp.StatusCode)
		}
	}
	up.WantRequests()
}

// safeBuffer is a log that several goroutines write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Trust and Secret must both hold, and a Fleet with wrong fields answers nothing.
func TestProofs(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	trusts := func(ok bool) func(*http.Request) bool { return func(*http.Request) bool { return ok } }
	for _, c := range []struct {
		edit   func(f *fleet.Fleet)
		proof  string
		status int
	}{
		{func(f *fleet.Fleet) { f.Trust = trusts(true) }, "Bearer " + secret, 204},
		{func(f *fleet.Fleet) { f.Trust = trusts(false) }, "Bearer " + secret, 401},
		{func(f *fleet.Fleet) { f.Trust = trusts(true) }, "", 401},
		{func(f *fleet.Fleet) { f.Trust, f.Secret = trusts(true), nil }, "", 204},
		{func(f *fleet.Fleet) { f.Trust, f.Secret = trusts(false), nil }, "", 401},
		{func(f *fleet.Fleet) { f.Trust, f.Secret = fleet.ClientCertificate, nil }, "", 401},
		{func(f *fleet.Fleet) { f.Open, f.Secret = true, nil }, "", 204},
		{func(f *fleet.Fleet) { f.Secret = nil }, "", 500},
		{func(f *fleet.Fleet) { f.Secret = []byte("short") }, "Bearer short", 500},
	} {
		r := fleetOf(t, up, 1, func(_ int, r *replica) { c.edit(r.Fleet) })[0]
		if resp, body := r.asPeer(t, "GET", "/fleet/v1/ping", "Authorization", c.proof); resp.StatusCode != c.status || body != "" {
			t.Errorf("%q is answered %d %q, want %d", c.proof, resp.StatusCode, body, c.status)
		}
	}
	r := &http.Request{TLS: &tls.ConnectionState{}}
	if fleet.ClientCertificate(r) {
		t.Error("no certificate is one")
	}
	r.TLS.PeerCertificates = []*x509.Certificate{{}}
	if fleet.ClientCertificate(r) {
		t.Error("a certificate that was not verified is one")
	}
	r.TLS.VerifiedChains = [][]*x509.Certificate{r.TLS.PeerCertificates}
	if !fleet.ClientCertificate(r) {
		t.Error("a certificate that was verified is none")
	}
}

// The peer listener waits neither for slow nor for endless headers.
func TestBadHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSimnet()
		f := &fleet.Fleet{Self: "self:1", Peers: fleet.Static("self:1"), Secret: []byte(secret), Insecure: true}
		server := f.Server(&cache.Cache{ID: "x", Rules: &rule.Set{}})
		served := make(chan error)
		go func() { served <- server.Serve(n.listen("self:1")) }()
		for name, c := range map[string]struct {
			line string
			ends time.Duration
			want string
		}{
			"nothing":     {"", 10 * time.Second, ""},
			"half a line": {"GET /fleet/v1/pi", 10 * time.Second, ""},
			"half":        {"GET /fleet/v1/ping HTTP/1.1\r\nHost: x\r\n", 10 * time.Second, ""},
			"huge":        {"GET /fleet/v1/ping HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", time.Second, "HTTP/1.1 431 "},
			"HTTP/2":      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 10 * time.Second, "HTTP/1.1 "},
		} {
			conn, err := n.dialer("client")(t.Context(), "tcp", "self:1")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.WriteString(conn, c.line) }()
			began := time.Now()
			got, _ := io.ReadAll(conn)
			if took := time.Since(began); took > c.ends+time.Second || !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 4") {
				t.Errorf("%s: after %v: %.200q", name, took, got)
			}
			_ = conn.Close()
		}
		_ = server.Close()
		<-served
		if err := (&cache.Cache{}).Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// An upstream that is the fleet's own load balancer is a loop: the first hop says so, and
// nobody waits for another.
func TestFleetThatReadsFromItself(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	d := up.AddBlob("team/app", []byte("blob"))
	var all []*replica
	var hops atomic.Int64
	balancer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all[int(hops.Add(1))%len(all)].Cache.ServeHTTP(w, r)
	}))
	defer balancer.Close()
	lb, err := url.Parse(balancer.URL)
	if err != nil {
		t.Fatal(err)
	}
	all = fleetOf(t, up, 3, func(_ int, r *replica) {
		r.rules, err = rule.NewSet(rule.Rule{Name: "team", Source: lb.Host + "/mirror/*", Target: "mirror/*"})
		if err != nil {
			t.Fatal(err)
		}
		r.Cache.Rules = r.rules
		r.Cache.Upstream = r.Fleet.Opener(&upstream.Client{Hosts: map[string]upstream.Host{lb.Host: up.Upstream()}})
	})
	for i, r := range all {
		if _, _, err := r.pull(t.Context(), "mirror/app", d); err == nil || !strings.Contains(err.Error(), "status 508") {
			t.Errorf("replica %d: %v", i, err)
		}
	}
	if n := hops.Load(); n == 0 || n > 30 {
		t.Errorf("%d requests went round", n)
	}
}

// FuzzPeerRequests: whatever a replica asks for with HEAD, the answer is one of the protocol,
// and no upstream hears of it.
func FuzzPeerRequests(f *testing.F) {
	up := upstreamtest.NewHandler()
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: "registry.example.com/team/*", Target: "mirror/*"})
	if err != nil {
		f.Fatal(err)
	}
	fl := &fleet.Fleet{Self: "self:1", Peers: fleet.Static("self:1"), Open: true, Insecure: true}
	c := &cache.Cache{ID: "x", Rules: rules, Store: &store.Mem{}, Upstream: fl.Opener(up.Client())}
	h := fl.Handler(c)
	f.Cleanup(func() { _ = c.Shutdown(context.Background()) })
	f.Add("/fleet/v1/mirror/app/blobs/sha256:"+strings.Repeat("a", 64), "team registry.example.com/team/app", "peer:1", "x")
	f.Add("/fleet/v1/blobs/blobs//blobs/", "team registry.example.com/", "", "")
	f.Add("/fleet/v1/ping", "", "", "")
	f.Fuzz(func(t *testing.T, path, source, peer, loop string) {
		r := &http.Request{Method: http.MethodHead, URL: &url.URL{Path: path}, Header: http.Header{}, Host: "self:1"}
		r.Header.Set("Pullthrough-Source", source)
		r.Header.Set("Pullthrough-Peer", peer)
		r.Header.Set("Cdn-Loop", loop)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 204, 400, 404:
		default:
			t.Errorf("%q of %q by %q is answered %d", path, source, peer, w.Code)
		}
		if n := len(up.Requests()); n != 0 {
			t.Error(fmt.Sprint(n, " requests to the upstream"))
		}
	})
}
