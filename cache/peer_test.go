package cache_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// replica asks the cache of a story as another replica does, over HTTP.
type replica struct {
	*story
	ended chan struct{} // receives once for each answer that has ended
}

func (s *story) replica() replica {
	p := replica{&story{T: s.T, up: s.up, cache: s.cache, rules: s.rules}, make(chan struct{}, 1000)}
	p.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { p.ended <- struct{}{} }()
		q := r.URL.Query()
		s.cache.ServePeer(w, r, q.Get("repository"), upstream.Source{Rule: q.Get("rule"), Host: q.Get("host"), Repository: q.Get("source")}, digest.Digest(q.Get("digest")))
	}))
	s.Cleanup(func() {
		p.web.CloseClientConnections()
		p.web.Close()
	})
	return p
}

// sourceOf is the source that app/NAME stands for.
func (s *story) sourceOf(name string) upstream.Source {
	return upstream.Source{Rule: "team", Host: s.up.Host(), Repository: "team/" + name}
}

func peerPath(repository string, s upstream.Source, d digest.Digest) string {
	q := url.Values{"repository": {repository}, "rule": {s.Rule}, "host": {s.Host}, "source": {s.Repository}, "digest": {d.String()}}
	return "/?" + q.Encode()
}

// pathOf is the path of a blob of app/api.
func (p replica) pathOf(d digest.Digest) string { return peerPath("app/api", p.sourceOf("api"), d) }

// wantNothing looks for a blob of app/api, of which nothing is here.
func (p replica) wantNothing(d digest.Digest) {
	p.Helper()
	if b := p.cache.StatPeer(p.Context(), "app/api", p.sourceOf("api"), d); b != (cache.PeerBlob{Size: -1}) {
		p.Errorf("%+v, want nothing", b)
	}
}

// TestPeerGetsWhatClientsGet: of what is stored and of what is on its way, whole and in parts.
func TestPeerGetsWhatClientsGet(t *testing.T) {
	const size, come = 2 * mib, mib
	for name, setup := range map[string]func(*story){"Mem": func(*story) {}, "Dir": onDir} {
		for _, stored := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", stored ", stored), func(t *testing.T) {
				s := newStory(t, setup, oneConnection)
				p := s.replica()
				d := s.oneBlob(size)
				content := s.up.Blob("team/api", d)
				if stored {
					s.wantBlob("app/api", d)
					s.settle()
				} else {
					s.up.Fail(upstreamtest.Fault{Kind: "blob", Stall: come})
					body, _ := s.readSome(d, come/2)
					defer body.Close()
				}
				etag := `"` + d.String() + `"`
				for _, header := range [][]string{
					{"Range", "bytes=0-99"}, {"Range", "bytes=70000-80000"}, {"Range", fmt.Sprintf("bytes=%d-", size)}, {"Range", "bytes=5-9,100-200,1000-1000"},
					{"Range", "bytes=7-9", "If-Range", etag}, {"If-None-Match", etag},
				} {
					got, want := p.get(p.pathOf(d), header...), s.blob("app/api", d, header...)
					for _, h := range []string{"Content-Range", "Content-Length", "Etag", "Docker-Content-Digest", "Accept-Ranges", "X-Azure-Origin", "Cache-Status"} {
						if got.Header.Get(h) != want.Header.Get(h) {
							t.Errorf("%v: %s %q, a client gets %q", header, h, got.Header.Get(h), want.Header.Get(h))
						}
					}
					if got.StatusCode != want.StatusCode || got.StatusCode == http.StatusOK || got.err != nil || !bytes.Equal(parts(got), parts(want)) {
						t.Errorf("%v: status %d, %d bytes, %v; a client gets %d, %d bytes", header, got.StatusCode, len(got.body), got.err, want.StatusCode, len(want.body))
					}
				}
				s.up.Heal()
				s.up.Release()
				for _, header := range [][]string{nil, {"Range", "bytes=0-"}, {"Range", "bytes=7-9", "If-Range", `"other"`}, {"Range", "lines=1-2"}} {
					if got := p.get(p.pathOf(d), header...); got.err != nil || !bytes.Equal(got.body, content) {
						t.Errorf("%v: status %d, %d bytes, %v", header, got.StatusCode, len(got.body), got.err)
					}
				}
				if n := s.gets(d); n != 1 && stored || n > 2 {
					t.Errorf("%d requests at the upstream", n)
				}
			})
		}
	}
}

// parts is a body without what separates its parts, which is different each time.
func parts(r reply) []byte {
	_, boundary, ok := strings.Cut(r.Header.Get("Content-Type"), "boundary=")
	if !ok {
		return r.body
	}
	return bytes.ReplaceAll(r.body, []byte(boundary), []byte("-"))
}

