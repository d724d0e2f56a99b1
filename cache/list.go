package cache

import (
	"bufio"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// pageSize is how many names an answer has at most when the client does not
// say, and pageMost whatever it says.
const (
	pageSize = 1000
	pageMost = 10000
)

// maxQuery is the length of the longest query of a list.
const maxQuery = 4 << 10

// listQuery is what a client asks of a list, without what is for this cache alone.
// Clients do not word questions to an upstream: they may say n, last and
// artifactType, and whatever a Link of ours has said.
func (q *request) listQuery() (url.Values, *Error) {
	bad := func(format string, args ...any) *Error {
		return &Error{Status: http.StatusBadRequest, Code: CodeUnknown, Message: fmt.Sprintf(format, args...)}
	}
	if len(q.r.URL.RawQuery) > maxQuery {
		return nil, bad("the query is longer than %d characters", maxQuery)
	}
	query := q.r.URL.Query()
	query.Del("ns")
	for key := range query {
		if _, ours := q.e.nexts.Get(q.nextKey(query)); !spoken(key) && !ours {
			return nil, bad("a list takes the parameters n, last and artifactType, and no others but those of a Link that was just sent")
		}
	}
	_, _, err := paging(query)
	return query, err
}

// spoken reports whether a parameter is one that clients say.
func spoken(key string) bool { return key == "n" || key == "last" || key == artifactType }

// nextKey is a query of a next page that a Link has said.
type nextKey struct{ repository, query string }

func (q *request) nextKey(query url.Values) nextKey {
	return nextKey{q.repo.Name, query.Encode()}
}

// tags answers tags/list: of a covered repository the upstream's, of a plain one
// what is stored.
func (q *request) tags() error {
	query, bad := q.listQuery()
	if bad != nil {
		return q.fail(AccessTags, bad)
	}
	if !q.repo.Covered() {
		return q.storedTags(query)
	}
	a, done, ok := q.upstreamList(listQuestion{repository: q.repo.Name, source: q.repo.Match.Source, kind: AccessTags, query: query.Encode(), loop: q.repo.Loop()})
	defer done()
	if !ok {
		return nil
	}
	return q.sendNames("tags", a.Tags, a.next())
}

// upstreamList answers a question, or says why there is no answer: not ok. The answer
// lies in memory until done is called.
func (q *request) upstreamList(question listQuestion) (answer listAnswer, done func(), ok bool) {
	done, err := q.repo.Acquire(q.r.Context(), &q.e.listing, false)
	if err != nil {
		q.state(fwd("miss", err), err)
		_ = q.fail(question.kind, err) // which has answered
		return listAnswer{}, func() {}, false
	}
	a, stale := q.answerList(question)
	if a.err != nil {
		q.state(q.listState("miss", a.err), a.err)
		_ = q.fail(question.kind, a.err) // which has answered
		return a, done, false
	}
	if stale == nil {
		q.state(fwd("miss", nil), nil)
		return a, done, true
	}
	q.state(q.listState("stale", stale), nil)
	q.w.Header().Set("Age", strconv.Itoa(max(0, int(time.Since(a.Asked).Seconds()))))
	q.warnStale(question.kind, stale)
	return a, done, true
}

// answerList answers a question from the upstream, or from what is here if the client
// wants nothing else.
func (q *request) answerList(question listQuestion) (a listAnswer, stale error) {
	if q.only.on {
		return q.e.cachedList(q.r.Context(), q.repo.Repo, question, q.only)
	}
	return q.e.list(q.r.Context(), q.repo.Repo, question)
}

// listState is the Cache-Status of a list that the upstream did not give just now.
func (q *request) listState(reason string, err error) string {
	switch {
	case !q.only.on:
		return fwd(reason, err)
	case reason == "stale":
		return hitNotAsked
	}
	return notCached
}

// storedTags lists a repository that no rule covers.
func (q *request) storedTags(query url.Values) error {
	s, ok := store.As[store.Lister](q.e.local.store)
	if !ok {
		return q.fail(AccessTags, errStoreLists)
	}
	n, last, _ := paging(query) // looked at before
	tags, next, err := page(s.TagNames(q.r.Context(), q.repo.Name, last), n)
	if err != nil {
		return q.fail(AccessTags, err)
	}
	if len(tags) == 0 && last == "" && n != 0 {
		return q.fail(AccessTags, errNoRule)
	}
	q.state("hit", nil)
	return q.sendNames("tags", tags, next)
}

// errStoreLists answers where the store is to be listed and cannot be. It never
// changes.
var errStoreLists = &Error{Status: http.StatusMethodNotAllowed, Code: CodeUnsupported, Message: "the store of this cache cannot list what it has"}

// referrers answers what refers to a manifest: of a covered repository what the
// upstream says, of a plain one what is stored.
func (q *request) referrers(d digest.Digest) error {
	query, bad := q.listQuery()
	if bad != nil {
		return q.fail(AccessReferrers, bad)
	}
	a := listAnswer{Manifests: []ocispec.Descriptor{}}
	if !q.repo.Covered() {
		page, err := q.e.storedReferrers(q.r.Context(), q.repo, d, query.Get(artifactType))
		if err != nil {
			return q.fail(AccessReferrers, err)
		}
		a.Manifests, a.Filters = page.Manifests, page.FiltersApplied
		q.state("hit", nil)
	} else {
		question := listQuestion{repository: q.repo.Name, source: q.repo.Match.Source, kind: AccessReferrers, digest: d, query: query.Encode(), loop: q.repo.Loop()}
		found, done, ok := q.upstreamList(question)
		defer done()
		if !ok {
			return nil
		}
		a = found
	}
	if a.Filters != "" {
		q.w.Header().Set("OCI-Filters-Applied", a.Filters)
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: nonNil(a.Manifests)}
	data, err := json.Marshal(index)
	if err != nil {
		return q.fail(AccessReferrers, err)
	}
	q.listHeader(ocispec.MediaTypeImageIndex, len(data), a.next())
	if q.r.Method != http.MethodHead {
		_, _ = q.w.Write(data)
	}
	return nil
}

// catalog answers with the repositories that are stored.
func (q *request) catalog() error {
	s, ok := store.As[store.Lister](q.e.local.store)
	if !ok {
		return q.fail(AccessCatalog, errStoreLists)
	}
	n, last, bad := paging(q.r.URL.Query())
	if bad != nil {
		return q.fail(AccessCatalog, bad)
	}
	names, next, err := page(s.Repositories(q.r.Context(), last), n)
	if err != nil {
		return q.fail(AccessCatalog, err)
	}
	q.state("hit", nil)
	return q.sendNames("repositories", names, next)
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

// sendNames writes a list of names, which need no escape in JSON: a long one is not
// built as a whole.
func (q *request) sendNames(key string, names []string, next url.Values) error {
	begin, end := `{"`+key+`":[`, `]}`
	if key == "tags" {
		begin = `{"name":"` + q.route.Repository + `","tags":[`
	}
	size := len(begin) + len(end) + max(0, 3*len(names)-1)
	for _, name := range names {
		size += len(name)
	}
	q.listHeader("application/json", size, next)
	if q.r.Method == http.MethodHead {
		return nil
	}
	w := bufio.NewWriterSize(q.w, 16<<10)
	_, _ = w.WriteString(begin)
	for i, name := range names {
		if i > 0 {
			_ = w.WriteByte(',')
		}
		_ = w.WriteByte('"')
		_, _ = w.WriteString(name)
		_ = w.WriteByte('"')
	}
	_, _ = w.WriteString(end)
	return w.Flush()
}

// listHeader writes the header of a list. Its Link is ours, with local names.
func (q *request) listHeader(mediaType string, size int, next url.Values) {
	h := q.w.Header()
	if next != nil {
		for key := range next {
			if !spoken(key) {
				q.e.nexts.Put(q.nextKey(next), struct{}{}, 1)
				break
			}
		}
		if ns := q.r.URL.Query().Get("ns"); ns != "" {
			next.Set("ns", ns)
		}
		h.Set("Link", "<"+requestPath(q.r)+"?"+next.Encode()+`>; rel="next"`)
	}
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(size))
	h.Set("X-Content-Type-Options", "nosniff")
	q.w.WriteHeader(http.StatusOK)
}

// requestPath is the path that the client asked for, also behind a StripPrefix.
func requestPath(r *http.Request) string {
	path := r.URL.EscapedPath()
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil && strings.HasSuffix(u.EscapedPath(), path) {
		return u.EscapedPath()
	}
	return path
}
