package mirror_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/examples/proxy/mirror"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// network sends requests to the registry of their host.
type network map[string]http.RoundTripper

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	if n[r.URL.Host] == nil {
		return nil, errors.New("no such host")
	}
	return n[r.URL.Host].RoundTrip(r)
}

// scene is a registry with two mirrors, of which the first has the repositories below hub.
type scene struct {
	t                   *testing.T
	home, first, second *upstreamtest.Registry
	upstream            *mirror.Upstream
	img                 upstreamtest.Image // tag v1 of team/app, which all have
	mu                  sync.Mutex
	log                 bytes.Buffer
}

// inBubble runs a test with a scene in fake time.
func inBubble(t *testing.T, test func(s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, home: upstreamtest.NewHandler(), first: upstreamtest.NewHandler(), second: upstreamtest.NewHandler()}
		s.img = s.home.AddImage("team/app", "v1", upstreamtest.Layers(1, 100_000))
		s.first.AddImage("hub/team/app", "v1", upstreamtest.Layers(1, 100_000))
		s.second.AddImage("team/app", "v1", upstreamtest.Layers(1, 100_000))
		s.upstream = &mirror.Upstream{Log: slog.New(slog.NewTextHandler(s, nil)), Opener: &upstream.Client{Transport: network{
			"registry.example.com": s.home.Transport(), "first.example.com": s.first.Transport(), "second.example.com": s.second.Transport(),
		}}}
		s.upstream.Set(s.mirrors())
		test(s)
		for _, r := range []*upstreamtest.Registry{s.home, s.first, s.second} {
			r.Release()
			for _, complaint := range r.Complaints() {
				t.Error(complaint)
			}
		}
	})
}

// mirrors are the two of the scene.
func (s *scene) mirrors() map[string][]mirror.Mirror {
	return map[string][]mirror.Mirror{"registry.example.com": {{Host: "first.example.com", Prefix: "hub"}, {Host: "second.example.com"}}}
}

