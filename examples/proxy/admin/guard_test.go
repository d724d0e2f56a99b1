package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
)

// deeds are all requests that act, with bodies that would succeed.
var deeds = map[string]string{
	"prefetch": target("v1"), "retry": `{"all": true}`, "delete": target("v1"), "evict": "{}", "check": `{"rate": -1}`,
	"resend": `{"receiver": "scanner", "event": "x"}`, "ping": `{"receiver": "scanner"}`,
}

// views are all requests that read.
var views = []string{
	"copies", "explain?repository=local/app&reference=v1", "rules", "stats", "store", "repositories", "tags?repository=local/app",
	"manifests?repository=local/app", "receivers", "deliveries?receiver=scanner",
}

// pages are the paths of all that can be read.
func pages() []string {
	list := []string{"/"}
	for _, path := range views {
		list = append(list, "/api/v1/"+path)
	}
	return list
}

// TestNoTokenNoAct: without the right token nothing can be done, whatever resembles it.
func TestNoTokenNoAct(t *testing.T) {
	k := newKit(t, open())
	k.image("app", "v1", 1000)
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	for path, body := range deeds {
		for _, header := range []string{
			"", "Bearer", "Bearer ", "Bearer " + token[:len(token)-1], "Bearer " + token + "x", "Bearer " + strings.ToUpper(token), "Bearer " + token[:16],
			"Basic " + token, token, basic(token, ""), basic("", ""), basic("admin", token[1:]), "Digest " + token,
		} {
			req := k.request("POST", "/api/v1/"+path, body)
			req.Header.Del("Authorization")
			if header != "" {
				req.Header.Set("Authorization", header)
			}
			k.refused(req, http.StatusUnauthorized, admin.CodeUnauthorized)
		}
		req := k.request("POST", "/api/v1/"+path+"?token="+token+"&access_token="+token, body)
		req.Header.Del("Authorization")
		req.Header.Set("Cookie", "token="+token)
		if status, _, _ := k.do(req); status != http.StatusUnauthorized {
			t.Errorf("%s with the token elsewhere: status %d", path, status)
		}
	}
	if n := len(k.up.Requests()); n > 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
	if n := len(k.hook.Deliveries()); n > 0 {
		t.Errorf("the receiver got %d requests", n)
	}
	for _, header := range []string{"Bearer " + token, "bearer " + token, basic("anybody", token)} {
		req := k.request("POST", "/api/v1/evict", "")
		req.Header.Set("Authorization", header)
		if status, body, _ := k.do(req); status != http.StatusOK {
			t.Errorf("the right token: status %d: %s", status, body)
		}
	}
	req := k.request("GET", "/debug/pprof/", "")
	k.refused(req, http.StatusUnauthorized, admin.CodeUnauthorized)
	if status, body, _ := k.do(k.request("POST", "/", "")); status != http.StatusOK || string(body) != "the page" {
		t.Errorf("POST / with the token: status %d: %s", status, body)
	}
}

// TestOff: without a proof that could be asked for, nobody acts, and the text says what to set.
func TestOff(t *testing.T) {
	k := newKit(t, admin.Access{OpenReading: true})
	for path, body := range deeds {
		k.refused(k.request("POST", "/api/v1/"+path, body), http.StatusForbidden, admin.CodeOff, "nobody may act here", "adminAccess")
	}
	k.refused(k.request("POST", "/", ""), http.StatusForbidden, admin.CodeOff)
	k.refused(k.request("GET", "/debug/pprof/", ""), http.StatusForbidden, admin.CodeOff)
	for _, path := range views {
		if status, body, _ := k.do(k.request("GET", "/api/v1/"+path, "")); status != http.StatusOK {
			t.Errorf("%s: status %d: %s", path, status, body)
		}
	}
	closed := newKit(t, admin.Access{})
	for _, path := range pages() {
		closed.refused(closed.request("GET", path, ""), http.StatusForbidden, admin.CodeOff, "reading needs", "adminAccess")
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if status, _, _ := closed.do(closed.request("GET", path, "")); status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
	}
}

// TestReadingNeedsAProof: where others reach the listener, reading needs the token too, and a
// browser is asked for it.
func TestReadingNeedsAProof(t *testing.T) {
	access := open()
	access.OpenReading = false
	k := newKit(t, access)
	for _, path := range pages() {
		k.refused(k.request("GET", path, ""), http.StatusUnauthorized, admin.CodeUnauthorized)
		req := k.request("GET", path, "")
		req.SetBasicAuth("me", token)
		if status, body, _ := k.do(req); status != http.StatusOK {
			t.Errorf("%s with the token: status %d: %s", path, status, body)
		}
	}
	_, _, header := k.do(k.request("GET", "/", ""))
	if got := header.Values("WWW-Authenticate"); len(got) != 2 || !strings.HasPrefix(got[0], "Bearer ") || !strings.HasPrefix(got[1], "Basic ") {
		t.Errorf("WWW-Authenticate: %q", got)
	}
}

