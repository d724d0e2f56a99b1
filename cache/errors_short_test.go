package cache_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// longest is how long anything may be that is written because of what somebody else
// wrote: a line of the log, an error's body, a header.
const longest = 2 << 10

// logText is a log of which nothing is lost.
type logText struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *logText) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.String(), "\n"), "\n")
}

// long is a text as only somebody who means harm writes it.
var long = strings.Repeat("x", 30<<10)

// header is a fault that sends one header, a status and a body.
func header(status int, key, value, body string) upstreamtest.Fault {
	return upstreamtest.Fault{Repository: "team/evil", Do: func(w http.ResponseWriter, _ *http.Request) {
		if key != "" {
			w.Header()[key] = []string{value}
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}}
}

// longWords are the places where an upstream can put its words.
func longWords() map[string]upstreamtest.Fault {
	ok, no := http.StatusOK, http.StatusForbidden
	return map[string]upstreamtest.Fault{
		"message":         header(no, "Content-Type", "application/json", `{"errors":[{"code":"DENIED","message":"`+long+`"}]}`),
		"code":            header(no, "Content-Type", "application/json", `{"errors":[{"code":"`+long+`","message":"x"}]}`),
		"detail":          header(no, "Content-Type", "application/json", `{"errors":[{"code":"DENIED","message":"x","detail":"`+long+`"}]}`),
		"no JSON":         header(no, "Content-Type", "text/html", long),
		"content type":    header(ok, "Content-Type", "text/"+long, "{}"),
		"challenge":       header(http.StatusUnauthorized, "Www-Authenticate", long, ""),
		"scheme":          header(http.StatusUnauthorized, "Www-Authenticate", long+` realm="x"`, ""),
		"realm":           header(http.StatusUnauthorized, "Www-Authenticate", `Bearer realm="https://`+long+`.example.com/token"`, ""),
		"realm's path":    header(http.StatusUnauthorized, "Www-Authenticate", `Bearer realm="https://127.0.0.1:1/`+long+`"`, ""),
		"scope":           header(http.StatusUnauthorized, "Www-Authenticate", `Bearer realm="https://127.0.0.1:1/token",scope="`+long+`"`, ""),
		"location":        header(http.StatusTemporaryRedirect, "Location", "https://127.0.0.1:1/"+long, ""),
		"location's host": header(http.StatusTemporaryRedirect, "Location", "https://"+long+"/", ""),
		"odd location":    header(http.StatusTemporaryRedirect, "Location", long+"://x", ""),
		"digest":          header(ok, "Docker-Content-Digest", "sha256:"+long, "{}"),
		"length":          header(ok, "Content-Range", "bytes 0-1/"+long, "{}"),
		"retry-after":     header(http.StatusTooManyRequests, "Retry-After", long, ""),
		"encoding":        header(ok, "Content-Encoding", long, "{}"),
		"link":            header(ok, "Link", "</v2/?"+long+`>; rel="next"`, `{"tags":["v1"]}`),
		"link elsewhere":  header(ok, "Link", "<https://"+long+`/v2/>; rel="next"`, `{"tags":["v1"]}`),
		"tag":             header(ok, "Content-Type", "application/json", `{"tags":["`+long+`"]}`),
		"name":            header(ok, "Content-Type", "application/json", `{"name":"`+long+`","tags":["`+strings.Repeat("-", 200)+`"]}`),
		"filters":         header(ok, "Oci-Filters-Applied", long, `{"mediaType":"`+long+`","manifests":[]}`),
		"media type":      header(ok, "Content-Type", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"mediaType":"`+long+`"}`),
		"config":          header(ok, "Content-Type", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"mediaType":"`+long+`","digest":"`+long+`","size":1},"layers":[]}`),
		"layer":           header(ok, "Content-Type", ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"config":{"mediaType":"x","digest":"`+someDigest+`","size":1},"layers":[{"mediaType":"`+long+`","digest":"sha256:`+long+`","size":2}]}`),
		"child":           header(ok, "Content-Type", ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"`+long+`","size":2,"platform":{"os":"`+long+`","architecture":"`+long+`"}}]}`),
		"no manifest":     header(ok, "Content-Type", ocispec.MediaTypeImageManifest, `{"schemaVersion":"`+long+`"}`),
		"schema 1":        header(ok, "Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"name":"`+long+`"}`),
	}
}

