package cache_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// A query that cannot be is refused, before anybody is asked.
func TestQueriesOfLists(t *testing.T) {
	s := newStory(t)
	img := s.twelve()
	for _, path := range []string{
		tagsOfAPI + "?n=x", tagsOfAPI + "?n=-1", tagsOfAPI + "?n=1.5", "/v2/app/api/referrers/" + img.Digest.String() + "?n=x", "/v2/_catalog?n=x",
		tagsOfAPI + "?last=" + strings.Repeat("x", 5000), tagsOfAPI + "?x=1", tagsOfAPI + "?n=5&next_page=y", "/v2/app/api/referrers/" + img.Digest.String() + "?digest=x",
	} {
		if r := s.get(path); r.StatusCode != 400 {
			t.Errorf("%.60s: %d %s", path, r.StatusCode, r.body)
		}
	}
	s.wantUpstream(nil)
	for n, want := range map[string]int{"0": 0, "5": 5, "12": 12, "100": 12} {
		if tags, _, r := s.tagList(tagsOfAPI + "?n=" + n); len(tags) != want || r.StatusCode != 200 {
			t.Errorf("n=%s: %q", n, tags)
		}
	}
}

// Many who want the same list ask once or twice, and a long one comes whole.
func TestLongListForMany(t *testing.T) {
	long := upstreamtest.Fault{Kind: "tags", Latency: 100 * time.Millisecond, Do: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"tags":["v0"`)
		for i := 1; i < 100_000; i++ {
			_, _ = fmt.Fprintf(w, `,"v%d"`, i)
		}
		_, _ = fmt.Fprint(w, `]}`)
	}}
	storyInBubble(t, func(s *story) { // where no time passes before all have asked
		s.up.Fail(long)
		counts := make(chan int)
		for range 20 {
			go func() {
				tags, _, _ := s.tagList(tagsOfAPI)
				counts <- len(tags)
			}()
		}
		for range 20 {
			if n := <-counts; n != 100_000 {
				s.Errorf("%d tags", n)
			}
		}
		if n := s.up.Count("", "tags", ""); n > 2 {
			s.Errorf("the upstream was asked %d times for 20 clients", n)
		}
	})
	s := newStory(t)
	s.up.Fail(long)
	if tags, _, _ := s.tagList(tagsOfAPI); len(tags) != 100_000 {
		t.Errorf("%d tags over HTTP", len(tags))
	}
}

// The next page is where the client asks, also behind a StripPrefix.
func TestLinkBehindStripPrefix(t *testing.T) {
	s := newStory(t)
	s.twelve()
	web := httptest.NewServer(http.StripPrefix("/registry", s.cache))
	defer web.Close()
	for path, want := range map[string]string{
		"/registry/v2/app/api/tags/list?n=5":      "</registry/v2/app/api/tags/list?last=v05&n=5>",
		"/registry/v2/app/api/tags/list?n=5&ns=x": "",
	} {
		resp, err := web.Client().Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if link := resp.Header.Get("Link"); want != "" && !strings.HasPrefix(link, want) {
			t.Errorf("%s: Link %q, want %q", path, link, want)
		}
	}
	if _, next, _ := s.tagList(tagsOfAPI + "?n=5"); next != "/v2/app/api/tags/list?last=v05&n=5" {
		t.Errorf("without a prefix: %q", next)
	}
}

// The query of a next page is the upstream's own, and is what a client may say too.
func TestNextPagesInTheUpstreamsWords(t *testing.T) {
	s := newStory(t)
	s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RawQuery {
		case "":
			w.Header().Set("Link", `</v2/x/tags/list?next_page=abc%3D&n=2>; rel="next"`)
			_, _ = w.Write([]byte(`{"tags":["a","b"]}`))
		case "n=2&next_page=abc%3D":
			_, _ = w.Write([]byte(`{"tags":["c"]}`))
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	}})
	if r := s.get(tagsOfAPI + "?n=2&next_page=abc%3D"); r.StatusCode != 400 {
		t.Errorf("a page that nobody was sent to: %d", r.StatusCode)
	}
	if tags := s.allTags(tagsOfAPI); !slices.Equal(tags, []string{"a", "b", "c"}) {
		t.Errorf("%q", tags)
	}
	if r := s.get("/v2/app/other/tags/list?n=2&next_page=abc%3D"); r.StatusCode != 400 {
		t.Errorf("a page of another repository: %d", r.StatusCode)
	}
}

// What a whole list says is newer than pages that were got before it.
func TestPagesOlderThanTheList(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "a", upstreamtest.Layers(1, 100))
	for _, tag := range []string{"b", "c", "d"} {
		s.up.Tag("team/api", tag, img.Digest)
	}
	if tags := s.allTags(tagsOfAPI + "?n=2"); len(tags) != 4 {
		t.Fatalf("%q", tags)
	}
	for _, tag := range []string{"e", "f"} {
		s.up.Tag("team/api", tag, img.Digest)
	}
	s.tagList(tagsOfAPI + "?n=100")
	s.up.Fail(upstreamtest.Fault{Status: 503})
	s.kept(tagsOfAPI)
	if tags := s.allTags(tagsOfAPI + "?n=2"); len(tags) != 6 {
		t.Errorf("the pages have %q of six tags", tags)
	}
}

// A part whose next page cannot be asked for does not pass for the whole.
func TestNextPageThatCannotBeFollowed(t *testing.T) {
	s := newStory(t)
	img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 100))
	for kind, path := range map[string]string{"tags": tagsOfAPI, "referrers": "/v2/app/api/referrers/" + img.Digest.String()} {
		s.up.Fail(upstreamtest.Fault{Kind: kind, Do: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<"+r.URL.Path+`/page/2>; rel="next"`)
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[],"tags":["a","b"]}`))
		}})
		r := s.get(path)
		s.wantError(r, 502, "UNKNOWN")
		if !strings.Contains(string(r.body), "next page") {
			t.Errorf("%s: %s", kind, r.body)
		}
	}
}