// TestCrossSite: what another site makes a browser send is refused, token or not; what the page
// itself sends is not, nor what no browser sends.
func TestCrossSite(t *testing.T) {
	k := newKit(t, open())
	host := strings.TrimPrefix(k.url, "http://")
	for _, test := range []struct {
		header, value string
		fine          bool
	}{
		{"Sec-Fetch-Site", "cross-site", false}, {"Sec-Fetch-Site", "same-site", false}, {"Sec-Fetch-Site", "what", false},
		{"Sec-Fetch-Site", "same-origin", true}, {"Sec-Fetch-Site", "none", true},
		{"Origin", "http://evil.example", false}, {"Origin", "null", false}, {"Origin", "http://" + host + ".evil.example", false},
		{"Origin", "http://127.0.0.1", false}, {"Origin", "http://evil.example/" + host, false}, {"Origin", host, false},
		{"Origin", "http://" + host, true}, {"Origin", "https://" + host, true},
	} {
		for _, method := range []string{"GET", "POST"} {
			path := map[string]string{"GET": "/api/v1/stats", "POST": "/api/v1/evict"}[method]
			req := k.request(method, path, "")
			req.Header.Set(test.header, test.value)
			if !test.fine {
				k.refused(req, http.StatusForbidden, admin.CodeCrossSite, test.header)
			} else if status, body, _ := k.do(req); status != http.StatusOK {
				t.Errorf("%s with %s %s: status %d: %s", path, test.header, test.value, status, body)
			}
		}
	}
	link := k.request("GET", "/", "") // from a page of another site
	link.Header.Set("Sec-Fetch-Site", "cross-site")
	if status, _, header := k.do(link); status != http.StatusOK || header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("a link to the page: status %d, %v", status, header)
	}
	form := k.request("POST", "/", "")
	form.Header.Set("Sec-Fetch-Site", "cross-site")
	k.refused(form, http.StatusForbidden, admin.CodeCrossSite)
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json5"} {
		for path, body := range deeds {
			req := k.request("POST", "/api/v1/"+path, body)
			req.Header.Set("Content-Type", kind)
			k.refused(req, http.StatusUnsupportedMediaType, admin.CodeContentType)
		}
	}
	if status, _, header := k.do(k.request("OPTIONS", "/api/v1/evict", "")); status == http.StatusOK || header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a preflight: status %d, %v", status, header)
	}
}

// TestWrongHosts: a name that is none of the listener's is refused, since a browser may have been
// lied to about its address.
func TestWrongHosts(t *testing.T) {
	access := open()
	access.Names = []string{"admin.example.com"}
	k := newKit(t, access)
	for host, fine := range map[string]bool{
		"evil.example": false, "evil.example:5001": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "example.com": false,
		"127.0.0.1": true, "127.0.0.1:9": true, "[::1]:9": true, "[::1]": true, "localhost": true, "LOCALHOST:9": true, "localhost.": true,
		"10.0.0.1:5001": true, "admin.example.com": true, "Admin.Example.Com:5001": true, "127.1": false, "0x7f000001": false,
	} {
		for _, path := range []string{"/api/v1/stats", "/metrics", "/"} {
			req := k.request("GET", path, "")
			req.Host = host
			if !fine {
				k.refused(req, http.StatusMisdirectedRequest, admin.CodeHost, "adminAccess.names")
			} else if status, body, _ := k.do(req); status != http.StatusOK {
				t.Errorf("%s%s: status %d: %s", host, path, status, body)
			}
		}
		if !fine {
			req := k.request("POST", "/api/v1/evict", "")
			req.Host = host
			k.refused(req, http.StatusMisdirectedRequest, admin.CodeHost)
		}
		probe := k.request("GET", "/healthz", "") // a load balancer asks under any name
		probe.Host = host
		if status, _, _ := k.do(probe); status != http.StatusOK {
			t.Errorf("%s/healthz: status %d", host, status)
		}
	}
}

