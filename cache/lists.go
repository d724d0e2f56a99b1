package cache

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/ask"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// A list is whole, or it says that it is not. What is answered is the upstream's
// list; while it cannot be asked, the last one that it gave for the same question,
// or what follows from a whole one; and otherwise the error that a manifest would
// get. Never is it what happens to be stored, and never is it empty because nothing
// is known.

// listQuestion is a request for a page of a list.
type listQuestion struct {
	repository string
	source     upstream.Source
	kind       AccessKind    // tags or referrers
	digest     digest.Digest // whose referrers
	query      string        // canonical
	loop       string        // see origin.Repo.Via
}

// listAnswer is a page of a list, or why there is none.
type listAnswer struct {
	Asked     time.Time            `json:"-"`
	Tags      []string             `json:"tags,omitempty"`
	Manifests []ocispec.Descriptor `json:"manifests,omitempty"`
	Filters   string               `json:"filters,omitempty"`
	Next      string               `json:"next,omitempty"` // the query of the next page; empty if this is the last
	err       error
}

// next is the query of the next page, or nil if there is none.
func (a *listAnswer) next() url.Values {
	if a.Next == "" {
		return nil
	}
	query, _ := url.ParseQuery(a.Next) // we wrote it
	return query
}

// lists keeps the last lists that upstreams gave. It is safe for concurrent use.
type lists struct {
	shelf *shelf
	stats *counters
	ended context.Context
}

func (q listQuestion) key(r origin.Repo) string {
	return shelfKey(string(q.kind), q.repository, r.From, q.digest.String(), q.query)
}

// whole asks for the whole list.
func (q listQuestion) whole() listQuestion {
	q.query = ""
	return q
}

// list answers a request for a page of a list. If the answer is a former one, stale is
// why; otherwise stale is nil.
func (e *engine) list(ctx context.Context, r origin.Repo, q listQuestion) (a listAnswer, stale error) {
	if err, probe := r.Down(); err != nil && !probe {
		return e.lists.former(ctx, r, q, err)
	}
	patience := e.limits.AnswerTimeout
	_, known := e.lists.recall(ctx, r, q)
	if known {
		patience = e.limits.StaleTimeout
	}
	terms := ask.Terms{Patience: patience, Impatient: origin.ErrPatience}
	a, err := e.listChecks.Ask(ctx, q, terms, func(wanted context.Context, begin func()) listAnswer {
		slot, err := r.Slot(wanted, false)
		if err != nil {
			return listAnswer{err: err}
		}
		defer slot.Release()
		begin()
		return e.askList(slot, r, q)
	})
	if err == nil {
		err = a.err
	}
	if patienceEnded(err) {
		slow := r.TooSlow(string(q.kind), err)
		if err = slow; known { // as with tags: or each client waits as long
			r.Heard(slow)
		}
	}
	if err != nil {
		return e.lists.former(ctx, r, q, err)
	}
	return a, nil
}

// askList asks the upstream, for all clients that want the page.
func (e *engine) askList(slot origin.Slot, r origin.Repo, q listQuestion) listAnswer {
	query, err := url.ParseQuery(q.query)
	if err != nil {
		return listAnswer{err: err}
	}
	a := listAnswer{Asked: time.Now()}
	var next url.Values
	if q.kind == AccessTags {
		var page upstream.TagPage
		page, err = slot.Tags(e.ctx, query)
		a.Tags, next = page.Tags, page.Next
	} else {
		var page upstream.ReferrerPage
		page, err = slot.Referrers(e.ctx, q.digest, query)
		page = page.Filter(query.Get(artifactType))
		a.Manifests, a.Filters, next = page.Manifests, page.FiltersApplied, page.Next
	}
	if err != nil {
		return listAnswer{err: err}
	}
	a.Next = next.Encode()
	e.work.Go(func() { e.lists.keep(r, q, a) })
	return a
}

// artifactType is the parameter that filters referrers.
const artifactType = "artifactType"

// keep keeps an answer. One that has everything answers every question about
// its list.
func (l *lists) keep(r origin.Repo, q listQuestion, a listAnswer) {
	query, err := url.ParseQuery(q.query)
	if err != nil {
		return
	}
	query.Del("n")
	if len(query) == 0 && a.Next == "" {
		q = q.whole()
	}
	if data, err := json.Marshal(a); err == nil {
		l.shelf.put(l.ended, q.key(r), data, a.Asked)
	}
}

// former is what is answered while the upstream cannot be asked.
func (l *lists) former(ctx context.Context, r origin.Repo, q listQuestion, err error) (listAnswer, error) {
	class, known := upstream.ClassOf(err)
	if known && (class == upstream.Unreachable || class == upstream.Limited) {
		if a, ok := l.recall(ctx, r, q); ok {
			l.stats.stale.Add(1)
			return a, err
		}
	}
	return listAnswer{err: err}, nil
}

// recall returns the last answer to a question, or what follows from the last whole
// list where that is the newer.
func (l *lists) recall(ctx context.Context, r origin.Repo, q listQuestion) (listAnswer, bool) {
	a, ok := l.kept(ctx, r, q)
	if q == q.whole() {
		return a, ok
	}
	if list, known := l.kept(ctx, r, q.whole()); known && (!ok || list.Asked.After(a.Asked)) {
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
	if q.kind == AccessReferrers {
		page := upstream.ReferrerPage{Manifests: a.Manifests, FiltersApplied: a.Filters}.Filter(query.Get(artifactType))
		a.Manifests, a.Filters = page.Manifests, page.FiltersApplied
		return a, len(query) == 1 && query.Has(artifactType)
	}
	return a.cut(query)
}

func (l *lists) kept(ctx context.Context, r origin.Repo, q listQuestion) (a listAnswer, ok bool) {
	data, asked, ok := l.shelf.get(ctx, q.key(r))
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
