package upstream_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// tagsOf follows a list to its end.
func (s *side) tagsOf(query url.Values) (tags []string, pages int) {
	s.Helper()
	l, _ := upstream.As[upstream.TagLister](s.repo("a"))
	for {
		page, err := l.Tags(s.Context(), query)
		if err != nil {
			s.Fatal(err)
		}
		tags, pages = append(tags, page.Tags...), pages+1
		if query = page.Next; query == nil {
			return tags, pages
		}
		if pages > 50 {
			s.Fatal("the list does not end")
		}
	}
}

// pager answers tags/list by pages of five out of twelve tags, with a Link of the
// given shape.
func pager(shape string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Query().Get("last"), "v"))
		var tags []string
		for i := from + 1; i <= min(from+5, 12); i++ {
			tags = append(tags, fmt.Sprintf(`"v%02d"`, i))
		}
		if from+5 < 12 {
			w.Header().Set("Link", fmt.Sprintf(shape, from+5))
		}
		_, _ = fmt.Fprintf(w, `{"name":"a","tags":[%s]}`, strings.Join(tags, ","))
	}
}

// The next page is where its query says, whatever path the Link has.
func TestPagesOfAllShapes(t *testing.T) {
	for _, shape := range []string{
		`</v2/a/tags/list?last=v%02d&n=5>; rel="next"`,
		`</artifactory/api/docker/hub/v2/a/tags/list?last=v%02d&n=5>; rel="next"`,
		`</repository/hub/v2/a/tags/list?n=5&last=v%02d>; rel="next"`,
		`<http://internal.example:8081/v2/a/tags/list?last=v%02d>;rel=next`,
		`<?last=v%02d>; rel="next"`,
		`<list?last=v%02d>; rel="next"; title="x"`,
	} {
		s := newSide(t)
		s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: pager(shape)})
		if tags, pages := s.tagsOf(url.Values{}); len(tags) != 12 || pages != 3 || tags[11] != "v12" {
			t.Errorf("%s: %d pages, %q", shape, pages, tags)
		}
	}
}

// An upstream that does not allow so many tags at once is asked for fewer.
func TestSmallerPages(t *testing.T) {
	for _, c := range []struct {
		status, most, n int
		asked           []string
	}{
		{405, 1000, 10000, []string{"10000", "1000"}},
		{413, 100, 10000, []string{"10000", "1000", "100"}},
		{400, 50, 200, []string{"200", "100", "50"}},
		{422, 100, 101, []string{"101", "100"}},
	} {
		s := newSide(t)
		var asked []string
		s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.URL.Query().Get("n"))
			if asked = append(asked, r.URL.Query().Get("n")); n > c.most {
				w.WriteHeader(c.status)
				return
			}
			_, _ = w.Write([]byte(`{"tags":["v1"]}`))
		}})
		if tags, _ := s.tagsOf(url.Values{"n": {strconv.Itoa(c.n)}}); len(tags) != 1 || !slices.Equal(asked, c.asked) {
			t.Errorf("%d: tags %q after questions for %q", c.status, tags, asked)
		}
	}
	for _, c := range []struct {
		n      string
		status int
		asked  int
	}{{"", 400, 1}, {"50", 405, 1}, {"10000", 400, 4}, {"10000", 404, 1}, {"10000", 403, 1}, {"10000", 503, 1}} {
		s := newSide(t)
		s.up.Fail(upstreamtest.Fault{Kind: "tags", Status: c.status})
		query := url.Values{}
		if c.n != "" {
			query.Set("n", c.n)
		}
		l, _ := upstream.As[upstream.TagLister](s.repo("a"))
		_, err := l.Tags(t.Context(), query)
		if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Status != c.status || s.up.Count("", "tags", "") != c.asked {
			t.Errorf("n=%s, %d: %v after %d questions, want %d", c.n, c.status, err, s.up.Count("", "tags", ""), c.asked)
		}
	}
}

// A list of 100,000 tags comes in one answer, in bounded memory.
func TestHundredThousandTags(t *testing.T) {
	s := newSide(t)
	s.client.TotalTimeout = time.Hour // it takes seconds on a busy machine
	pad := strings.Repeat("x", 100)
	s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, `{"name":"a","more":{"x":[1,{}]},"tags":["v0"`)
		for i := 1; i < 100_000; i++ {
			_, _ = fmt.Fprintf(w, `,"v%d-%s"`, i, pad)
		}
		_, _ = fmt.Fprint(w, `]}`)
	}})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tags, _ := s.tagsOf(url.Values{})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(tags) != 100_000 || tags[99_999] != "v99999-"+pad {
		t.Fatalf("%d tags", len(tags))
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("%d bytes are held for a list of 11 MB", grown)
	}
	s.up.Heal()
	s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, `{"tags":["v0"`)
		for range 200_000 { // more than is read of any list
			if _, err := fmt.Fprintf(w, `,"v-%s"`, pad); err != nil {
				return
			}
		}
	}})
	l, _ := upstream.As[upstream.TagLister](s.repo("a"))
	_, err := l.Tags(t.Context(), nil)
	if e := s.want(err, upstream.Protocol); !strings.Contains(e.Reason, "too large") {
		t.Errorf("an endless list: %v", err)
	}
}

