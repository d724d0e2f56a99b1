package cache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// twelve adds an image with the tags v01 to v12.
func (s *story) twelve() upstreamtest.Image {
	img := s.up.AddImage("team/api", "v01", upstreamtest.Layers(1, 1000))
	for i := 2; i <= 12; i++ {
		s.up.Tag("team/api", fmt.Sprintf("v%02d", i), img.Digest)
	}
	return img
}

// tagList gets one page of tags, and the path of the next.
func (s *story) tagList(path string) (tags []string, next string, r reply) {
	s.Helper()
	r = s.get(path)
	var list struct {
		Name string
		Tags []string
	}
	if r.StatusCode == 200 {
		if err := json.Unmarshal(r.body, &list); err != nil || list.Name == "" {
			s.Errorf("%s: %s: %v", path, r.body, err)
		}
		if r.Header.Get("Content-Length") != strconv.Itoa(len(r.body)) {
			s.Errorf("Content-Length %s of %d bytes", r.Header.Get("Content-Length"), len(r.body))
		}
	}
	if link := r.Header.Get("Link"); link != "" {
		next, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
	}
	return list.Tags, next, r
}

// allTags follows the pages to their end.
func (s *story) allTags(path string) (tags []string) {
	s.Helper()
	for pages := 0; path != "" && pages < 20; pages++ {
		page, next, r := s.tagList(path)
		if r.StatusCode != 200 {
			s.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
		tags, path = append(tags, page...), next
	}
	return tags
}

// kept waits until a list can be answered without the upstream.
func (s *story) kept(path string) {
	s.Helper()
	deadline := time.Now().Add(time.Minute)
	for s.get(path).StatusCode != 200 {
		if time.Now().After(deadline) {
			s.Fatalf("%s is not kept", path)
		}
		time.Sleep(time.Millisecond) // polls a condition; the deadline is the failure
	}
}

const tagsOfAPI = "/v2/app/api/tags/list"

// trouble is an upstream that cannot be asked, and what clients get who asked for
// something that nobody knows.
var troubles = map[string]struct {
	fault  upstreamtest.Fault
	stop   bool
	status int
	code   string
}{
	"429":     {fault: upstreamtest.Fault{Status: 429, RetryAfter: "30"}, status: 429, code: "TOOMANYREQUESTS"},
	"500":     {fault: upstreamtest.Fault{Status: 500}, status: 502, code: "UNKNOWN"},
	"503":     {fault: upstreamtest.Fault{Status: 503}, status: 502, code: "UNKNOWN"},
	"504":     {fault: upstreamtest.Fault{Status: 504}, status: 504, code: "UNKNOWN"},
	"hang":    {fault: upstreamtest.Fault{Hang: true}, status: 504, code: "UNKNOWN"},
	"refused": {stop: true, status: 502, code: "UNKNOWN"},
}

// A list that was seen whole is answered, and says that it is old; one that was not
// is an error that a manifest would get: no subset, and nothing empty.
func TestListsInTrouble(t *testing.T) {
	for name, c := range troubles {
		t.Run(name, func(t *testing.T) {
			storyInBubble(t, func(s *story) {
				img := s.twelve()
				sig := s.up.AddArtifact("team/api", "", "application/signature", img, []byte("signed"))
				sbom := s.up.AddArtifact("team/api", "", "application/sbom", img, []byte("parts"))
				other := s.up.AddImage("team/other", "v1", upstreamtest.Layers(1, 500))
				s.pull("app/api", "v01", img)
				s.pull("app/other", "v1", other)
				s.settle()
				referrers := "/v2/app/api/referrers/" + img.Digest.String()
				if tags := s.allTags(tagsOfAPI); len(tags) != 12 {
					s.Fatalf("%q", tags)
				}
				s.get(referrers)
				if c.stop {
					s.up.Stop()
				} else {
					s.up.Fail(c.fault)
				}
				s.kept(tagsOfAPI)
				s.kept(referrers)
				for range 2 {
					tags, _, r := s.tagList(tagsOfAPI)
					if len(tags) != 12 || !strings.Contains(r.Header.Get("Cache-Status"), "fwd=stale") || r.Header.Get("Age") == "" || !strings.Contains(r.Header.Get("Warning"), "299 - ") {
						s.Errorf("known: %q, %v", tags, r.Header)
					}
					if r.took > 200*time.Millisecond {
						s.Errorf("a known list took %v", r.took)
					}
				}
				if tags := s.allTags(tagsOfAPI + "?n=5"); len(tags) != 12 {
					s.Errorf("by pages of five: %q", tags)
				}
				if tags := s.allTags(tagsOfAPI + "?last=v10"); !slices.Equal(tags, []string{"v11", "v12"}) {
					s.Errorf("after v10: %q", tags)
				}
				for query, want := range map[string][]digest.Digest{"": {sig.Digest, sbom.Digest}, "?artifactType=application/sbom": {sbom.Digest}, "?artifactType=none": {}} {
					r := s.get(referrers + query)
					var index ocispec.Index
					if err := json.Unmarshal(r.body, &index); err != nil || r.StatusCode != 200 || len(index.Manifests) != len(want) {
						s.Errorf("referrers%s: %d %s, want %d", query, r.StatusCode, r.body, len(want))
					}
					if query != "" && r.Header.Get("OCI-Filters-Applied") != "artifactType" {
						s.Errorf("referrers%s: the filter is not said", query)
					}
				}
				// Nobody has asked for these, though an image of theirs is stored.
				for _, path := range []string{
					"/v2/app/other/tags/list", "/v2/app/other/referrers/" + other.Digest.String(), "/v2/app/nothing/tags/list",
					tagsOfAPI + "?last=v0x", referrers + "?artifactType=x&last=y",
				} {
					r := s.get(path)
					s.wantError(r, c.status, c.code)
					if name == "429" && r.Header.Get("Retry-After") == "" {
						s.Errorf("%s: no Retry-After", path)
					}
				}
			}, func(s *story) {
				s.cache.Limits.StaleTimeout, s.cache.Limits.AnswerTimeout = 200*time.Millisecond, time.Second
			})
		})
	}
}

// What refuses is told as it is, also if a former list is known.
func TestListsThatAreRefused(t *testing.T) {
	for status, want := range map[int]int{401: 403, 403: 403, 404: 404} {
		s := newStory(t)
		s.twelve()
		s.allTags(tagsOfAPI)
		s.up.Fail(upstreamtest.Fault{Kind: "tags", Status: status})
		if r := s.get(tagsOfAPI); r.StatusCode != want {
			t.Errorf("%d: %d %s", status, r.StatusCode, r.body)
		}
	}
}

// What is kept outlives the process, is kept for its own source only, and makes room.
func TestKeptLists(t *testing.T) {
	s := newStory(t, func(s *story) { onDir(s); s.cache.Limits.KeptBytes = 4096 })
	s.twelve()
	s.allTags(tagsOfAPI)
	s.up.Fail(upstreamtest.Fault{Status: 503})
	s.kept(tagsOfAPI)
	if err := s.cache.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &cache.Cache{Rules: s.rules, Store: s.cache.Store, Upstream: s.up.Client(), Limits: s.cache.Limits}
	t.Cleanup(func() {
		if err := c.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	list := func(repo string) int {
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/"+repo+"/tags/list", nil))
		return w.Code
	}
	if code := list("app/api"); code != 200 {
		t.Errorf("after a restart: %d", code)
	}
	s.up.Heal()
	for i := range 40 {
		repo := fmt.Sprintf("filler-%d", i)
		s.up.AddImage("team/"+repo, strings.Repeat("x", 100), nil)
		list("app/" + repo)
	}
	s.up.Fail(upstreamtest.Fault{Status: 503})
	deadline := time.Now().Add(time.Minute)
	for list("app/api") == 200 { // what is put is put behind the answer
		if time.Now().After(deadline) {
			t.Fatal("the oldest list makes no room")
		}
		time.Sleep(100 * time.Millisecond) // each look makes the list the latest again
	}
	records, _ := store.As[store.Records](s.cache.Store)
	for keys := 0; keys == 0 || keys > 16; time.Sleep(time.Millisecond) { // what makes room goes behind the answer too
		keys = 0
		for _, err := range records.RecordKeys(t.Context(), "lists") {
			if keys++; err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d lists are kept in 4 KiB", keys)
		}
	}
	s.replace(rule.Rule{Source: s.up.Host() + "/elsewhere/*"})
	if code := list("app/filler-39"); code == 200 {
		t.Error("a list of another source is answered")
	}
}

// A rule with Referrers lets verifiers work with the upstream gone, though nobody
// has asked for the list before.
func TestCopiedReferrersAreKnown(t *testing.T) {
	s := newStory(t)
	s.replace(rule.Rule{Referrers: true})
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
	sig := s.up.AddArtifact("team/api", "", "application/signature", img, []byte("signed"))
	bare := s.up.AddImage("team/api", "bare", upstreamtest.Layers(1, 2000))
	s.pull("app/api", "v1", img)
	s.pull("app/api", "bare", bare)
	s.settle()
	s.up.Stop()
	r := s.get("/v2/app/api/referrers/" + img.Digest.String())
	if r.StatusCode != 200 || !strings.Contains(string(r.body), sig.Digest.String()) {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	s.wantManifest("app/api", sig.Digest.String(), sig)
	r = s.get("/v2/app/api/referrers/" + bare.Digest.String())
	if r.StatusCode != 200 || !strings.Contains(string(r.body), `"manifests":[]`) || r.Header.Get("Age") == "" {
		t.Errorf("of a manifest that has none: %d %s %v", r.StatusCode, r.body, r.Header)
	}
}

// plainRepository is an embedder's that cannot list, and wraps one that can.
type plainRepository struct{ upstream.Repository }

// unwrapping says what it wraps.
type unwrapping struct{ plainRepository }

func (u unwrapping) Unwrap() upstream.Repository { return u.Repository }

// opener wraps what another one opens.
type opener struct {
	upstream.Opener
	wrap func(upstream.Repository) (upstream.Repository, error)
}

func (o opener) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	r, err := o.Opener.Open(s, a)
	if err != nil {
		return nil, err
	}
	return o.wrap(r)
}

// A wrapper that hides the ability to list is told from an upstream without lists,
// and one that says what it wraps hides nothing, not even where content comes from.
func TestWrappedRepositories(t *testing.T) {
	for name, hides := range map[string]bool{"hides": true, "unwraps": false} {
		s := newStory(t, func(s *story) {
			s.cache.Upstream = opener{s.up.Client(), func(r upstream.Repository) (upstream.Repository, error) {
				if hides {
					return plainRepository{r}, nil
				}
				return unwrapping{plainRepository{r}}, nil
			}}
		})
		img := s.twelve()
		s.pull("app/api", "v01", img)
		s.settle()
		tags, referrers := s.get(tagsOfAPI), s.get("/v2/app/api/referrers/"+img.Digest.String())
		if hides {
			s.wantError(tags, 405, "UNSUPPORTED")
			s.wantError(referrers, 405, "UNSUPPORTED")
			continue
		}
		if tags.StatusCode != 200 || referrers.StatusCode != 200 {
			t.Errorf("%s: %d, %d", name, tags.StatusCode, referrers.StatusCode)
		}
		if tag, err := s.cache.Store.Tag(t.Context(), "app/api", "v01"); err != nil || tag.Source != "http://"+s.up.Host()+"/team/api" {
			t.Errorf("the source of the tag is %q, %v", tag.Source, err)
		}
	}
}

// Repository wrapped without Unwrap filters nothing: the cache does.
type unfiltered struct {
	plainRepository
	list []ocispec.Descriptor
}

func (u unfiltered) Referrers(context.Context, digest.Digest, url.Values) (upstream.ReferrerPage, error) {
	return upstream.ReferrerPage{Manifests: u.list}, nil
}

func TestReferrersOfARepositoryThatDoesNotFilter(t *testing.T) {
	list := []ocispec.Descriptor{{Digest: digest.FromString("a"), ArtifactType: "application/sbom"}, {Digest: digest.FromString("b")}}
	s := newStory(t, func(s *story) {
		s.cache.Upstream = opener{s.up.Client(), func(r upstream.Repository) (upstream.Repository, error) {
			return unfiltered{plainRepository{r}, list}, nil
		}}
	})
	path := "/v2/app/api/referrers/" + digest.FromString("x").String()
	for query, n := range map[string]int{"": 2, "?artifactType=application/sbom": 1, "?artifactType=other": 0} {
		r := s.get(path + query)
		if got := strings.Count(string(r.body), `"digest"`); got != n || (r.Header.Get("OCI-Filters-Applied") != "") != (query != "") {
			t.Errorf("%q: %d manifests and %v", query, got, r.Header)
		}
	}
}
