package inbound

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// FuzzScopes: whatever a client asks for, what is granted has the name of a repository.
func FuzzScopes(f *testing.F) {
	for _, seed := range []string{"repository:a/b:pull,push", "repository(plugin):a:*", "registry:catalog:*", "::", "repository:host:5000/a:pull", "a:b"} {
		f.Add(seed)
	}
	g := &Gate{}
	f.Fuzz(func(t *testing.T, text string) {
		scopes, err := parseScopes([]string{text})
		if err != nil {
			return
		}
		if len(scopes) > maxScopes {
			t.Fatalf("%d scopes", len(scopes))
		}
		for _, s := range scopes {
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://x/", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range g.readable(r, Patterns{Everything}, s.Name) {
				if strings.ContainsAny(name, ":\"\\ ,%") || strings.Contains(name, "..") || len(name) > maxNameLen {
					t.Errorf("granted %q for %q", name, text)
				}
			}
		}
	})
}

// FuzzHtpasswd: no file makes a user without a bcrypt hash, and no mistake tells one.
func FuzzHtpasswd(f *testing.F) {
	const hash = "$2y$05$QyRpPm7pkzVMvDqsHJ1Ze.fIYmv8S1xBnsZL2gqhBlGqMYz8GBXEW"
	for _, seed := range []string{"alice:" + hash, "alice:$apr1$x$y\nbob:" + hash + "\r\n#x\n\n", ":", "a:b:c", "alice:" + hash + ":comment"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parsePasswords("users", data)
		if err != nil {
			if strings.Contains(err.Error(), hash[7:]) {
				t.Errorf("a mistake tells a hash: %v", err)
			}
			return
		}
		for user, hash := range file.hashes {
			if user == "" || !bcryptHash.Match(hash) || strings.Contains(user, ":") {
				t.Errorf("user %q has the hash %q", user, hash)
			}
		}
	})
}

// FuzzForwarded: whatever clients send, a stranger is at the other end of the connection, and what comes by a proxy
// cannot break out of a header.
func FuzzForwarded(f *testing.F) {
	f.Add("1.2.3.4, 10.0.0.1", "https", "cache.example.com", "for=1.2.3.4;proto=https")
	f.Add("[::1]:80", "HTTP", "a\"b", `for="[::1]:1";host="x`)
	proxies := Proxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, list, proto, host, forwarded string) {
		r := &http.Request{RemoteAddr: "192.0.2.1:1", Header: http.Header{
			"X-Forwarded-For": {list}, "X-Forwarded-Proto": {proto}, "X-Forwarded-Host": {host}, "Forwarded": {forwarded},
		}}
		if got := proxies.client(r); got != (hop{address: netip.MustParseAddr("192.0.2.1")}) {
			t.Errorf("a stranger is %+v", got)
		}
		r.RemoteAddr = "10.0.0.1:1"
		got := proxies.client(r)
		if !got.address.IsValid() || strings.ContainsAny(got.host, "\"\\ ,/\r\n") || got.proto != "" && got.proto != "http" && got.proto != "https" {
			t.Errorf("by a proxy: %+v", got)
		}
	})
}
