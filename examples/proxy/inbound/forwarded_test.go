package inbound_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// proxiesOf reads networks.
func proxiesOf(t *testing.T, texts ...string) (all inbound.Proxies) {
	t.Helper()
	for _, text := range texts {
		one, err := inbound.ParseProxy(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// TestForwarded: the word of named proxies about a client counts, that of others does not, and nobody can
// put words into a proxy's mouth.
func TestForwarded(t *testing.T) {
	gate := &inbound.Gate{Proxies: proxiesOf(t, "10.0.0.0/8", "2001:db8:1::/48", "192.0.2.9")}
	gate.SetPolicy(t.Context(), &inbound.Policy{Anonymous: inbound.Patterns{"a"}}, newKeys(t))
	var client string
	h := gate.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, _ := inbound.Client(r)
		client = address.String()
		if err := gate.Authorize(r, cache.Access{Kind: cache.AccessPing}); err != nil {
			w.Header().Set("Challenge", err.(*cache.Error).Unwrap().(interface{ Unwrap() []error }).Unwrap()[1].(*cache.Challenge).Header)
		}
	}))
	for name, c := range map[string]struct {
		peer   string
		header string // NAME: VALUE, separated by |
		client string
		realm  string
	}{
		"no proxy":                 {"203.0.113.1:1", "", "203.0.113.1", "http://asked.example"},
		"a stranger's word":        {"203.0.113.1:1", "X-Forwarded-For: 1.2.3.4|X-Forwarded-Proto: https|X-Forwarded-Host: evil.example|Forwarded: for=1.2.3.4;proto=https;host=evil.example", "203.0.113.1", "http://asked.example"},
		"a proxy's word":           {"10.1.2.3:1", "X-Forwarded-For: 203.0.113.1|X-Forwarded-Proto: https|X-Forwarded-Host: cache.example.com", "203.0.113.1", "https://cache.example.com"},
		"one address":              {"192.0.2.9:1", "X-Forwarded-For: 203.0.113.1", "203.0.113.1", "http://asked.example"},
		"its neighbour":            {"192.0.2.8:1", "X-Forwarded-For: 203.0.113.1", "192.0.2.8", "http://asked.example"},
		"IPv6":                     {"[2001:db8:1::5]:1", "X-Forwarded-For: 2001:db8:2::1", "2001:db8:2::1", "http://asked.example"},
		"IPv4 in IPv6":             {"[::ffff:10.1.2.3]:1", "X-Forwarded-For: ::ffff:203.0.113.1", "203.0.113.1", "http://asked.example"},
		"a client's own word":      {"10.1.2.3:1", "X-Forwarded-For: 1.2.3.4, 203.0.113.1", "203.0.113.1", "http://asked.example"},
		"a client as a proxy":      {"10.1.2.3:1", "X-Forwarded-For: 10.9.9.9, 203.0.113.1", "203.0.113.1", "http://asked.example"},
		"two proxies":              {"10.1.2.3:1", "X-Forwarded-For: 203.0.113.1, 10.4.5.6", "203.0.113.1", "http://asked.example"},
		"two headers":              {"10.1.2.3:1", "X-Forwarded-For: 1.2.3.4|X-Forwarded-For: 203.0.113.1", "203.0.113.1", "http://asked.example"},
		"only proxies":             {"10.1.2.3:1", "X-Forwarded-For: 10.4.5.6", "10.4.5.6", "http://asked.example"},
		"nonsense":                 {"10.1.2.3:1", "X-Forwarded-For: unknown", "10.1.2.3", "http://asked.example"},
		"nonsense behind a proxy":  {"10.1.2.3:1", "X-Forwarded-For: 203.0.113.1, <script>", "10.1.2.3", "http://asked.example"},
		"a port":                   {"10.1.2.3:1", "X-Forwarded-For: 203.0.113.1:4711", "203.0.113.1", "http://asked.example"},
		"Forwarded":                {"10.1.2.3:1", `Forwarded: for="[2001:db8:2::1]:4711";proto=https;host="cache.example.com:8443"`, "2001:db8:2::1", "https://cache.example.com:8443"},
		"Forwarded by two":         {"10.1.2.3:1", `Forwarded: for=1.2.3.4, For=203.0.113.1;Proto=https, for=10.4.5.6`, "203.0.113.1", "http://asked.example"},
		"both agree":               {"10.1.2.3:1", "X-Forwarded-For: 203.0.113.1|Forwarded: for=203.0.113.1", "203.0.113.1", "http://asked.example"},
		"both, and one is forged":  {"10.1.2.3:1", "X-Forwarded-For: 203.0.113.1|Forwarded: for=1.2.3.4", "10.1.2.3", "http://asked.example"},
		"another scheme":           {"10.1.2.3:1", "X-Forwarded-For: 203.0.113.1|X-Forwarded-Proto: javascript", "203.0.113.1", "http://asked.example"},
		"a host that is no host":   {"10.1.2.3:1", `X-Forwarded-For: 203.0.113.1|X-Forwarded-Host: a",scope="x`, "203.0.113.1", "http://asked.example"},
		"a host with a path":       {"10.1.2.3:1", `X-Forwarded-For: 203.0.113.1|X-Forwarded-Host: evil.example/x`, "203.0.113.1", "http://asked.example"},
		"the scheme without an IP": {"10.1.2.3:1", "X-Forwarded-Proto: https", "10.1.2.3", "https://asked.example"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://asked.example/v2/", nil)
		r.RemoteAddr = c.peer
		for line := range strings.SplitSeq(c.header, "|") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				r.Header.Add(name, value)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if client != c.client {
			t.Errorf("%s: the client is %s, want %s", name, client, c.client)
		}
		if got := w.Header().Get("Challenge"); got != `Bearer realm="`+c.realm+`/token",service="pullthrough"` {
			t.Errorf("%s: the challenge is %s, want the realm %s", name, got, c.realm)
		}
	}
}

// TestRealm: where clients are sent to log in, by what is known of the cache's own name.
func TestRealm(t *testing.T) {
	for name, c := range map[string]struct {
		gate   *inbound.Gate
		change func(*http.Request)
		want   string
	}{
		"as asked":    {&inbound.Gate{}, func(r *http.Request) { r.Host = "Cache:5000" }, "http://Cache:5000/token"},
		"TLS":         {&inbound.Gate{}, func(r *http.Request) { r.TLS = httptest.NewRequest("GET", "https://x/", nil).TLS }, "https://asked.example/token"},
		"public host": {&inbound.Gate{PublicHost: "cache.example.com:5000"}, nil, "http://cache.example.com:5000/token"},
		"public host, and a proxy says more": {&inbound.Gate{PublicHost: "cache.example.com", Proxies: proxiesOf(t, "192.0.2.1")}, func(r *http.Request) {
			r.Header.Set("X-Forwarded-Proto", "https")
			r.Header.Set("X-Forwarded-Host", "other.example")
		}, "https://cache.example.com/token"},
		"named":   {&inbound.Gate{Realm: "https://login.example.com/token", PublicHost: "x"}, nil, "https://login.example.com/token"},
		"quotes":  {&inbound.Gate{}, func(r *http.Request) { r.Host = `x",realm="http://evil.example` }, "http://localhost/token"},
		"nothing": {&inbound.Gate{}, func(r *http.Request) { r.Host = "" }, "http://localhost/token"},
	} {
		gate := c.gate
		gate.SetPolicy(t.Context(), &inbound.Policy{Anonymous: inbound.Patterns{"a"}}, newKeys(t))
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://asked.example/v2/", nil) // from 192.0.2.1
		if c.change != nil {
			c.change(r)
		}
		w := httptest.NewRecorder()
		cache.Guard(gate.Authorize, http.NotFoundHandler()).ServeHTTP(w, r)
		if got := w.Header().Get("WWW-Authenticate"); got != `Bearer realm="`+c.want+`",service="pullthrough"` {
			t.Errorf("%s: the challenge is %s, want %s", name, got, c.want)
		}
	}
}

// TestParseProxy: what is no network is refused.
func TestParseProxy(t *testing.T) {
	for text, want := range map[string]string{"10.0.0.0/8": "10.0.0.0/8", "192.0.2.1": "192.0.2.1/32", "::1": "::1/128", "::ffff:10.0.0.1": "10.0.0.1/32", "2001:db8::/32": "2001:db8::/32"} {
		if got, err := inbound.ParseProxy(text); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "proxy.example.com", "10.0.0.0/33", "10.0.0", "fe80::1%eth0"} {
		if got, err := inbound.ParseProxy(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
