package cache_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func TestBlobOfAnotherRepository(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/a", "v1", upstreamtest.Layers(1, 100<<10))
	other := s.up.AddImage("team/b", "v1", [][]byte{upstreamtest.Bytes(5, 1000)})
	s.pull("app/a", "v1", img)
	s.pull("app/b", "v1", other)
	s.settle()
	layer := img.Layers[0].Digest
	s.wantError(s.blob("app/b", layer), 404, "BLOB_UNKNOWN")
	s.wantError(s.blob("none/b", layer), 404, "BLOB_UNKNOWN")

	s.up.AddBlob("team/b", s.up.Blob("team/a", layer)) // now its own upstream has it
	s.up.Reset()
	s.wantBlob("app/b", layer)
	s.wantUpstream(map[string]int{"HEAD blob": 1})
	s.up.Reset()
	s.wantBlob("app/b", layer)
	s.wantUpstream(nil)
}

func TestAnotherOriginIsFetchedWhole(t *testing.T) {
	second := upstreamtest.NewRegistry(t)
	s := newStory(t, oneConnection, func(s *story) {
		s.cache.Upstream = s.up.Client(second)
		if err := s.rules.Create(rule.Rule{Name: "other", Source: second.Host() + "/team/*", Target: "other/*"}); err != nil {
			s.Fatal(err)
		}
	})
	img := s.up.AddImage("team/a", "v1", upstreamtest.Layers(1, 100<<10))
	second.AddImage("team/a", "v1", upstreamtest.Layers(1, 100<<10))
	s.pull("app/a", "v1", img)
	s.settle()
	s.pull("other/a", "v1", img)
	s.settle()
	if n := second.BlobBytes(img.Layers[0].Digest); n != 100<<10 {
		t.Errorf("another origin was asked for %d bytes, want all", n)
	}
}

func TestReplacedRuleServesNothingOfTheOld(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/a", "v1", upstreamtest.Layers(1, 100<<10))
	s.pull("app/a", "v1", img)
	s.settle()
	s.replace(rule.Rule{Source: s.up.Host() + "/else/*"})
	s.wantError(s.manifest("app/a", "v1"), 404, "MANIFEST_UNKNOWN")
	s.wantError(s.manifest("app/a", img.Digest.String()), 404, "MANIFEST_UNKNOWN")
	s.wantError(s.blob("app/a", img.Layers[0].Digest), 404, "BLOB_UNKNOWN")
	if err := s.rules.Delete("team"); err != nil {
		t.Fatal(err)
	}
	s.pull("app/a", "v1", img) // content stays, as a plain repository
}

func TestCredentialsStayWithTheirRule(t *testing.T) {
	var s *story
	users := map[string]string{"alice": "secret-a", "bob": "secret-b"}
	set := func(user string) *auth.CredentialSet {
		return &auth.CredentialSet{Name: user, LoginServer: s.up.Host(), Username: auth.Value{Text: auth.NewSensitive(user)}, Password: auth.Value{Text: auth.NewSensitive(users[user])}}
	}
	s = newStory(t, func(st *story) {
		s = st
		s.up.RequireLogin(users, func(user, repo string) bool { return user == "alice" || strings.HasPrefix(repo, "team/open") })
		s.replace(rule.Rule{Auth: set("alice")})
		if err := s.rules.Create(rule.Rule{Name: "bobs", Source: s.up.Host() + "/team/*", Target: "bob/*", Auth: set("bob")}); err != nil {
			s.Fatal(err)
		}
	})
	img := s.up.AddImage("team/closed", "v1", upstreamtest.Layers(1, 100<<10))
	s.pull("app/closed", "v1", img)
	s.settle()
	s.wantError(s.manifest("bob/closed", "v1"), 403, "DENIED")
	s.wantError(s.manifest("bob/closed", img.Digest.String()), 403, "DENIED")
	s.wantError(s.blob("bob/closed", img.Layers[0].Digest), 403, "DENIED")
	for _, q := range s.up.Requests() {
		if q.Kind == "token" {
			continue
		}
		for _, v := range q.Header {
			if strings.Contains(strings.Join(v, " "), "secret-") {
				t.Errorf("a password reached %s", q.Path)
			}
		}
	}
	if err := s.rules.SetAuth("bobs", set("alice")); err != nil {
		t.Fatal(err)
	}
	s.pull("bob/closed", "v1", img) // with the new one from now on
	r := s.get("/v2/app/closed/manifests/v1", "Authorization", "Bearer of-a-client", "Cookie", "c=of-a-client")
	if r.StatusCode != 200 {
		t.Errorf("status %d", r.StatusCode)
	}
	for _, q := range s.up.Requests() {
		if strings.Contains(q.Header.Get("Authorization")+q.Header.Get("Cookie"), "of-a-client") {
			t.Error("a client's Authorization or Cookie travelled upstream")
		}
	}
}