// TestPathTricks: no way of writing a path leads past a guard.
func TestPathTricks(t *testing.T) {
	access := open()
	access.OpenReading = false
	k := newKit(t, access)
	for _, path := range []string{
		"/healthz/../api/v1/stats", "//api/v1/stats", "/api//v1/stats", "/api/v1/./stats", "/api%2fv1%2fstats", "/api/v1%2fstats", "/%61pi/v1/stats%00",
		"/healthz%2f..%2fapi/v1/stats", "/metrics/../debug/pprof/", "/..//api/v1/stats", "/api/v1/stats/..%2f..", "/healthz/..", "/%2e%2e/api/v1/stats",
		"/.", "/api/v1/copies/..", "http://127.0.0.1/healthz/../api/v1/stats", "/API/v1/stats", "/api/v1/Stats", "/api", "/api/", "/api/v2/stats",
		"/debug", "/debug/vars", "/v2/", "/healthz/", "/metrics/", "/readyz/x", `/api\v1\stats`, "/api/v1/stats;x=1", "*", "api/v1/stats",
	} {
		status, body := k.raw("GET", path)
		if status < 300 || strings.Contains(body, "requests") || strings.Contains(body, "the profile") {
			t.Errorf("%s: status %d: %s", path, status, body)
		}
	}
	for _, path := range []string{"/healthz/../api/v1/stats", "//healthz", "/health%7a", "/healthz/.", "/x%2f..%2fhealthz"} {
		if status, body := k.raw("GET", path); status != http.StatusBadRequest || !strings.Contains(body, `"PATH_INVALID"`) {
			t.Errorf("%s: status %d: %s", path, status, body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "PROPFIND"} {
		for _, path := range []string{"/healthz", "/metrics", "/api/v1/stats", "/"} {
			if status, body := k.raw(method, path); status < 400 {
				t.Errorf("%s %s: status %d: %s", method, path, status, body)
			}
		}
	}
	for _, path := range []string{"/api/v1/nothing", "/api/v1/", "/api/v1/copies/a/b", "/api/v1/copies/"} {
		req := k.request("GET", path, "")
		req.SetBasicAuth("", token)
		k.refused(req, http.StatusNotFound, admin.CodeNotFound, path)
	}
	for path, allow := range map[string]string{"/api/v1/stats": "GET, HEAD", "/api/v1/evict": "POST"} {
		req := k.request("PUT", path, "")
		req.SetBasicAuth("", token)
		if status, body, header := k.do(req); status != http.StatusMethodNotAllowed || header.Get("Allow") != allow {
			t.Errorf("PUT %s: status %d, Allow %q: %s", path, status, header.Get("Allow"), body)
		}
	}
	req := k.request("GET", "/api/v1/evict", "")
	req.SetBasicAuth("", token)
	k.refused(req, http.StatusMethodNotAllowed, admin.CodeMethod, "POST")
}

// raw sends a request line as it is.
func (k *kit) raw(method, path string) (status int, body string) {
	k.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(k.url, "http://"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, path)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		k.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

// TestBodies: bodies are bounded, and what is wrong with one is said.
func TestBodies(t *testing.T) {
	k := newKit(t, open())
	huge := `{"repository": "` + strings.Repeat("a", 1<<20) + `"}`
	for path := range deeds {
		k.refused(k.request("POST", "/api/v1/"+path, huge), http.StatusRequestEntityTooLarge, admin.CodeBodySize, "65536 bytes")
		endless := k.request("POST", "/api/v1/"+path, "")
		endless.Body, endless.ContentLength = io.NopCloser(io.LimitReader(spaces{}, 1<<30)), -1
		if status, _, err := send(endless); err == nil && status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s with an endless body: status %d", path, status)
		}
		for body, words := range map[string]string{
			`{"secret": 1}`: `unknown field "secret"`, `{`: "unexpected EOF", `[]`: "cannot unmarshal array", `{}{}`: "more after it", `"x"`: "cannot unmarshal string",
			"\x00": "invalid character", strings.Repeat("[", 60000): "",
		} {
			k.refused(k.request("POST", "/api/v1/"+path, body), http.StatusBadRequest, admin.CodeBody, words)
		}
		k.refused(k.request("POST", "/api/v1/"+path+"?repository=x", deeds[path]), http.StatusBadRequest, admin.CodeParameter, "no parameters in the URL")
	}
}

// spaces is a reader of spaces.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) { return copy(b, bytes.Repeat([]byte(" "), len(b))), nil }

// send sends a request whose connection may be cut while its body is sent.
func send(req *http.Request) (status int, body []byte, err error) {
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// TestWrongParameters: each mistake is named, and nothing is done.
func TestWrongParameters(t *testing.T) {
	k := newKit(t, open())
	for path, words := range map[string]string{
		"copies?state=what": `state: "what"`, "copies?limit=0": "limit", "copies?limit=x": "limit", "copies?limit=-1": "limit", "copies?after=x": "after",
		"held?limit=x": "limit", "held?after=x": "after", "held?state=x": "no parameter", "copies?what=1": `"what" is no parameter`, "copies?limit=1&limit=2": "given twice", "copies?%zz": "cannot be read",
		"copies/x?limit=1": "no parameter", "explain": "repository is missing", "explain?repository=a": "reference is missing", "stats?x=1": "no parameter",
		"store?wait=x": "wait", "store?wait=-1s": "wait", "repositories?order=x": "order", "repositories?order=bytes&after=a": "after", "tags": "repository",
		"manifests?limit=1": "repository", "receivers?after=nobody": "after", "deliveries": "receiver is missing",
	} {
		k.refused(k.request("GET", "/api/v1/"+path, ""), http.StatusBadRequest, admin.CodeParameter, words)
	}
	for _, test := range []struct{ path, body, words string }{
		{"prefetch", `{}`, "required"}, {"prefetch", `{"repository": "a"}`, "required"}, {"prefetch", `{"repository": "a", "reference": "b", "all": true}`, "required"},
		{"retry", `{}`, "give a repository"}, {"retry", `{"reference": "v1"}`, "give a repository"}, {"retry", `{"all": true, "reference": "v1"}`, "give a repository"},
		{"retry", `{"all": true, "platforms": []}`, "platforms"}, {"delete", `{}`, "repository is missing"}, {"delete", `{"all": true}`, "repository is missing"},
		{"delete", `{"repository": "a"}`, "give either"}, {"delete", `{"repository": "a", "reference": "b", "all": true}`, "give either"},
		{"delete", `{"repository": "a", "reference": "b", "platforms": ["x"]}`, "platforms"}, {"resend", `{"receiver": "scanner"}`, "required"},
		{"ping", `{}`, "required"}, {"ping", `{"receiver": "scanner", "event": "x"}`, "nothing else"},
	} {
		k.refused(k.request("POST", "/api/v1/"+test.path, test.body), http.StatusBadRequest, admin.CodeParameter, test.words)
	}
	for _, name := range []string{"local/../app", "local//app", "Local/App", "/etc/passwd", "a b", `local/app\u0000`} {
		for _, path := range []string{"prefetch", "delete"} {
			k.refused(k.request("POST", "/api/v1/"+path, `{"repository": "`+name+`", "reference": "v1"}`), http.StatusBadRequest, "NAME_INVALID")
		}
	}
	k.refused(k.request("POST", "/api/v1/resend", `{"receiver": "scanner", "event": "x"}`), http.StatusNotFound, admin.CodeNotFound, "no such event")
	k.refused(k.request("POST", "/api/v1/ping", `{"receiver": "nobody"}`), http.StatusNotFound, admin.CodeNotFound, "no such receiver")
	k.refused(k.request("GET", "/api/v1/deliveries?receiver=nobody", ""), http.StatusNotFound, admin.CodeNotFound, "no such receiver")
	k.refused(k.request("POST", "/api/v1/prefetch", `{"repository": "nowhere/app", "reference": "v1"}`), http.StatusNotFound, "NAME_UNKNOWN")
	k.refused(k.request("POST", "/api/v1/prefetch", `{"repository": "local/app", "reference": "v1", "platforms": ["what/ever/x/y"]}`), http.StatusInternalServerError, admin.CodeFailed, "what/ever")
	if n := len(k.hook.Deliveries()); n > 0 {
		t.Errorf("the receiver got %d requests", n)
	}
}

// brokenSecret cannot be read.
type brokenSecret struct{}

func (brokenSecret) Read(context.Context) (auth.Sensitive, string, error) {
	return auth.Sensitive{}, "", errors.New("open /run/secrets/x: no such file")
}

// TestTokenThatCannotBeRead: nobody acts, not even with an empty token, and only the log says why.
func TestTokenThatCannotBeRead(t *testing.T) {
	for _, secret := range []auth.Secret{brokenSecret{}, auth.Value{}, auth.Value{Text: auth.NewSensitive("short")}} {
		k := newKit(t, admin.Access{Token: secret, OpenReading: true})
		for _, given := range []string{"short", "x", token} {
			req := k.request("POST", "/api/v1/evict", "")
			req.Header.Set("Authorization", "Bearer "+given)
			k.refused(req, http.StatusServiceUnavailable, admin.CodeToken)
		}
		if log := k.log.String(); !strings.Contains(log, "TOKEN_UNREADABLE error=") || strings.Contains(k.said.String(), "/run/secrets") {
			t.Errorf("the log: %s\nthe answers: %s", log, k.said.String())
		}
	}
}
