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

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// way is one of the ways in which a client reaches hub.example, and what it tried
// to reach besides.
type way struct {
	*testing.T
	hub  *upstreamtest.Registry
	host string

	mu      sync.Mutex
	strayed []string
}

func (w *way) stray(to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strayed = append(w.strayed, to)
}

// dial reaches the hub and nothing else.
func (w *way) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address != "hub.example:80" {
		w.stray(address)
		return nil, fmt.Errorf("no such host")
	}
	return (&net.Dialer{}).DialContext(ctx, network, w.hub.Host())
}

// proxy is a proxy that reaches the hub and nothing else.
func (w *way) proxy() *url.URL {
	p := upstreamtest.NewRegistry(w.T)
	p.Fail(upstreamtest.Fault{Do: func(rw http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodConnect || req.URL.Host != "hub.example" {
			w.stray(req.Method + " " + req.Host)
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		w.hub.ServeHTTP(rw, req)
	}})
	at, err := url.Parse(p.URL())
	if err != nil {
		w.Fatal(err)
	}
	return at
}

// ways are all ways to a registry.
func ways(t *testing.T) map[string]func() (*way, *upstream.Client) {
	start := func() (*way, *upstream.Client) {
		w := &way{T: t, hub: upstreamtest.NewRegistry(t), host: "hub.example"}
		return w, &upstream.Client{Hosts: map[string]upstream.Host{w.host: {PlainHTTP: true}}}
	}
	return map[string]func() (*way, *upstream.Client){
		"proxy": func() (*way, *upstream.Client) {
			w, c := start()
			c.Proxy = http.ProxyURL(w.proxy())
			return w, c
		},
		"Transport": func() (*way, *upstream.Client) {
			w, c := start()
			c.Transport = &http.Transport{DialContext: w.dial}
			return w, c
		},
		"Dial": func() (*way, *upstream.Client) {
			w, c := start()
			c.Dial = w.dial
			return w, c
		},
		"none": func() (*way, *upstream.Client) {
			w, _ := start()
			w.host = w.hub.Host()
			return w, w.hub.Client()
		},
	}
}

// lead makes the hub redirect blobs to a URL, or name it as the realm of manifests,
// with its bytes as they are.
func (w *way) lead(kind, to string) string {
	w.hub.Heal()
	w.hub.Fail(upstreamtest.Fault{Kind: kind, Do: func(rw http.ResponseWriter, _ *http.Request) {
		if kind == "blob" {
			rw.Header()["Location"] = []string{to}
			rw.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(to)
		rw.Header()["Www-Authenticate"] = []string{`Bearer realm="` + quoted + `",service="x"`}
		rw.WriteHeader(http.StatusUnauthorized)
	}})
	return kind
}

// ask asks for a blob, or a manifest.
func ask(t *testing.T, r upstream.Repository, kind string) error {
	if kind == "manifest" {
		_, _, err := r.Manifest(t.Context(), "v1")
		return err
	}
	b, err := r.Blob(t.Context(), digest.FromString("x"), 0, -1)
	if err == nil {
		_, _ = io.Copy(io.Discard, b)
		_ = b.Close()
	}
	return err
}

// odd are hosts that net/http, a proxy or a resolver may take for another host
// than the guard. PORT is one where something listens on loopback.
var odd = []string{
	"169。254。169。254", "１６９.２５４.１６９.２５４", "１６９．２５４．１６９．２５４:80", "①⑥⑨.254.169.254", "metadata。google。internal",
	"ⓛocalhost:PORT", "ｌｏｃａｌｈｏｓｔ:PORT", "loca\u00adlhost:PORT", "local\u200bhost:PORT", "１２７.０.０.１:PORT", "127。0。0。1:PORT", "127｡0｡0｡1:PORT",
	"%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1:PORT", "127%E3%80%820.0.1:PORT", "doc\u212aer.example", "münchen.example",
	"127%2e0.0.1:PORT", "%31%32%37.0.0.1:PORT", "127.0.0.1%00:PORT",
	"a b.example", `a"b.example`, "a,b.example", "a*b.example", "a\\b.example", "a..example", ".example", "localhost..:PORT", "(localhost):PORT",
	"localhost:99999", "localhost:65536", "localhost:0", "localhost:0PORT", "localhost:", "localhost:8o", "localhost:PORT:PORT",
	"user@localhost:PORT", "@localhost:PORT", "user:@localhost:PORT", "localhost:PORT@hub.example",
	"[::1%25lo]:PORT", "[::ffff:127.0.0.1%25lo]:PORT", "[127.0.0.1]:PORT", "[localhost]:PORT", "[::1", "::1",
	strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "example",
}

// What the guard looks at is what is dialled, or what a proxy is told, in whatever
// letters an address is written.
func TestAddressesInOtherLetters(t *testing.T) {
	for name, start := range ways(t) {
		t.Run(name, func(t *testing.T) {
			w, client := start()
			t.Cleanup(client.CloseIdleConnections)
			_, port, _ := net.SplitHostPort(w.hub.Host())
			r, err := client.Open(upstream.Source{Rule: "r", Host: w.host, Repository: "a"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			for _, host := range odd {
				host = strings.ReplaceAll(host, "PORT", port)
				for _, c := range []struct{ kind, to string }{
					{"blob", "http://" + host + "/x"}, {"blob", "https://" + host + "/x"}, {"blob", "//" + host + "/x"}, {"manifest", "https://" + host + "/token"},
				} {
					w.lead(c.kind, c.to)
					asked++
					if e := wantError(t, ask(t, r, c.kind), upstream.Protocol); !strings.Contains(e.Reason, "cannot be used") {
						t.Errorf("%s %s: the reason %q, want that the address cannot be used", c.kind, c.to, e.Reason)
					}
				}
				if _, err := client.Open(upstream.Source{Rule: "r", Host: host, Repository: "a"}, nil); err == nil {
					t.Errorf("a rule's host %q was opened", host)
				}
			}
			if n := len(w.hub.Requests()); n != asked || len(w.strayed) != 0 {
				t.Errorf("%d requests, want %d, and these besides: %q", n, asked, w.strayed)
			}
		})
	}
}

// Hosts that are written as hosts are written pass.
func TestAddressesInTheirUsualLetters(t *testing.T) {
	for host, want := range map[string]string{
		"cdn.example": "cdn.example:80", "CDN.example.": "CDN.example.:80", "my_bucket.cdn.example:8080": "my_bucket.cdn.example:8080", "a--b-.example": "a--b-.example:80",
		"xn--mnchen-3ya.example": "xn--mnchen-3ya.example:80", "8.8.8.8": "8.8.8.8:80", "8.8.8.8:65535": "8.8.8.8:65535", "[2606:4700::1]": "[2606:4700::1]:80", "[2606:4700::1]:1": "[2606:4700::1]:1",
	} {
		w, client := ways(t)["Dial"]()
		r, err := client.Open(upstream.Source{Rule: "r", Host: w.host, Repository: "a"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		client.Hosts[w.host] = upstream.Host{PlainHTTP: true}
		w.lead("blob", "http://"+host+"/x")
		wantError(t, ask(t, r, "blob"), upstream.Unreachable)
		if len(w.strayed) != 1 || w.strayed[0] != want {
			t.Errorf("%s: %q was dialled, want %s", host, w.strayed, want)
		}
	}
}

// The decision about a proxy is made once for each request, so that the limit for
// what is dialled is that of what is dialled.
func TestProxyIsAskedOnce(t *testing.T) {
	for name, second := range map[string]func(first *url.URL) (*url.URL, error){
		"the same":  func(first *url.URL) (*url.URL, error) { return first, nil },
		"none":      func(*url.URL) (*url.URL, error) { return nil, nil },
		"another":   func(*url.URL) (*url.URL, error) { return &url.URL{Scheme: "http", Host: "other.example:3128"}, nil },
		"unwilling": func(*url.URL) (*url.URL, error) { return nil, fmt.Errorf("no proxy") },
	} {
		t.Run(name, func(t *testing.T) {
			hub, proxy := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
			img := hub.AddImage("a", "v1", upstreamtest.Layers(1, 1000))
			hub.RequireLogin(everybody, nil)
			layer := img.Layers[0].Digest
			var passed []string
			serve := func(w http.ResponseWriter, req *http.Request) {
				passed = append(passed, req.URL.String())
				switch {
				case req.URL.Host == "hub.example" && strings.Contains(req.URL.Path, "/blobs/"):
					http.Redirect(w, req, "http://inner.example/x", http.StatusTemporaryRedirect)
				case req.URL.Host == "hub.example" && req.URL.Path != "/token" && req.Header.Get("Authorization") == "":
					w.Header().Set("Www-Authenticate", `Bearer realm="http://hub.example/token",service="x",scope="repository:a:pull"`)
					w.WriteHeader(http.StatusUnauthorized)
				case req.URL.Host == "hub.example":
					hub.ServeHTTP(w, req)
				default:
					_, _ = w.Write(hub.Blob("a", layer))
				}
			}
			proxy.Fail(upstreamtest.Fault{Do: serve})
			proxy.Fail(upstreamtest.Fault{Kind: "token", Do: serve})
			at, err := url.Parse(proxy.URL())
			if err != nil {
				t.Fatal(err)
			}
			asked := map[string]int{}
			f := &far{T: t, dials: map[string]int{}, names: map[string]place{proxy.Host(): {proxy.Host(), "127.0.0.1"}}}
			client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"hub.example": {PlainHTTP: true}}, Proxy: func(req *http.Request) (*url.URL, error) {
				key := fmt.Sprint(req.URL, req.Header["Authorization"])
				if asked[key]++; asked[key] > 1 {
					return second(at)
				}
				return at, nil
			}}
			r, err := client.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Manifest(t.Context(), "v1"); err != nil {
				t.Errorf("manifest: %v", err)
			}
			if b, err := r.Blob(t.Context(), layer, 0, -1); err != nil {
				t.Errorf("blob: %v", err)
			} else {
				_ = b.Close()
			}
			if len(passed) != 5 || len(asked) != 5 { // a challenge, a token, a manifest, a redirect, a blob
				t.Errorf("%d requests through the proxy, which was asked for in %d cases, want 5: %q", len(passed), len(asked), passed)
			}
			for key, n := range asked {
				if n != 1 {
					t.Errorf("the proxy for %s was asked for %d times", key, n)
				}
			}
		})
	}
}

// metadata is what clouds serve to their machines, from their documentation and from
// what other guards refuse; the table in the package must hold all of it.
var metadata = []struct{ cloud, hosts string }{
	{"Akamai (Linode)", "169.254.169.254 [fd00:a9fe:a9fe::1]"},
	{"Alibaba", "100.100.100.200 [fd00:100::100:200]"},
	{"AWS", "169.254.169.254 [fd00:ec2::254] instance-data instance-data.ec2.internal."},
	{"AWS ECS and EKS", "169.254.170.2 169.254.170.23 [fd00:ec2::23]"},
	{"AWS DNS and time", "169.254.169.253 169.254.169.123 [fd00:ec2::253] [fd00:ec2::123] [fd00:ec2:ffff::1]"},
	{"Azure", "169.254.169.254 168.63.129.16 [::ffff:168.63.129.16] [64:ff9b::a83f:8110]"},
	{"DigitalOcean", "169.254.169.254 [::ffff:a9fe:a9fe]"},
	{"Equinix Metal", "metadata.packet.net metadata.platformequinix.com METADATA.platformequinix.com."},
	{"Google", "169.254.169.254 [fd20:ce::254] metadata metadata.google.internal Metadata.Google.Internal. metadata.goog"},
	{"Hetzner", "169.254.169.254 [fe80::a9fe:a9fe]"},
	{"IBM", "169.254.169.254 api.metadata.cloud.ibm.com"},
	{"OpenStack", "169.254.169.254 [fe80::a9fe:a9fe]"},
	{"Oracle", "169.254.169.254 192.0.0.192 [fd00:c1::a9fe:a9fe] [::ffff:192.0.0.192]"},
	{"Rancher", "169.254.169.250 rancher-metadata"},
	{"Scaleway", "169.254.42.42 [fd00:42::42]"},
	{"Tencent", "169.254.0.23 metadata.tencentyun.com"},
}

// No metadata service is reached: not by an upstream on loopback, not though the
// embedder named it everywhere, not by a name that stands for it, and not as the host
// of a rule.
func TestMetadataOfEveryCloud(t *testing.T) {
	for _, m := range metadata {
		t.Run(m.cloud, func(t *testing.T) {
			for host := range strings.FieldsSeq(m.hosts) {
				hub := upstreamtest.NewRegistry(t)
				names := map[string]place{"hub.example:80": {hub.Host(), "127.0.0.1"}}
				bare := strings.Trim(host, "[]")
				if net.ParseIP(bare) != nil {
					names["cdn.example:80"] = place{hub.Host(), bare}
				}
				canonical := strings.ToLower(strings.TrimSuffix(host, "."))
				named := upstream.Host{PlainHTTP: true, Realms: []string{canonical}, Redirects: []string{canonical, "cdn.example"}}
				f := &far{T: t, dials: map[string]int{}, names: names}
				client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"hub.example": named, canonical: named, "cdn.example": named}}
				w := &way{T: t, hub: hub}
				r, err := client.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, alice())
				if err != nil {
					t.Fatal(err)
				}
				w.lead("blob", "http://"+host+"/latest")
				wantError(t, ask(t, r, "blob"), upstream.Protocol)
				w.lead("manifest", "http://"+host+"/token")
				wantError(t, ask(t, r, "manifest"), upstream.Protocol)
				if len(names) == 2 {
					w.lead("blob", "http://cdn.example/latest")
					wantError(t, ask(t, r, "blob"), upstream.Protocol)
				}
				r, err = client.Open(upstream.Source{Rule: "r", Host: canonical, Repository: "a"}, alice())
				if err != nil {
					t.Fatal(err)
				}
				wantError(t, ask(t, r, "manifest"), upstream.Protocol)
				if n := len(hub.Requests()); n != len(names)+1 {
					t.Errorf("%s: %d requests", host, n)
				}
			}
		})
	}
}