func TestNamespaceParameter(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	ns := "?ns=" + s.up.Host()
	for _, path := range []string{"/v2/app/api/manifests/v1" + ns, "/v2/team/api/manifests/v1" + ns} {
		if r := s.get(path); r.StatusCode != 200 || string(r.body) != string(img.Manifest) {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
	}
	if r := s.get("/v2/team/api/blobs/" + img.Layers[0].Digest.String() + ns); digest.FromBytes(r.body) != img.Layers[0].Digest {
		t.Errorf("blob by ns: %d", r.StatusCode)
	}
	s.wantError(s.get("/v2/team/api/manifests/v1?ns=elsewhere.example.com"), 404, "NAME_UNKNOWN")
}

func TestNextAndAuthorize(t *testing.T) {
	s := newStory(t, func(s *story) {
		s.cache.Next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("next " + r.URL.Path)) })
		s.cache.Authorize = func(r *http.Request, a cache.Access) error {
			switch r.Header.Get("Authorization") {
			case "":
				return &cache.Challenge{Header: `Bearer realm="https://auth.example.com/token"`}
			case "Bearer good":
				return nil
			}
			return errors.New("no")
		}
	})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	for _, path := range []string{"/v2/_catalog", "/v2/own/x/manifests/v1", "/elsewhere"} {
		if r := s.get(path); string(r.body) != "next "+path {
			t.Errorf("%s was not given to Next: %s", path, r.body)
		}
	}
	// /v2/ is where clients learn how to prove themselves.
	s.wantError(s.get("/v2/"), 401, "UNAUTHORIZED")
	s.wantError(s.get("/v2/", "Authorization", "Bearer bad"), 403, "DENIED")
	if r := s.get("/v2/", "Authorization", "Bearer good"); string(r.body) != "next /v2/" {
		t.Errorf("/v2/ was not given to Next: %s", r.body)
	}
	r := s.manifest("app/api", "v1")
	s.wantError(r, 401, "UNAUTHORIZED")
	if r.Header.Get("WWW-Authenticate") != `Bearer realm="https://auth.example.com/token"` {
		t.Error("no challenge")
	}
	s.wantError(s.get("/v2/app/api/manifests/v1", "Authorization", "Bearer bad"), 403, "DENIED")
	s.wantUpstream(nil)
	if r := s.get("/v2/app/api/manifests/v1", "Authorization", "Bearer good"); string(r.body) != string(img.Manifest) {
		t.Errorf("status %d", r.StatusCode)
	}
}

func TestAdmitKeepsTheFormerDigest(t *testing.T) {
	var mu sync.Mutex
	var asked []cache.Candidate
	hold := true
	s := newStory(t, func(s *story) {
		s.cache.Admit = func(_ context.Context, c cache.Candidate) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, c)
			if c.Former != "" && hold {
				return errors.New("not scanned yet")
			}
			if c.Tag == "bad" {
				return &cache.Hold{Until: time.Now().Add(time.Hour), Reason: "too young"}
			}
			return nil
		}
	})
	first := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.pull("app/api", "v1", first)
	s.settle()
	second := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 2000))
	s.pull("app/api", "v1", first)
	s.settle()
	mu.Lock()
	hold = false
	mu.Unlock()
	s.pull("app/api", "v1", second)
	s.settle() // its copy asks too
	s.up.Tag("team/api", "bad", first.Digest)
	r := s.manifest("app/api", "bad")
	s.wantError(r, 403, "DENIED")
	if !strings.Contains(string(r.body), "too young") {
		t.Errorf("the reason is not told: %s", r.body)
	}
	mu.Lock()
	n := len(asked)
	mu.Unlock()
	s.wantError(s.manifest("app/api", "bad"), 403, "DENIED")
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != n {
		t.Error("a held digest is asked for again before its time")
	}
}

func TestLoopOfCaches(t *testing.T) {
	s := newStory(t, func(s *story) { s.cache.ID = "me" })
	s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	s.wantError(s.get("/v2/app/api/manifests/v1", "CDN-Loop", "other, me"), 508, "UNKNOWN")
	s.wantError(s.get("/v2/app/api/manifests/v1", "CDN-Loop", "a, b, c"), 508, "UNKNOWN")
	s.wantUpstream(nil)
	if r := s.get("/v2/app/api/manifests/v1", "CDN-Loop", "other, another"); r.StatusCode != 200 {
		t.Errorf("status %d", r.StatusCode)
	}
	for _, q := range s.up.Requests() {
		if l := q.Header.Get("CDN-Loop"); !strings.HasSuffix(l, "me") {
			t.Errorf("%s %s carries CDN-Loop %q", q.Method, q.Path, l)
		}
	}
}