// Write takes the log.
func (s *scene) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// repo opens team/app by a rule.
func (s *scene) repo(rule string, a auth.Authenticator) upstream.Repository {
	s.t.Helper()
	r, err := s.upstream.Open(upstream.Source{Rule: rule, Host: "registry.example.com", Repository: "team/app"}, a)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// blob reads the layer of the image from an offset on.
func (s *scene) blob(r upstream.Repository, offset int64) error {
	s.t.Helper()
	layer := s.img.Layers[0].Digest
	body, err := r.Blob(s.t.Context(), layer, offset, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err == nil && !bytes.Equal(data, s.home.Blob("team/app", layer)[offset:]) {
		s.t.Error("the blob is another one")
	}
	return err
}

// want fails unless the registries got so many requests since the last call.
func (s *scene) want(what string, home, first, second int) {
	s.t.Helper()
	for _, r := range []struct {
		name string
		*upstreamtest.Registry
		want int
	}{{"the host", s.home, home}, {"the first mirror", s.first, first}, {"the second mirror", s.second, second}} {
		if n := r.Count("", "", ""); n != r.want {
			s.t.Errorf("%s: %s got %d requests, want %d: %+v", what, r.name, n, r.want, r.Requests())
		}
		r.Reset()
	}
}

// manifest reads a manifest by tag or digest.
func (s *scene) manifest(r upstream.Repository, reference string) (digest.Digest, error) {
	s.t.Helper()
	desc, body, err := r.Manifest(s.t.Context(), reference)
	if err == nil && digest.FromBytes(body) != desc.Digest {
		s.t.Error("the manifest is another one")
	}
	return desc.Digest, err
}

// TestContentComesFromMirrors: the host says what a tag stands for, and the first mirror gives
// the content.
func TestContentComesFromMirrors(t *testing.T) {
	inBubble(t, func(s *scene) {
		r := s.repo("r", nil)
		if d, err := s.manifest(r, "v1"); err != nil || d != s.img.Digest {
			t.Fatal(d, err)
		}
		s.want("manifest by tag", 1, 1, 0)
		if d, err := s.manifest(r, s.img.Digest.String()); err != nil || d != s.img.Digest {
			t.Fatal(d, err)
		}
		if err := s.blob(r, 0); err != nil {
			t.Fatal(err)
		}
		if desc, err := r.StatBlob(s.t.Context(), s.img.Config.Digest); err != nil || desc.Size != s.img.Config.Size {
			t.Fatal(desc, err)
		}
		s.want("content by digest", 0, 3, 0)
		if desc, err := r.Resolve(s.t.Context(), "v1"); err != nil || desc.Digest != s.img.Digest {
			t.Fatal(desc, err)
		}
		s.want("tag", 1, 0, 0)
		if tags, ok := upstream.As[upstream.TagLister](r); !ok {
			t.Error("the list of tags is lost")
		} else if page, err := tags.Tags(s.t.Context(), nil); err != nil || len(page.Tags) != 1 {
			t.Error(page, err)
		}
		if o, ok := upstream.As[upstream.Originator](r); !ok || o.Origin() != "https://registry.example.com" {
			t.Error("the origin is not the host")
		}
		s.want("list of tags", 1, 0, 0)
	})
}

// TestTagOfTheHostCounts: a mirror that has another digest for a tag is not believed, unless it
// may say what tags stand for.
func TestTagOfTheHostCounts(t *testing.T) {
	inBubble(t, func(s *scene) {
		old := s.first.AddImage("hub/team/app", "v1", upstreamtest.Layers(1, 50_000))
		r := s.repo("r", nil)
		if d, err := s.manifest(r, "v1"); err != nil || d != s.img.Digest {
			t.Errorf("%s, %v: the tag of the mirror is served", d, err)
		}
		trusted := s.mirrors()
		trusted["registry.example.com"][0].Tags = true
		s.upstream.Set(trusted)
		if d, err := s.manifest(r, "v1"); err != nil || d != old.Digest {
			t.Errorf("%s, %v, want the tag of the mirror", d, err)
		}
		if desc, err := r.Resolve(s.t.Context(), "v1"); err != nil || desc.Digest != old.Digest {
			t.Errorf("%s, %v, want the tag of the mirror", desc.Digest, err)
		}
		known, ok := upstream.As[upstream.Conditional](r)
		if !ok {
			t.Fatal("conditional requests are lost")
		}
		if _, _, err := known.ManifestUnless(s.t.Context(), "v1", old.Digest); !errors.Is(err, upstream.ErrUnchanged) {
			t.Errorf("%v, want that the tag of the mirror has not changed", err)
		}
		s.first.Untag("hub/team/app", "v1") // then the host is asked
		if d, err := s.manifest(r, "v1"); err != nil || d != s.img.Digest {
			t.Errorf("%s, %v, want the tag of the host", d, err)
		}
		if _, _, err := known.ManifestUnless(s.t.Context(), "v1", s.img.Digest); !errors.Is(err, upstream.ErrUnchanged) {
			t.Errorf("%v, want that the tag of the host has not changed", err)
		}
	})
}

// TestHostHasTheLastWord: what the host refuses or does not have is refused, whatever mirrors
// have for its tag.
func TestHostHasTheLastWord(t *testing.T) {
	for _, test := range []struct {
		status int
		want   upstream.Class
	}{{404, upstream.NotFound}, {403, upstream.Denied}, {429, upstream.Limited}, {503, upstream.Unreachable}} {
		inBubble(t, func(s *scene) {
			s.home.Fail(upstreamtest.Fault{Kind: "manifest", Status: test.status})
			_, err := s.manifest(s.repo("r", nil), "v1")
			e, ok := errors.AsType[*upstream.Error](err)
			if !ok || e.Class != test.want || e.Source.Host != "registry.example.com" {
				t.Errorf("%d: %v, want %v of the host", test.status, err, test.want)
			}
		})
	}
	inBubble(t, func(s *scene) { // a host without HEAD
		s.home.Fail(upstreamtest.Fault{Method: "HEAD", Status: 405})
		if d, err := s.manifest(s.repo("r", nil), "v1"); err != nil || d != s.img.Digest {
			t.Errorf("%s, %v", d, err)
		}
	})
}

// TestMirrorWithoutTheContent: the next mirror is asked, then the host. It is no failure of a
// mirror not to have everything, or to refuse it.
func TestMirrorWithoutTheContent(t *testing.T) {
	for _, status := range []int{404, 403} {
		inBubble(t, func(s *scene) {
			s.first.Fail(upstreamtest.Fault{Kind: "blob", Status: status, Times: 2})
			r := s.repo("r", nil)
			if err := s.blob(r, 0); err != nil {
				t.Fatal(err)
			}
			s.want("with the second", 0, 1, 1)
			s.second.Fail(upstreamtest.Fault{Kind: "blob", Status: status, Times: 1})
			if err := s.blob(r, 1); err != nil {
				t.Fatal(err)
			}
			s.want("with neither", 1, 1, 1)
			if err := s.blob(r, 1); err != nil {
				t.Fatal(err)
			}
			s.want("with the first again", 0, 1, 0)
		})
	}
	inBubble(t, func(s *scene) { // a manifest whose bytes are others
		s.first.Fail(upstreamtest.Fault{Kind: "manifest", Flip: true, FlipAt: 5})
		if d, err := s.manifest(s.repo("r", nil), s.img.Digest.String()); err != nil || d != s.img.Digest {
			t.Error(d, err)
		}
		s.want("wrong manifest", 0, 1, 1)
	})
}

// TestCredentialsOfTheRuleStayAtTheHost: a mirror sees a credential of its own, or none.
func TestCredentialsOfTheRuleStayAtTheHost(t *testing.T) {
	login := func(host, user, password string) auth.Authenticator {
		return &auth.CredentialSet{Name: user, LoginServer: host, Username: auth.Value{Text: auth.NewSensitive(user)}, Password: auth.Value{Text: auth.NewSensitive(password)}}
	}
	inBubble(t, func(s *scene) {
		s.home.RequireBasic(map[string]string{"alice": "secret-of-alice"})
		s.second.RequireBasic(map[string]string{"cache": "secret-of-mirror"})
		mirrors := s.mirrors()
		mirrors["registry.example.com"][1].Auth = login("second.example.com", "cache", "secret-of-mirror")
		s.upstream.Set(mirrors)
		s.first.RequireBasic(map[string]string{"alice": "secret-of-alice"}) // it would take that of the rule
		r := s.repo("r", login("registry.example.com", "alice", "secret-of-alice"))
		if d, err := s.manifest(r, "v1"); err != nil || d != s.img.Digest {
			t.Fatal(d, err)
		}
		if err := s.blob(r, 0); err != nil {
			t.Fatal(err)
		}
		for _, q := range s.first.Requests() {
			if q.Header.Get("Authorization") != "" {
				t.Error("the first mirror saw a credential")
			}
		}
		if layer := s.img.Layers[0].Digest; s.second.BlobBytes(layer) == 0 || s.home.BlobBytes(layer) > 0 {
			t.Error("the blob does not come from the mirror that wants a credential of its own")
		}
	})
}