func TestBrokenTagLists(t *testing.T) {
	for body, class := range map[string]upstream.Class{
		`{"tags":["v1"]`: upstream.Protocol, `{"tags":"v1"}`: upstream.Protocol, `{"tags":[1]}`: upstream.Protocol, `["v1"]`: upstream.Protocol, ``: upstream.Protocol, `<html>`: upstream.Protocol,
	} {
		s := newSide(t)
		s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }})
		l, _ := upstream.As[upstream.TagLister](s.repo("a"))
		_, err := l.Tags(t.Context(), nil)
		s.want(err, class)
	}
	for _, body := range []string{`{"tags":null}`, `{"name":"a"}`, `{"tags":[]}`, `{}`} {
		s := newSide(t)
		s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }})
		if tags, _ := s.tagsOf(nil); len(tags) != 0 {
			t.Errorf("%s: %q", body, tags)
		}
	}
	s := newSide(t)
	s.up.Fail(upstreamtest.Fault{Kind: "tags", Do: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"tags":["v1",`))
		panic(http.ErrAbortHandler)
	}})
	l, _ := upstream.As[upstream.TagLister](s.repo("a"))
	_, err := l.Tags(t.Context(), nil)
	s.want(err, upstream.Unreachable)
}

// An upstream that has no referrers API, in whatever words, has the fallback tag;
// and is not asked for the API again for a while.
func TestWithoutTheReferrersAPI(t *testing.T) {
	for _, status := range []int{400, 404, 405, 406, 410, 415, 501} {
		s := newSide(t)
		img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100))
		sig := s.up.AddArtifact("a", "", "application/signature", img, []byte("signed"))
		s.up.NoReferrers()
		s.up.Fail(upstreamtest.Fault{Kind: "referrers", Status: status})
		l, _ := upstream.As[upstream.ReferrerLister](s.repo("a"))
		for range 3 {
			page, err := l.Referrers(t.Context(), img.Digest, nil)
			if err != nil || len(page.Manifests) != 1 || page.Manifests[0].Digest != sig.Digest {
				t.Errorf("%d: %+v, %v", status, page, err)
			}
		}
		if n := s.up.Count("", "referrers", ""); n != 1 {
			t.Errorf("%d: the API was asked for %d times, want once", status, n)
		}
	}
	for _, status := range []int{401, 403, 429, 500, 503} {
		s := newSide(t)
		img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100))
		s.up.Fail(upstreamtest.Fault{Kind: "referrers", Status: status})
		l, _ := upstream.As[upstream.ReferrerLister](s.repo("a"))
		if page, err := l.Referrers(t.Context(), img.Digest, nil); err == nil {
			t.Errorf("%d: %+v, want an error", status, page)
		}
	}
}

// A filter that the upstream does not apply is applied here, and said.
func TestReferrersAreFiltered(t *testing.T) {
	list := []ocispec.Descriptor{
		{Digest: digest.FromString("a"), ArtifactType: "application/sbom"}, {Digest: digest.FromString("b"), ArtifactType: "application/signature"}, {Digest: digest.FromString("c")},
	}
	for applied, n := range map[string]int{"": 1, "other": 1, "artifactType": 3, "other, artifactType": 3} {
		page := upstream.ReferrerPage{Manifests: slices.Clone(list), FiltersApplied: applied}
		got := page.Filter("application/sbom")
		if len(got.Manifests) != n || !strings.Contains(got.FiltersApplied, "artifactType") || len(page.Manifests) != 3 || page.Manifests[2].Digest != list[2].Digest {
			t.Errorf("%q: %+v", applied, got)
		}
		if all := page.Filter(""); len(all.Manifests) != 3 || all.FiltersApplied != applied {
			t.Errorf("without a type: %+v", all)
		}
	}
	s := newSide(t)
	img := s.up.AddImage("a", "v1", upstreamtest.Layers(1, 100))
	s.up.AddArtifact("a", "", "application/signature", img, []byte("signed"))
	s.up.AddArtifact("a", "", "application/sbom", img, []byte("parts"))
	s.up.Fail(upstreamtest.Fault{Kind: "referrers", Do: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_, _ = fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[{"digest":%q,"size":1,"artifactType":"application/sbom"},{"digest":%q,"size":1,"artifactType":"x"}]}`, list[0].Digest, list[1].Digest)
	}})
	l, _ := upstream.As[upstream.ReferrerLister](s.repo("a"))
	page, err := l.Referrers(t.Context(), img.Digest, url.Values{"artifactType": {"application/sbom"}})
	if err != nil || len(page.Manifests) != 1 || page.FiltersApplied != "artifactType" {
		t.Errorf("%+v, %v", page, err)
	}
}

// wrapped is a Repository of an embedder's that adds something to another one.
type wrapped struct{ upstream.Repository }

func (w wrapped) Unwrap() upstream.Repository { return w.Repository }

// bare wraps without saying so.
type bare struct{ upstream.Repository }

func TestAsLooksThroughWrappers(t *testing.T) {
	s := newSide(t)
	inner := s.repo("a")
	if _, ok := upstream.As[upstream.TagLister](wrapped{wrapped{inner}}); !ok {
		t.Error("an ability is not found through two wrappers")
	}
	if o, ok := upstream.As[upstream.Originator](wrapped{inner}); !ok || o.Origin() != "http://"+s.up.Host() {
		t.Error("the origin is not found")
	}
	if _, ok := upstream.As[upstream.TagLister](bare{inner}); ok {
		t.Error("an ability is found through something that does not unwrap")
	}
	if _, ok := upstream.As[upstream.TagLister](nil); ok {
		t.Error("nothing has an ability")
	}
}
