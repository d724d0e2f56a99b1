package upstream_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// What a registry says to HEAD is no verdict; what a GET would meet as well is.
func TestSettles(t *testing.T) {
	for status, want := range map[int]bool{
		200: true, 400: false, 401: false, 403: false, 404: false, 405: false, 410: false, 416: false, 429: true, 451: false,
		500: true, 501: false, 502: true, 503: true, 504: true,
	} {
		s := newSide(t)
		img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100))
		if status != 200 {
			s.up.Fail(upstreamtest.Fault{Method: "HEAD", Status: status})
		}
		_, err := s.repo("a").Resolve(t.Context(), "v1")
		if got := upstream.Settles(err); got != want {
			t.Errorf("HEAD of a manifest, %d: %v settles: %v", status, err, got)
		}
		_, err = s.repo("a").StatBlob(t.Context(), img.Config.Digest)
		if got := upstream.Settles(err); got != want {
			t.Errorf("HEAD of a blob, %d: %v settles: %v", status, err, got)
		}
	}
	for what, err := range map[string]error{
		"incomplete": upstream.ErrIncomplete, "wrapped": fmt.Errorf("x: %w", upstream.ErrIncomplete),
		"a bad answer": &upstream.Error{Class: upstream.Protocol, Status: 200}, "a refused redirect": &upstream.Error{Class: upstream.Protocol},
	} {
		if upstream.Settles(err) {
			t.Errorf("%s settles", what)
		}
	}
	for what, err := range map[string]error{
		"nothing": nil, "no upstream": errors.New("x"), "no answer": &upstream.Error{Class: upstream.Unreachable},
		"an authenticator": &upstream.Error{Class: upstream.Denied, Err: &auth.DeniedError{Reason: "x"}},
	} {
		if !upstream.Settles(err) {
			t.Errorf("%s does not settle", what)
		}
	}
	s := newSide(t)
	s.up.RequireLogin(map[string]string{"alice": "other"}, nil)
	s.who = alice()
	if _, err := s.repo("a").Resolve(t.Context(), "v1"); !upstream.Settles(err) {
		t.Errorf("what the token server refuses is refused for GET too: %v", err)
	}
	// At a link that is signed for GET alone the target refuses.
	s = newSide(t)
	storage, err := s.up.RedirectBlobs()
	if err != nil {
		t.Fatal(err)
	}
	s.up.Fail(upstreamtest.Fault{Method: "HEAD", Redirect: "http://" + storage.Host() + "/signed-for-get"})
	if _, err := s.repo("a").StatBlob(t.Context(), s.up.AddBlob("a", []byte("x"))); upstream.Settles(err) {
		t.Errorf("a storage settles: %v", err)
	}
}

// A status alone proves nothing: a sign-on page answers everything with 200.
func TestHeadsThatTellNothing(t *testing.T) {
	page := func(kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Length", "5000")
		}
	}
	d := digest.FromString("somebody else's")
	for _, kind := range []string{"text/html", "text/html; charset=utf-8", "TEXT/HTML;x", "application/xhtml+xml"} {
		s := newSide(t)
		s.up.Fail(upstreamtest.Fault{Do: page(kind)})
		if _, err := s.repo("a").StatBlob(t.Context(), d); !errors.Is(err, upstream.ErrIncomplete) {
			t.Errorf("blob, %s: %v", kind, err)
		}
		for _, ref := range []string{"v1", d.String()} {
			if _, err := s.repo("a").Resolve(t.Context(), ref); !errors.Is(err, upstream.ErrIncomplete) {
				t.Errorf("manifest %s, %s: %v", ref, kind, err)
			}
		}
	}
	for _, length := range []string{"0", ""} {
		s := newSide(t)
		s.up.Fail(upstreamtest.Fault{Do: func(w http.ResponseWriter, _ *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			w.(http.Flusher).Flush()
		}})
		if desc, err := s.repo("a").StatBlob(t.Context(), d); err != nil || desc.Size != -1 {
			t.Errorf("length %q: %+v, %v, want an unknown size", length, desc, err)
		}
	}
	s := newSide(t)
	empty := s.up.AddBlob("a", nil)
	if desc, err := s.repo("a").StatBlob(t.Context(), empty); err != nil || desc.Size != 0 {
		t.Errorf("the empty blob: %+v, %v", desc, err)
	}
}

// A manifest that did not change costs no body, whatever ETags the upstream has.
func TestManifestUnless(t *testing.T) {
	for _, etag := range []string{"", `"0123456789abcdef"`, `W/"1-2"`, "-", `"a, b"`, `no quotes`, `"` + strings.Repeat("x", 300) + `"`} {
		s := newSide(t)
		img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100))
		s.up.Fail(upstreamtest.Fault{Kind: "manifest", ETag: etag})
		c, ok := upstream.As[upstream.Conditional](s.repo("a"))
		if !ok {
			t.Fatal("the client's repositories are not conditional")
		}
		if _, _, err := s.repo("a").Manifest(t.Context(), "v1"); err != nil {
			t.Fatal(err)
		}
		desc, body, err := c.ManifestUnless(t.Context(), "v1", img.Digest)
		if known := etag == "" || len(etag) > 1 && len(etag) < 30 && !strings.Contains(etag, " "); known {
			if !errors.Is(err, upstream.ErrUnchanged) {
				t.Errorf("ETag %q: %v, want ErrUnchanged", etag, err)
			}
		} else if err != nil || desc.Digest != img.Digest || string(body) != string(img.Manifest) {
			t.Errorf("ETag %q: %v, want the manifest once more", etag, err)
		}
		s.up.Heal()
		next := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 200))
		if desc, _, err := c.ManifestUnless(t.Context(), "v1", img.Digest); err != nil || desc.Digest != next.Digest {
			t.Errorf("ETag %q, moved: %v, %v", etag, desc.Digest, err)
		}
		if _, _, err := s.as("other", "a", nil).(upstream.Conditional).ManifestUnless(t.Context(), "v1", "nonsense"); err == nil {
			t.Error("a nonsense digest is sent")
		}
	}
}

// 304 is an answer only to somebody who asked conditionally.
func TestUnaskedNotModified(t *testing.T) {
	s := newSide(t)
	s.up.Fail(upstreamtest.Fault{Status: http.StatusNotModified})
	_, _, err := s.repo("a").Manifest(t.Context(), "v1")
	s.want(err, upstream.Protocol)
	_, err = s.repo("a").Blob(t.Context(), digest.FromString("x"), 0, -1)
	s.want(err, upstream.Protocol)
}
