package upstream_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// wrap returns a Client.WrapTransport whose RoundTripper is f.
func wrap(f func(inner http.RoundTripper, req *http.Request) (*http.Response, error)) func(http.RoundTripper) http.RoundTripper {
	return func(inner http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) { return f(inner, req) })
	}
}

type spanKey struct{}

// A wrapper sees each request, to token servers and targets of redirects too, and each
// response as it came.
func TestAWrapperSeesEveryRequest(t *testing.T) {
	s := newSide(t)
	img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100<<10))
	s.up.RequireLogin(users, nil)
	s.who = alice()
	store, err := s.up.RedirectBlobs()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []string
	s.client.WrapTransport = wrap(func(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
		out := req.Clone(context.WithValue(req.Context(), spanKey{}, 1))
		out.Header.Set("Traceparent", "00-1")
		resp, err := inner.RoundTrip(out)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprintf("%s %d", req.URL.Host, resp.StatusCode))
		}
		return resp, err
	})
	s.read(s.repo("a").Blob(t.Context(), img.Layers[0].Digest, 0, -1))
	hub := s.up.Host()
	if want := []string{hub + " 401", hub + " 200", hub + " 307", store.Host() + " 200"}; strings.Join(seen, ", ") != strings.Join(want, ", ") {
		t.Errorf("the wrapper saw %q, want %q", seen, want)
	}
	for _, q := range append(s.up.Requests(), store.Requests()...) {
		if q.Header.Get("Traceparent") != "00-1" {
			t.Errorf("%s came without the header of the wrapper", q.Path)
		}
	}
}

// The rules for addresses hold in a wrapper: for addresses in URLs, and for those that
// names resolve to.
func TestTheGuardBitesInAWrapper(t *testing.T) {
	hub, cdn := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
	d := cdn.AddBlob("a", []byte("content"))
	f := &far{T: t, dials: map[string]int{}, names: map[string]place{
		"hub.example:80": {hub.Host(), "8.8.8.8"}, "cdn.example:80": {cdn.Host(), "10.0.0.1"}, "ok.example:80": {cdn.Host(), "8.8.4.4"},
	}}
	wrapped := 0
	client := &upstream.Client{Dial: f.Dial, Hosts: map[string]upstream.Host{"hub.example": {PlainHTTP: true}},
		WrapTransport: wrap(func(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
			wrapped++
			return inner.RoundTrip(req)
		})}
	r, err := client.Open(upstream.Source{Rule: "r", Host: "hub.example", Repository: "a"}, alice())
	if err != nil {
		t.Fatal(err)
	}
	for host, ok := range map[string]bool{"cdn.example": false, "10.0.0.1": false, "169.254.169.254": false, "ok.example": true} {
		hub.Heal()
		cdn.Reset()
		hub.Fail(upstreamtest.Fault{Redirect: "http://" + host + "/v2/a/blobs/" + d.String()})
		b, err := r.Blob(t.Context(), d, 0, -1)
		if ok {
			if err != nil {
				t.Error(err)
			} else {
				_ = b.Close()
			}
			continue
		}
		wantError(t, err, upstream.Protocol)
		if n := cdn.Count("", "", ""); n != 0 {
			t.Errorf("%s got %d requests", host, n)
		}
	}
	if wrapped == 0 {
		t.Error("nothing passed the wrapper")
	}
}

// A wrapper cannot make another request of the one that was checked, by mistake or to
// help, so a credential reaches no other host through it.
func TestAWrapperCannotRedirectACredential(t *testing.T) {
	var home string // what the rule's host was shown
	for name, change := range map[string]func(req *http.Request, other *url.URL){
		"another host":         func(req *http.Request, other *url.URL) { req.URL.Host, req.Host = other.Host, other.Host },
		"another host, Host":   func(req *http.Request, other *url.URL) { req.URL.Host = other.Host },
		"another Host":         func(req *http.Request, other *url.URL) { req.Host = other.Host },
		"another URL":          func(req *http.Request, other *url.URL) { req.URL = other },
		"no URL":               func(req *http.Request, _ *url.URL) { req.URL = nil },
		"another scheme":       func(req *http.Request, _ *url.URL) { req.URL.Scheme = "https" },
		"another path":         func(req *http.Request, _ *url.URL) { req.URL.Path = "/v2/other/manifests/v1" },
		"another method":       func(req *http.Request, _ *url.URL) { req.Method = http.MethodDelete },
		"another credential":   func(req *http.Request, _ *url.URL) { req.Header.Set("Authorization", "Basic eDp5") },
		"a further credential": func(req *http.Request, _ *url.URL) { req.Header.Add("Authorization", "Basic eDp5") },
		"the one of home, at another host": func(req *http.Request, _ *url.URL) {
			if req.Header.Get("Authorization") != "" {
				home = req.Header.Get("Authorization")
			} else if home != "" {
				req.Header.Set("Authorization", home)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t)
			other := upstreamtest.NewRegistry(t)
			d := other.AddBlob("a", []byte("x"))
			s.up.Fail(upstreamtest.Fault{Kind: "blob", Redirect: other.URL() + "/v2/a/blobs/" + d.String()})
			at, _ := url.Parse(other.URL() + "/v2/a/blobs/" + d.String())
			who := &keeper{cred: auth.Credential{AccessToken: auth.NewSensitive("hunter2")}}
			for _, inPlace := range []bool{true, false} {
				s.client, home = s.up.Client(other), "" // the address is no obstacle
				s.client.WrapTransport = wrap(func(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
					if !inPlace {
						req = req.Clone(req.Context())
					}
					change(req, at)
					return inner.RoundTrip(req)
				})
				_, err := s.as("rule", "a", who).Blob(t.Context(), d, 0, -1)
				if e := wantError(t, err, upstream.Protocol); e.Owner != upstream.Ours || !strings.Contains(err.Error(), "wrapper") {
					t.Errorf("%+v", e)
				}
			}
			for _, q := range append(other.Requests(), s.up.Requests()...) {
				if q.Path != "/v2/a/blobs/"+d.String() || q.Method != http.MethodGet || q.Header.Get("Authorization") == "Basic eDp5" {
					t.Errorf("%s %s was asked", q.Method, q.Path)
				}
			}
			for _, q := range other.Requests() {
				if q.Header.Get("Authorization") != "" {
					t.Errorf("the other host was shown %q", q.Header.Get("Authorization"))
				}
			}
		})
	}
}

