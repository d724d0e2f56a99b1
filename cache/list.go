package cache

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// pageSize is how many names an answer has at most when the client does not
// say, and pageMost whatever it says.
const (
	pageSize = 1000
	pageMost = 10000
)

// tags answers tags/list: the upstream's, or the stored ones when it cannot be
// asked.
func (q *request) tags() error {
	query := q.r.URL.Query()
	query.Del("ns")
	name := q.route.Repository
	if l, ok := q.lister(); ok {
		page, err := l.Tags(q.via(), query)
		q.e.heard(q.place, err)
		q.state(fwd("miss", err), err)
		if err == nil {
			return q.list(map[string]any{"name": name, "tags": nonNil(page.Tags)}, page.Next)
		}
		if !q.standIn(err) {
			return q.fail(kindTags, err)
		}
	}
	s, ok := store.As[store.Lister](q.e.store)
	if !ok {
		return q.fail(kindTags, errNoRule)
	}
	n, last, bad := paging(query)
	if bad != nil {
		return q.fail(kindTags, bad)
	}
	tags, next, err := page(s.TagNames(q.r.Context(), q.place.repo, last), n)
	if err != nil {
		return q.fail(kindTags, err)
	}
	if len(tags) == 0 && last == "" && n != 0 {
		return q.fail(kindTags, errNoRule)
	}
	q.stored()
	return q.list(map[string]any{"name": name, "tags": nonNil(tags)}, next)
}

// lister is the upstream's ability to list tags, if it can be asked now.
func (q *request) lister() (upstream.TagLister, bool) {
	if q.place.match == nil {
		return nil, false
	}
	if err, due := q.e.trouble(q.place); err != nil && !due {
		q.state(fwd("stale", err), nil)
		return nil, false
	}
	l, ok := q.place.up.(upstream.TagLister)
	return l, ok
}

// stored says that what is listed is what is here.
func (q *request) stored() {
	if q.place.match == nil {
		q.state("hit", nil)
		return
	}
	q.w.Header()["Cache-Status"] = []string{"pullthrough; fwd=stale; detail=stored"}
}

// standIn reports whether what is stored may stand in for an upstream that
// answered with err.
func (q *request) standIn(err error) bool {
	class, ok := upstream.ClassOf(err)
	return ok && (class == upstream.Unreachable || class == upstream.Limited)
}

// via is the request's context with the caches it has passed.
func (q *request) via() context.Context {
	value := q.place.loop
	if value == "" {
		value = q.e.id
	}
	return upstream.WithLoop(q.r.Context(), value)
}

// referrers answers what refers to a manifest: the upstream's, or the stored
// ones when it cannot be asked.
func (q *request) referrers(d digest.Digest) error {
	query := q.r.URL.Query()
	query.Del("ns")
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var l upstream.ReferrerLister
	if q.place.match != nil {
		if err, due := q.e.trouble(q.place); err == nil || due {
			l, _ = q.place.up.(upstream.ReferrerLister)
		}
	}
	if l != nil {
		page, err := l.Referrers(q.via(), d, query)
		q.e.heard(q.place, err)
		q.state(fwd("miss", err), err)
		if err == nil {
			if page.FiltersApplied != "" {
				q.w.Header().Set("OCI-Filters-Applied", page.FiltersApplied)
			}
			index.Manifests = nonNil(page.Manifests)
			return q.send(ocispec.MediaTypeImageIndex, index, page.Next)
		}
		if !q.standIn(err) {
			return q.fail(kindReferrers, err)
		}
	}
	s, ok := store.As[store.Lister](q.e.store)
	index.Manifests = []ocispec.Descriptor{}
	if ok {
		want := query.Get("artifactType")
		for desc, err := range s.Referrers(q.r.Context(), q.place.repo, d) {
			if err != nil {
				return q.fail(kindReferrers, err)
			}
			if want == "" || desc.ArtifactType == want {
				index.Manifests = append(index.Manifests, desc)
			}
		}
		if want != "" {
			q.w.Header().Set("OCI-Filters-Applied", "artifactType")
		}
	}
	q.stored()
	return q.send(ocispec.MediaTypeImageIndex, index, nil)
}

// catalog answers with the repositories that are stored.
func (q *request) catalog() error {
	s, ok := store.As[store.Lister](q.e.store)
	if !ok {
		return q.fail(kindCatalog, &Error{Status: http.StatusNotFound, Code: CodeUnsupported, Message: "the store cannot list"})
	}
	n, last, bad := paging(q.r.URL.Query())
	if bad != nil {
		return q.fail(kindCatalog, bad)
	}
	names, next, err := page(s.Repositories(q.r.Context(), last), n)
	if err != nil {
		return q.fail(kindCatalog, err)
	}
	q.state("hit", nil)
	return q.list(map[string]any{"repositories": nonNil(names)}, next)
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// paging reads n and last.
func paging(query url.Values) (n int, last string, bad *Error) {
	n = pageSize
	if v := query.Get("n"); v != "" {
		i, err := strconv.Atoi(v)
		if err != nil || i < 0 {
			return 0, "", &Error{Status: http.StatusBadRequest, Code: CodeUnknown, Message: "n must be a number that is not negative"}
		}
		n = min(i, pageMost)
	}
	return n, query.Get("last"), nil
}

// page takes n names, and the query of the next page if there are more.
func page(names iter.Seq2[string, error], n int) (list []string, next url.Values, err error) {
	if n == 0 {
		return nil, nil, nil
	}
	for name, err := range names {
		if err != nil {
			return nil, nil, err
		}
		if len(list) == n {
			return list, url.Values{"n": {strconv.Itoa(n)}, "last": {list[n-1]}}, nil
		}
		list = append(list, name)
	}
	return list, nil, nil
}

func (q *request) list(body any, next url.Values) error {
	return q.send("application/json", body, next)
}

// send writes a list. Its Link is ours, with local names.
func (q *request) send(mediaType string, body any, next url.Values) error {
	data, err := json.Marshal(body)
	if err != nil {
		return q.fail(kindTags, err)
	}
	h := q.w.Header()
	if next != nil {
		if ns := q.r.URL.Query().Get("ns"); ns != "" {
			next.Set("ns", ns)
		}
		h.Set("Link", "<"+q.r.URL.EscapedPath()+"?"+next.Encode()+`>; rel="next"`)
	}
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	h.Set("X-Content-Type-Options", "nosniff")
	q.w.WriteHeader(http.StatusOK)
	if q.r.Method != http.MethodHead {
		_, _ = q.w.Write(data)
	}
	return nil
}