// TestPeerBegins: what is neither here nor on its way is downloaded, once for all who ask,
// and then it is stored.
func TestPeerBegins(t *testing.T) {
	s := newStory(t, oneConnection)
	p := s.replica()
	for _, size := range []int{0, 1, 1000, 64 << 10, 300_000} {
		d := s.up.AddBlob("team/api", upstreamtest.Bytes(uint64(size)+7, size))
		p.wantNothing(d)
		for i, status := range []string{"fwd=miss; stored", "hit"} {
			r := p.get(p.pathOf(d))
			if r.StatusCode != 200 || r.err != nil || digest.FromBytes(r.body) != d || r.Header.Get("Cache-Status") != "pullthrough; "+status {
				t.Errorf("%d bytes, time %d: status %d, %q, %d bytes, %v", size, i, r.StatusCode, r.Header.Get("Cache-Status"), len(r.body), r.err)
			}
			s.settle()
			if b := s.cache.StatPeer(t.Context(), "app/api", s.sourceOf("api"), d); b != (cache.PeerBlob{Size: int64(size), Stored: true}) {
				t.Errorf("%d bytes: %+v", size, b)
			}
		}
		if n := s.gets(d); n != 1 {
			t.Errorf("%d bytes: %d requests at the upstream", size, n)
		}
	}
}

// TestPeerIsNoClient: nobody is asked or told about what another replica asks for, and Stats
// counts it nowhere, whether it is stored, on its way, new, or not to be had.
func TestPeerIsNoClient(t *testing.T) {
	s := newStory(t, oneConnection, func(s *story) {
		s.cache.Observe = nil
		s.cache.Next = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.Error("Next was asked") })
	})
	p := s.replica()
	stored := s.oneBlob(100_000)
	s.wantBlob("app/api", stored)
	s.settle()
	flying := s.oneBlob(2 * mib)
	s.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: flying.String(), Stall: mib})
	body, _ := s.readSome(flying, 1000)
	defer body.Close()
	before := s.cache.Stats()
	for _, d := range []digest.Digest{stored, flying} {
		if r := p.get(p.pathOf(d), "Range", "bytes=0-999"); r.StatusCode != http.StatusPartialContent || len(r.body) != 1000 {
			t.Errorf("status %d, %d bytes, %v", r.StatusCode, len(r.body), r.err)
		}
	}
	if r := p.get(p.pathOf(s.oneBlob(1000))); r.StatusCode != http.StatusOK {
		t.Errorf("status %d", r.StatusCode)
	}
	if r := p.get(p.pathOf(digest.FromString("nowhere"))); r.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", r.StatusCode)
	}
	if r := p.get(peerPath("plain/api", p.sourceOf("api"), stored)); r.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", r.StatusCode)
	}
	after := s.cache.Stats()
	if after.Requests != before.Requests || after.Hits != before.Hits || after.Bytes != before.Bytes || after.Followers != before.Followers || after.Jobs != before.Jobs {
		t.Errorf("counted: before %+v, after %+v", before, after)
	}
	if after.BlobConnections != before.BlobConnections+2 {
		t.Errorf("%d connections for two blobs", after.BlobConnections-before.BlobConnections)
	}
}

// TestPeerIsNotAuthorized: the replica has asked its own Authorize and Observe.
func TestPeerIsNotAuthorized(t *testing.T) {
	s := newStory(t, func(s *story) {
		s.cache.Authorize = func(*http.Request, cache.Access) error { s.Error("Authorize was asked"); return nil }
		s.cache.Observe = func(*http.Request, cache.Outcome) { s.Error("Observe was told") }
	})
	p := s.replica()
	d := s.oneBlob(1000)
	for range 2 {
		if r := p.get(p.pathOf(d)); r.StatusCode != http.StatusOK || digest.FromBytes(r.body) != d {
			t.Errorf("status %d", r.StatusCode)
		}
	}
	if r := p.get(p.pathOf(digest.FromString("nowhere"))); r.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", r.StatusCode)
	}
}

// TestPeerCausesNoCopy: a platform that a client has looked at is copied when a client pulls
// a layer of it, and not when another replica does.
func TestPeerCausesNoCopy(t *testing.T) {
	inBubble(t, func(c *clock) {
		index := c.up.AddMultiPlatform("team/api", "v1", upstreamtest.Layers(2, 100_000), "amd64", "arm64")
		c.manifest("v1")
		c.manifest(index.Children[0].Digest.String())
		c.pass(time.Minute)
		before := len(c.cache.Copies())
		own := index.Children[0].Layers[1]
		for _, d := range blobsOf(index.Children[0]) {
			if d.Digest == own.Digest {
				continue
			}
			for range 2 {
				if w := c.servePeer("app/api", c.sourceOf("api"), d.Digest); w.Code != http.StatusOK || int64(w.Body.Len()) != d.Size {
					t.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
				}
				c.pass(time.Hour)
			}
		}
		if s := c.cache.Stats(); s.Copied != 0 || s.Jobs != before || before == 0 || len(c.events) != 0 {
			t.Errorf("%d copied, %d jobs of %d, events %v", s.Copied, s.Jobs, before, c.events)
		}
		c.wantBlob(own.Digest) // as a client gets it
		c.pass(time.Minute)
		if s := c.cache.Stats(); s.Copied == 0 {
			t.Error("nothing is copied after a client pulled a layer")
		}
	})
}

