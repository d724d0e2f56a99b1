package upstream

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/netdepth"
	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-7": 0, "7.5": 0, "soon": 0,
		"86400": 24 * time.Hour, "86401": 24 * time.Hour, "99999999999999999999": 24 * time.Hour,
		date(time.Minute): time.Minute, date(-time.Minute): 0, date(48 * time.Hour): 24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	skewed := http.Header{"Retry-After": {date(time.Hour + time.Minute)}, "Date": {date(time.Hour)}}
	if got := retryAfter(skewed, now); got != time.Minute {
		t.Errorf("an upstream whose clock is an hour ahead: %v", got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7", "")
	f.Add("Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:05 GMT")
	f.Fuzz(func(t *testing.T, value, date string) {
		if d := retryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, time.Now()); d < 0 || d > maxRetryAfter {
			t.Errorf("%v", d)
		}
	})
}

func TestParseChallenges(t *testing.T) {
	p := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, c := range []struct {
		headers []string
		want    []challenge
	}{
		{nil, nil},
		{[]string{`Basic`}, []challenge{{"basic", p()}}},
		{[]string{`Bearer realm="https://a/b",service="s",scope="repository:x:pull,push"`}, []challenge{{"bearer", p("realm", "https://a/b", "service", "s", "scope", "repository:x:pull,push")}}},
		{[]string{`Basic realm="x", Bearer realm="y"`}, []challenge{{"basic", p("realm", "x")}, {"bearer", p("realm", "y")}}},
		{[]string{`Basic realm="x"`, `Bearer realm="y"`}, []challenge{{"basic", p("realm", "x")}, {"bearer", p("realm", "y")}}},
		{[]string{`Negotiate abc==, Bearer realm="y"`}, []challenge{{"negotiate", p()}, {"bearer", p("realm", "y")}}},
		{[]string{`Bearer realm=https://a/b,service=s`}, []challenge{{"bearer", p("realm", "https://a/b", "service", "s")}}},
		{[]string{`Bearer realm="a\"b"`}, []challenge{{"bearer", p("realm", `a"b`)}}},
		{[]string{`Bearer realm="a", realm="b"`}, []challenge{{"bearer", p("realm", "a")}}},
		{[]string{`Bearer realm="a`}, []challenge{{"bearer", p()}}},
		{[]string{`realm="a"`}, nil},
		{[]string{`,,,`, ` `, `"`}, nil},
	} {
		if got := parseChallenges(c.headers); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, want %+v", c.headers, got, c.want)
		}
	}
}

// testGuard is the guard of a call to host with a password to lose; nothing was dialled.
func testGuard(host string, hosts map[string]Host) *callGuard {
	c := auth.Credential{Username: "user", Password: auth.NewSensitive("password")}
	g := newCallGuard(newHostPolicy(host, hosts), c)
	g.startHop(httptest.NewRequest(http.MethodGet, "https://"+ociname.RegistryHost(host)+"/v2/", nil), c)
	return g
}

// FuzzChallenge: whatever an upstream says, the realm that goes on is one that
// is allowed, and nothing but a challenge of our own spelling does.
func FuzzChallenge(f *testing.F) {
	for _, s := range []string{
		`Bearer realm="https://hub.example/token",service="x"`, `Bearer realm="https://evil.example/token"`, `Bearer realm="https://hub.example@evil.example/"`,
		`Bearer realm="https://hub.example\@evil.example/"`, `Basic realm="x"`, `Bearer realm="https://hub.example/a%22,realm=%22https://evil.example"`,
		`Bearer realm="https://hub.example/" , scope="a\"b"`, `Bearer realm=https://HUB.EXAMPLE:443/t#x`, `Negotiate a==, Bearer realm="https://hub.example./"`,
	} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		guard := testGuard("hub.example", nil)
		resp, err := guard.checkChallenge(&http.Response{StatusCode: 401, Body: http.NoBody, Header: http.Header{"Www-Authenticate": {one, two}}})
		if err != nil {
			return
		}
		values := resp.Header.Values("Www-Authenticate")
		if len(values) == 0 || values[0] == "Basic" && len(values) == 1 {
			return
		}
		list := parseChallenges(values)
		if len(values) != 1 || len(list) != 1 || list[0].scheme != "bearer" {
			t.Fatalf("%q goes on as %q", []string{one, two}, values)
		}
		u, err := url.Parse(list[0].params["realm"])
		if err != nil || u.Scheme != "https" || strings.TrimSuffix(strings.ToLower(u.Host), ":443") != "hub.example" || u.User != nil {
			t.Fatalf("%q goes on with the realm %q", []string{one, two}, list[0].params["realm"])
		}
	})
}

