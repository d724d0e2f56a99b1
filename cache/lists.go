package cache

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream"
)

// A list is whole, or it says that it is not. What is answered is the upstream's
// list; while it cannot be asked, the last one that it gave for the same question,
// or what follows from a whole one; and otherwise the error that a manifest would
// get. Never is it what happens to be stored, and never is it empty because nothing
// is known.

// errNoList reports an upstream.Repository that cannot list.
var errNoList = errors.New("cache: the source cannot be asked for lists")

// listQuestion is a question for a page of a list.
type listQuestion struct {
	repo   string
	source upstream.Source
	kind   kind          // tags or referrers
	digest digest.Digest // whose referrers
	query  string        // canonical
	loop   string        // see place
}

// listAnswer is a page of a list, or why there is none.
type listAnswer struct {
	Asked     time.Time            `json:"-"`
	Tags      []string             `json:"tags,omitempty"`
	Manifests []ocispec.Descriptor `json:"manifests,omitempty"`
	Filters   string               `json:"filters,omitempty"`
	Next      string               `json:"next,omitempty"` // the query of the next page; empty: this is the last
	err       error
}

// next is the query of the next page; nil: there is none.
func (a *listAnswer) next() url.Values {
	if a.Next == "" {
		return nil
	}
	query, _ := url.ParseQuery(a.Next) // we wrote it
	return query
}

func (q listQuestion) key(p place) string {
	return shelfKey(string(q.kind), q.repo, p.source, q.digest.String(), q.query)
}

// whole is the question whose answer is the whole list.
func (q listQuestion) whole() listQuestion {
	q.query = ""
	return q
}

// list answers a question for a list. stale is why the answer is a former one; nil:
// it is not.
func (e *engine) list(ctx context.Context, p place, q listQuestion) (a listAnswer, stale error) {
	if err, due := e.trouble(p); err != nil && !due {
		return e.formerList(ctx, p, q, err)
	}
	wait := e.limits.Answer
	if _, known := e.recall(ctx, p, q); known {
		wait = e.limits.Stale
	}
	asking, cancel := context.WithTimeoutCause(ctx, wait, errPatience)
	defer cancel()
	a, err := e.listings.Do(asking, q, func(wanted context.Context) listAnswer {
		release, err := e.turn(wanted, &e.asking, p, false)
		if err != nil {
			return listAnswer{err: err}
		}
		defer release()
		return e.askList(p, q)
	})
	if err == nil {
		err = a.err
	}
	if err == error(errPatience) {
		slow := p.tooSlow(string(q.kind), err)
		if wait == e.limits.Stale { // as with tags: or each client waits as long
			e.heard(p, slow)
		}
		err = slow
	}
	if err != nil {
		return e.formerList(ctx, p, q, err)
	}
	return a, nil
}

// askList asks the upstream, on nobody's request.
func (e *engine) askList(p place, q listQuestion) listAnswer {
	ctx, cancel := e.within(e.ctx)
	defer cancel()
	if e.ctx.Err() != nil {
		return listAnswer{err: errShutdown}
	}
	p, err := e.current(ctx, p)
	if err != nil {
		return listAnswer{err: err}
	}
	query, err := url.ParseQuery(q.query)
	if err != nil {
		return listAnswer{err: err}
	}
	a := listAnswer{Asked: time.Now()}
	var next url.Values
	ctx = e.withLoop(ctx, p)
	switch q.kind {
	case kindTags:
		l, ok := upstream.As[upstream.TagLister](p.up)
		if !ok {
			return listAnswer{err: errNoList}
		}
		var page upstream.TagPage
		page, err = l.Tags(ctx, query)
		a.Tags, next = page.Tags, page.Next
	default:
		l, ok := upstream.As[upstream.ReferrerLister](p.up)
		if !ok {
			return listAnswer{err: errNoList}
		}
		var page upstream.ReferrerPage
		page, err = l.Referrers(ctx, q.digest, query)
		page = page.Filter(query.Get(artifactType))
		a.Manifests, a.Filters, next = page.Manifests, page.FiltersApplied, page.Next
	}
	if err = p.slow(ctx, err); err == nil || q == q.whole() { // a client's parameters may be what it fails at
		e.heard(p, err)
	}
	if err != nil {
		return listAnswer{err: err}
	}
	a.Next = next.Encode()
	e.spawn(func() { e.keepList(p, q, a) })
	return a
}

// artifactType is the parameter that filters referrers.
const artifactType = "artifactType"

// keepList keeps an answer. One that has everything answers every question about
// its list.
func (e *engine) keepList(p place, q listQuestion, a listAnswer) {
	query, err := url.ParseQuery(q.query)
	if err != nil {
		return
	}
	query.Del("n")
	if len(query) == 0 && a.Next == "" {
		q = q.whole()
	}
	if data, err := json.Marshal(a); err == nil {
		e.lists.put(e.ctx, q.key(p), data, a.Asked)
	}
}

// formerList is what is answered while the upstream cannot be asked.
func (e *engine) formerList(ctx context.Context, p place, q listQuestion, err error) (listAnswer, error) {
	class, told := upstream.ClassOf(err)
	if told && (class == upstream.Unreachable || class == upstream.Limited) {
		if a, ok := e.recall(ctx, p, q); ok {
			e.stats.stale.Add(1)
			return a, err
		}
	}
	return listAnswer{err: err}, nil
}

// recall returns the last answer to a question, or what follows from the last whole
// list where that is the newer.
func (e *engine) recall(ctx context.Context, p place, q listQuestion) (listAnswer, bool) {
	a, ok := e.kept(ctx, p, q)
	if q == q.whole() {
		return a, ok
	}
	if list, known := e.kept(ctx, p, q.whole()); known && (!ok || list.Asked.After(a.Asked)) {
		if part, follows := list.answer(q); follows {
			return part, true
		}
	}
	return a, ok
}

// answer is what follows for a question from a whole list; false if nothing does.
func (a listAnswer) answer(q listQuestion) (listAnswer, bool) {
	query, err := url.ParseQuery(q.query)
	if err != nil {
		return a, false
	}
	if q.kind == kindReferrers {
		page := upstream.ReferrerPage{Manifests: a.Manifests, FiltersApplied: a.Filters}.Filter(query.Get(artifactType))
		a.Manifests, a.Filters = page.Manifests, page.FiltersApplied
		return a, len(query) == 1 && query.Has(artifactType)
	}
	return a.cut(query)
}

func (e *engine) kept(ctx context.Context, p place, q listQuestion) (a listAnswer, ok bool) {
	data, asked, ok := e.lists.get(ctx, q.key(p))
	if !ok || json.Unmarshal(data, &a) != nil {
		return a, false
	}
	a.Asked = asked
	return a, true
}

// cut is the page of a whole list of tags that n and last ask for; false if the list
// does not tell which that is.
func (a listAnswer) cut(query url.Values) (listAnswer, bool) {
	n, last, bad := paging(query)
	for k := range query {
		if k != "n" && k != "last" {
			return a, false
		}
	}
	if bad != nil {
		return a, false
	}
	if last != "" {
		i := slices.Index(a.Tags, last)
		if i < 0 {
			return a, false
		}
		a.Tags = a.Tags[i+1:]
	}
	if query.Has("n") && n < len(a.Tags) {
		a.Tags = a.Tags[:n]
		if n > 0 {
			a.Next = url.Values{"n": {strconv.Itoa(n)}, "last": {a.Tags[n-1]}}.Encode()
		}
	}
	return a, true
}
