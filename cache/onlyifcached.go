package cache

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/origin"
)

// A request with Cache-Control: only-if-cached (RFC 9111 section 5.2.1.7) is answered
// with what is here, as if no upstream could be asked, or with 504. It causes no request
// to an upstream, now or later: no tag check, no download, no copy, and it does not count
// as a pull of a platform.

// onlyCached is what a request with only-if-cached says of the age of its answer.
type onlyCached struct {
	on                bool // the request has only-if-cached
	maxAge, maxStale  time.Duration
	hasAge, hasStale  bool
	anyStale, refused bool // max-stale without a number; a number that is none
}

// onlyIfCached reads Cache-Control.
func onlyIfCached(h http.Header) (o onlyCached) {
	for _, v := range h["Cache-Control"] {
		for directive := range strings.SplitSeq(v, ",") {
			name, value, given := strings.Cut(strings.TrimSpace(directive), "=")
			switch {
			case strings.EqualFold(name, "only-if-cached"):
				o.on = true
			case strings.EqualFold(name, "max-age"):
				o.hasAge = true
				o.maxAge = o.seconds(value)
			case strings.EqualFold(name, "max-stale"):
				o.hasStale = true
				if !given {
					o.anyStale = true
					continue
				}
				o.maxStale = o.seconds(value)
			}
		}
	}
	return o
}

// seconds reads a number of seconds, which may be quoted. What is no number allows
// nothing.
func (o *onlyCached) seconds(value string) time.Duration {
	const most = 1 << 31 // RFC 9111 section 1.2.2
	n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 64)
	if err != nil && n == 0 {
		o.refused = true
	}
	return time.Duration(min(n, most)) * time.Second
}

// allows reports whether an answer of that age may be sent that counts as fresh for
// lifetime.
func (o onlyCached) allows(age, lifetime time.Duration) bool {
	if o.hasAge {
		lifetime = o.maxAge
	}
	switch {
	case o.refused:
		return false
	case age <= lifetime, o.anyStale:
		return true
	case o.hasStale:
		return age-lifetime <= o.maxStale
	}
	return !o.hasAge // a request that says nothing of ages takes any
}

// errNotAsked says why what is sent was not checked. It never changes.
var errNotAsked = &Error{Status: http.StatusGatewayTimeout, Code: CodeUnknown, Message: "the request says only-if-cached, so the source is not asked"}

// errNotCached answers for what is not here.
func errNotCached(r origin.Repo, reference string) error {
	return &Error{Status: http.StatusGatewayTimeout, Code: CodeUnknown, Err: errNotAsked,
		Message: fmt.Sprintf("'%s' is not stored here, and the request says only-if-cached", joined(r.Name, reference))}
}

// What Cache-Status says of answers to only-if-cached that were not checked, and of those
// that there are none of.
const (
	hitNotAsked = "hit; detail=only-if-cached"
	notCached   = "detail=only-if-cached"
)

// cachedTag answers a pull by tag from what is stored. One whose check is too old to be
// used again is sent as far as it would be if the upstream could not be asked, and as the
// client allows. A rule with RequireAccess serves no such tag: the upstream might refuse.
func (e *engine) cachedTag(ctx context.Context, r repository, tag string, o onlyCached) answer {
	missing := answer{err: errNotCached(r.Repo, tag), state: notCached}
	s := e.local.tag(ctx, r.Repo, tag)
	now, fresh := time.Now(), false
	age := time.Duration(now.UnixNano() - s.checked.Load())
	if r.Covered() {
		fresh = e.fresh(r.Repo, s, now)
	}
	switch {
	case s.man == nil && !r.Covered():
		return answer{err: errNoRule}
	case s.man == nil:
		return missing
	case !r.Covered():
		return answer{man: s.man, state: hit}
	case !o.allows(age, e.window(r.Repo)):
		return missing
	case fresh:
		return answer{man: s.man, state: hit}
	case r.Match.Rule.RequireAccess:
		return missing
	}
	a := e.choose(r.Repo, tag, s, answer{err: errNotAsked})
	if a.err != nil {
		return missing
	}
	a.state = hitNotAsked
	return a
}

// cachedDigest answers a pull by digest from what is here.
func (e *engine) cachedDigest(ctx context.Context, r repository, d digest.Digest) answer {
	if man := e.local.manifest(ctx, r.Repo, d); man != nil {
		return answer{man: man, state: hit}
	}
	if !r.Covered() {
		return answer{err: errNoRule}
	}
	if man := e.ledger.Find(keyOf(r.Repo, d), r.Match.Source); man != nil {
		return answer{man: man, remote: true, state: "hit; detail=copying"}
	}
	if man := e.local.readBefore(ctx, r.Repo, d); man != nil {
		return answer{man: man, remote: true, state: "hit; detail=read"}
	}
	return answer{err: errNotCached(r.Repo, d.String()), state: notCached}
}

// cachedManifest answers a pull of a manifest from what is here.
func (e *engine) cachedManifest(ctx context.Context, r repository, tag string, d digest.Digest, head bool, o onlyCached) answer {
	var a answer
	if d != "" {
		a = e.cachedDigest(ctx, r, d)
	} else {
		a = e.cachedTag(ctx, r, tag, o)
	}
	if !head && a.err == nil && !a.remote && a.man.MarkUsed(time.Now()) {
		e.local.used(r.Repo, a.man)
	}
	return a
}

// cachedBlob answers a pull of a blob that is stored. One that is being downloaded is not
// here yet.
func (e *engine) cachedBlob(ctx context.Context, r repository, d digest.Digest) blobAnswer {
	if a, ok := e.storedBlob(ctx, r.Repo, d); ok {
		return a
	}
	if !r.Covered() {
		return blobAnswer{err: errUnknown}
	}
	return blobAnswer{err: errNotCached(r.Repo, d.String()), state: notCached}
}

// cachedList answers with the last list that the upstream gave.
func (e *engine) cachedList(ctx context.Context, r origin.Repo, q listQuestion, o onlyCached) (a listAnswer, stale error) {
	a, ok := e.lists.recall(ctx, r, q)
	if !ok || !o.allows(time.Since(a.Asked), 0) {
		return listAnswer{err: &Error{Status: http.StatusGatewayTimeout, Code: CodeUnknown, Err: errNotAsked,
			Message: fmt.Sprintf("the list of %s of '%s' is not known here, and the request says only-if-cached", q.kind, joined(r.Name, q.digest.String()))}}, nil
	}
	return a, errNotAsked
}