func TestNextPage(t *testing.T) {
	asked, _ := url.Parse("https://hub.example/v2/a/tags/list?n=2")
	for link, want := range map[string]string{
		"": "", `</v2/a/tags/list?last=x&n=2>; rel="next"`: "last=x&n=2", `</v2/a/tags/list?last=x>;rel=next`: "last=x",
		`<https://evil.example/v2/a/tags/list?last=x>; rel="next"`:          "last=x", // only its query counts
		`</artifactory/api/docker/b/v2/a/tags/list?last=x&n=2>; rel="next"`: "last=x&n=2", `</v2/a/tags/list?last=x>; rel="prev"`: "",
		`</v2/a/tags/list?last=p>; rel="prev", </v2/a/tags/list?last=x>; rel="next"`: "last=x",
		`<?last=x>; rel="next"`: "last=x", `<?last=a,b>; rel="next"`: "last=a%2Cb", `<x`: "", `</v2/a/tags/list?last=x>; title="rel=next"`: "",
		`</v2/a/tags/list>; rel="next", </v2/a/tags/list?last=x>; rel="next"`: "last=x",
	} {
		if got, err := nextPage(asked, http.Header{"Link": {link}}); err != nil || got.Encode() != want {
			t.Errorf("%q: %q, %v; want %q", link, got.Encode(), err, want)
		}
	}
	for _, link := range []string{
		`</v2/a/tags/list>; rel="next"`, `</v2/a/tags/list/page/2>; rel="next"`, `</v2/a/tags/list?n=2>; rel="next"`, `<://>; rel="next"`,
		`</v2/a/tags/list?last=%zz>; rel="next"`, `</v2/a/tags/list?last=` + strings.Repeat("x", maxQuery) + `>; rel="next"`,
	} {
		if got, err := nextPage(asked, http.Header{"Link": {link}}); err == nil {
			t.Errorf("%.100q: %q passes for a list without a next page", link, got.Encode())
		}
	}
}

func FuzzLink(f *testing.F) {
	f.Add(`</v2/a/tags/list?last=x>; rel="next"`)
	asked, _ := url.Parse("https://hub.example/v2/a/tags/list")
	f.Fuzz(func(t *testing.T, link string) {
		if q, _ := nextPage(asked, http.Header{"Link": {link}}); len(q.Encode()) > 4*maxQuery {
			t.Errorf("%d bytes of query", len(q.Encode()))
		}
	})
}

func TestDialledDepth(t *testing.T) {
	for limit, ok := range map[netdepth.Depth]bool{netdepth.Public: false, netdepth.Private: false, netdepth.Loopback: true} {
		if err := checkDialled("127.0.0.1:443", limit); (err == nil) != ok {
			t.Errorf("loopback within %v: %v", limit, err)
		}
		if checkDialled("169.254.169.254:80", limit) == nil || checkDialled("nonsense", limit) == nil {
			t.Errorf("within %v", limit)
		}
	}
}

func TestRealmTable(t *testing.T) {
	for _, c := range []struct {
		host, realm string
		ok          bool
	}{
		{"docker.io", "https://auth.docker.io/token", true}, {"docker.io", "https://registry-1.docker.io/token", true}, {"docker.io", "https://auth.docker.io:444/token", false},
		{"docker.io", "http://auth.docker.io/token", false}, {"docker.io", "https://xauth.docker.io/", false}, {"docker.io", "https://auth.docker.io.evil.example/", false},
		{"registry.gitlab.com", "https://gitlab.com/jwt/auth", true}, {"ghcr.io", "https://ghcr.io/token", true}, {"ghcr.io", "https://GHCR.io:443/token", true}, {"ghcr.io", "https://ghcr.io./token", false},
		{"ghcr.io", "https://auth.docker.io/token", false}, {"a.example:5000", "https://a.example:5000/t", true}, {"a.example:5000", "https://a.example/t", false},
		{"a.example", "/token", false}, {"a.example", "token", false}, {"a.example", "", false}, {"a.example", "https://listed.example/t", true},
	} {
		guard := testGuard(c.host, map[string]Host{c.host: {Realms: []string{"listed.example"}}})
		if _, err := guard.realm(c.realm); (err == nil) != c.ok {
			t.Errorf("%s at %s: %v", c.realm, c.host, err)
		}
	}
}

// FuzzTagList: whatever comes as a list, only legal tags come out of it, and only out
// of one that a JSON parser reads in the same way.
func FuzzTagList(f *testing.F) {
	for _, s := range []string{`{"name":"a","tags":["v1","v2"]}`, `{"tags":null}`, `{"tags":["v1"],"tags":["v2"]}`, `{"x":{"tags":["no"]},"tags":["v1"]}`, `{"tags":[1]}`, `{"tags":["v1"`, `{}`, `[]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		tags, err := readTags(strings.NewReader(body))
		if err != nil {
			return
		}
		for _, tag := range tags {
			if !ociname.ValidTag(tag) {
				t.Fatalf("%q gives the tag %q", body, tag)
			}
		}
		var list map[string]json.RawMessage
		if json.NewDecoder(strings.NewReader(body)).Decode(&list) != nil {
			t.Fatalf("%q is read, and is not JSON", body)
		}
	})
}

// FuzzManifestType: a type that comes out is one that can be sent on, and an image is
// never an index.
func FuzzManifestType(f *testing.F) {
	for _, s := range []string{`{"schemaVersion":2,"manifests":[]}`, `{"schemaVersion":2,"config":{},"layers":[]}`, `{"mediaType":"application/vnd.example+json"}`, `{"schemaVersion":1}`, `[]`} {
		f.Add(s, "application/json", true)
		f.Add(s, "application/vnd.oci.image.index.v1+json", false)
	}
	f.Fuzz(func(t *testing.T, body, label string, named bool) {
		kind, err := typeOf([]byte(body), mediaType(http.Header{"Content-Type": {label}}), named)
		if err != nil {
			return
		}
		if !canBeManifest(kind) || strings.ContainsAny(kind, "\r\n") || isPage(kind) {
			t.Fatalf("%q labelled %q has the type %q", body, label, kind)
		}
		var m manifestShape
		if json.Unmarshal([]byte(body), &m) == nil && oci.IsIndex(kind) && present(m.Config) {
			t.Fatalf("%q is an index with a config", body)
		}
	})
}