// TestLogLinesAreShort: wherever an upstream puts its words, no line of the log, no
// error and no header grows with them, and what is known of a copy does not either.
func TestLogLinesAreShort(t *testing.T) {
	for name, fault := range longWords() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logText{}
			s := newStory(t, func(s *story) {
				s.cache.Observe = nil // so that failures are logged
				s.cache.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			img := s.up.AddImage("team/evil", "v1", upstreamtest.Layers(1, 1000))
			s.pull("app/evil", "v1", img)
			s.settle()
			s.up.Fail(fault)
			for _, path := range []string{"manifests/v1", "manifests/v2", "manifests/" + someDigest, "blobs/" + someDigest, "tags/list", "referrers/" + someDigest} {
				for _, method := range []string{"HEAD", "GET"} {
					s.wantShort(s.do(method, "/v2/app/evil/"+path), method+" "+path)
				}
			}
			s.settle()
			for _, c := range s.cache.Copies() {
				if len(c.Err.Error()) > longest {
					t.Errorf("the error of a copy has %d bytes: %.100q", len(c.Err.Error()), c.Err)
				}
			}
			if _, why := copied(t, s.cache, "app/evil", "v2"); len(why) > longest {
				t.Errorf("Explain says %d bytes: %.100q", len(why), why)
			}
			for _, line := range log.all() {
				if len(line) > longest {
					t.Errorf("a line of the log has %d bytes: %.300q", len(line), line)
				}
			}
		})
	}
}

// wantShort checks an answer, of which only good content may be long.
func (s *story) wantShort(r reply, what string) {
	s.Helper()
	if r.err != nil && r.StatusCode == 0 {
		s.Errorf("%s: %v", what, r.err)
	}
	if r.StatusCode >= 300 && len(r.body) > longest {
		s.Errorf("%s: the body of %d has %d bytes: %.200q", what, r.StatusCode, len(r.body), r.body)
	}
	for k, v := range r.Header {
		if n := len(strings.Join(v, "")); n > longest {
			s.Errorf("%s: %d with a %s of %d bytes: %.100q", what, r.StatusCode, k, n, v[0])
		}
	}
}

// TestWordsOfClientsAreShort: what a client writes is repeated to it and to the log in
// small pieces, too.
func TestWordsOfClientsAreShort(t *testing.T) {
	log := &logText{}
	s := newStory(t, func(s *story) {
		s.cache.Observe = nil
		s.cache.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s.up.Fail(upstreamtest.Fault{Status: http.StatusServiceUnavailable})
	for _, path := range []string{
		"/v2/" + long + "/manifests/v1", "/v2/app/api/manifests/" + long, "/v2/app/api/blobs/sha256:" + long, "/v2/app/api/blobs/" + long + ":aa",
		"/v2/app/api/tags/list?n=" + long, "/v2/app/api/tags/list?last=" + long, "/v2/app/api/tags/list?" + long, "/v2/app/api/manifests/v1?x=" + long,
		"/v2/app/api/manifests/v1?ns=" + long, "/v2/app/api/manifests/v1?ns=" + strings.Repeat("x.", 100) + "com", "/v2/" + strings.Repeat("app/", 2000) + "manifests/v1", "/" + long, "/v2/_catalog?last=" + long,
		"/v2/app/api/referrers/sha256:" + long, "/v2/app/api/" + long,
	} {
		for _, method := range []string{"GET", "HEAD", "PUT"} {
			s.wantShort(s.do(method, path, "Range", "bytes="+long, "If-None-Match", long, "CDN-Loop", long, "Accept", long), fmt.Sprintf("%s %.60s", method, path))
		}
	}
	s.wantShort(s.do(strings.Repeat("M", 10_000), "/v2/app/api/manifests/v1"), "a long method")
	for _, line := range log.all() {
		if len(line) > longest {
			t.Errorf("a line of the log has %d bytes: %.300q", len(line), line)
		}
	}
}