// Nor can it redirect the request for a token, which shows the password.
func TestAWrapperCannotRedirectATokenRequest(t *testing.T) {
	s := newSide(t)
	other := upstreamtest.NewRegistry(t)
	s.client = s.up.Client(other)
	s.up.AddImage("a", "v1", nil)
	s.up.RequireLogin(users, nil)
	s.client.WrapTransport = wrap(func(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
		if !strings.HasPrefix(req.URL.Path, "/v2/") {
			req = req.Clone(req.Context())
			req.URL.Host, req.Host = other.Host(), ""
		}
		return inner.RoundTrip(req)
	})
	_, _, err := s.as("rule", "a", alice()).Manifest(t.Context(), "v1")
	if e := s.want(err, upstream.Protocol); e.Owner != upstream.Ours || len(other.Requests()) != 0 {
		t.Errorf("%+v, %d requests", e, len(other.Requests()))
	}
}

// A wrapper that loses the context of a request loses the right to send it.
func TestAWrapperWithoutTheContext(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	s.client.WrapTransport = wrap(func(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
		return inner.RoundTrip(req.WithContext(context.Background()))
	})
	if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err == nil || len(s.up.Requests()) != 0 {
		t.Errorf("%v, %d requests", err, len(s.up.Requests()))
	}
}

// What a wrapper returns is completed or refused, and never a panic.
func TestResponsesOfAWrapper(t *testing.T) {
	for name, c := range map[string]struct {
		resp  *http.Response
		class upstream.Class
	}{
		"nothing":     {nil, upstream.Unreachable},
		"a bare 404":  {&http.Response{StatusCode: http.StatusNotFound}, upstream.NotFound},
		"a bare 401":  {&http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}}, upstream.Denied},
		"a bare 200":  {&http.Response{StatusCode: http.StatusOK, Header: http.Header{}}, upstream.Protocol},
		"a stray one": {&http.Response{StatusCode: http.StatusForbidden, Request: &http.Request{}}, upstream.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t)
			s.client.WrapTransport = wrap(func(http.RoundTripper, *http.Request) (*http.Response, error) { return c.resp, nil })
			_, _, err := s.as("rule", "a", alice()).Manifest(t.Context(), "v1")
			if e := s.want(err, c.class); e.Owner != upstream.Home {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A wrapper may send a request more than once, and at the same time.
func TestAWrapperThatHedges(t *testing.T) {
	s := newSide(t)
	img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100<<10))
	s.up.RequireLogin(users, nil)
	s.who = alice()
	s.client.WrapTransport = wrap(func(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
		done := make(chan struct{})
		if req.Body == nil {
			go func() {
				defer close(done)
				if resp, err := inner.RoundTrip(req.Clone(req.Context())); err == nil {
					_ = resp.Body.Close()
				}
			}()
			defer func() { <-done }()
		}
		return inner.RoundTrip(req)
	})
	for range 3 {
		s.read(s.repo("a").Blob(t.Context(), img.Layers[0].Digest, 0, -1))
	}
}

// A wrapper, and a Transport of the embedder's, may write into the headers of the request
// that it is given, which is sent no more.
func TestForeignCodeMayWriteHeaders(t *testing.T) {
	writes := func(inner http.RoundTripper, req *http.Request) (*http.Response, error) {
		req.Header.Add("Baggage", "span=1")
		return inner.RoundTrip(req)
	}
	for name, set := range map[string]func(*upstream.Client){
		"wrapper": func(c *upstream.Client) { c.WrapTransport = wrap(writes) },
		"transport": func(c *upstream.Client) {
			own := &http.Transport{}
			t.Cleanup(own.CloseIdleConnections)
			c.Transport = roundTrip(func(req *http.Request) (*http.Response, error) { return writes(own, req) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(t)
			img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100))
			s.up.RequireLogin(users, nil)
			s.who = alice()
			set(s.client)
			s.read(s.repo("a").Blob(t.Context(), img.Layers[0].Digest, 0, -1))
			if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
			for _, q := range s.up.Requests() {
				if n := len(q.Header["Baggage"]); n != 1 {
					t.Errorf("%s %s has %d headers of it", q.Method, q.Path, n)
				}
			}
		})
	}
}

func TestAWrapperIsMadeOnce(t *testing.T) {
	s := newSide(t)
	s.up.AddImage("a", "v1", nil)
	made := 0
	s.client.WrapTransport = func(inner http.RoundTripper) http.RoundTripper {
		if made++; inner == nil {
			t.Error("nothing to wrap")
		}
		return nil // nothing is wrapped
	}
	for range 3 {
		if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("called %d times, want once", made)
	}
}