// servePeer answers another replica in the bubble.
func (c *clock) servePeer(repository string, s upstream.Source, d digest.Digest) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c.cache.ServePeer(w, httptest.NewRequestWithContext(c.Context(), "GET", "/", nil), repository, s, d)
	return w
}

func (c *clock) sourceOf(name string) upstream.Source {
	return upstream.Source{Rule: "team", Host: source, Repository: "team/" + name}
}

// TestPeerIsolation: a local name that does not stand for exactly the source that another
// replica names has nothing for it, whatever is stored there.
func TestPeerIsolation(t *testing.T) {
	s := newStory(t)
	p := s.replica()
	d := s.oneBlob(100_000)
	s.wantBlob("app/api", d)
	s.settle()
	s.up.Reset()
	right := s.sourceOf("api")
	for name, c := range map[string]struct {
		repository string
		change     func(*upstream.Source)
		digest     digest.Digest
		status     int
		code       string
	}{
		"no rule covers it":           {"plain/api", nil, d, 404, "BLOB_UNKNOWN"},
		"another repository here":     {"app/web", nil, d, 404, "BLOB_UNKNOWN"},
		"another rule":                {"app/api", func(s *upstream.Source) { s.Rule = "other" }, d, 404, "BLOB_UNKNOWN"},
		"no rule":                     {"app/api", func(s *upstream.Source) { s.Rule = "" }, d, 404, "BLOB_UNKNOWN"},
		"another host":                {"app/api", func(s *upstream.Source) { s.Host = "registry.example.com" }, d, 404, "BLOB_UNKNOWN"},
		"another upstream repository": {"app/api", func(s *upstream.Source) { s.Repository = "team/web" }, d, 404, "BLOB_UNKNOWN"},
		"no source":                   {"app/api", func(s *upstream.Source) { *s = upstream.Source{} }, d, 404, "BLOB_UNKNOWN"},
		"a bad name":                  {"App/../api", nil, d, 400, "NAME_INVALID"},
		"no name":                     {"", nil, d, 400, "NAME_INVALID"},
		"a bad digest":                {"app/api", nil, "sha256:short", 400, "DIGEST_INVALID"},
		"an unknown algorithm":        {"app/api", nil, "md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"},
		"a tag":                       {"app/api", nil, "v1", 400, "DIGEST_INVALID"},
		"no digest":                   {"app/api", nil, "", 400, "DIGEST_INVALID"},
		"nothing":                     {"", nil, "", 400, "NAME_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			source := right
			if c.change != nil {
				c.change(&source)
			}
			s.wantError(p.get(peerPath(c.repository, source, c.digest)), c.status, c.code)
			if b := s.cache.StatPeer(t.Context(), c.repository, source, c.digest); b != (cache.PeerBlob{Size: -1, Refused: true}) {
				t.Errorf("%+v, want a refusal", b)
			}
		})
	}
	s.wantUpstream(nil)
	if r := p.get(p.pathOf(d)); r.StatusCode != http.StatusOK {
		t.Errorf("status %d for the right source", r.StatusCode)
	}
	if err := s.rules.Delete("team"); err != nil {
		t.Fatal(err)
	}
	s.wantError(p.get(p.pathOf(d)), 404, "BLOB_UNKNOWN")
	if b := s.cache.StatPeer(t.Context(), "app/api", right, d); b != (cache.PeerBlob{Size: -1, Refused: true}) {
		t.Errorf("%+v without a rule, want a refusal", b)
	}
	if err := s.rules.Create(rule.Rule{Name: "team", Source: s.up.Host() + "/other/*", Target: "app/*"}); err != nil {
		t.Fatal(err)
	}
	s.wantError(p.get(p.pathOf(d)), 404, "BLOB_UNKNOWN")
	elsewhere := upstream.Source{Rule: "team", Host: s.up.Host(), Repository: "other/api"}
	s.wantError(p.get(peerPath("app/api", elsewhere, d)), 404, "BLOB_UNKNOWN") // which the upstream says
	if b := s.cache.StatPeer(t.Context(), "app/api", elsewhere, d); b.Stored {
		t.Errorf("%+v: what came from another source is stored", b)
	}
}
