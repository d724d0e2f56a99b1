package cache

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/internal/route"
	"github.com/pullthrough/pullthrough/rule"
)

// request is one HTTP request on its way through the cache. It is kept on the stack: no
// method may let it escape.
type request struct {
	e       *engine
	w       *recorder
	r       *http.Request
	route   route.Request
	repo    repository
	out     Outcome
	only    onlyCached
	passed  bool // to Next
	watched bool // somebody wants to know how it went, and how long it took
}

// ServeHTTP answers GET and HEAD of the OCI distribution API under /v2/.
// Repositories that no rule covers, /v2/ itself and /v2/_catalog go to Next if
// there is one. A response that cannot be finished ends its connection.
func (c *Cache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := c.engine()
	q := request{e: e, w: &recorder{ResponseWriter: w, patience: e.limits.SendTimeout}, r: r}
	if q.watched = e.cfg.Observe != nil || e.log.Enabled(r.Context(), slog.LevelDebug); q.watched {
		q.w.begun = time.Now()
	}
	q.out.Method = methodOf(r)
	defer q.observe()
	if err := q.serve(); err != nil {
		q.out.Err = err
		abort(w)
	}
	q.w.end()
}

// next hands the request on, untouched: what Next answers is its own affair.
func (q *request) next() error {
	q.passed = true
	q.e.cfg.Next.ServeHTTP(q.w.ResponseWriter, q.r)
	return nil
}

// observe counts and tells how the request went.
func (q *request) observe() {
	if q.passed {
		return
	}
	q.e.stats.requests.Add(1)
	q.e.stats.bytes.Add(q.w.bytes)
	if !q.watched {
		return
	}
	q.out.Status, q.out.Bytes, q.out.FirstByte = q.w.status, q.w.bytes, q.w.first
	q.out.Duration = time.Since(q.w.begun)
	q.out.Result, q.out.UpstreamStatus, q.out.Detail = result(q.out.CacheState)
	if q.e.log.Enabled(q.r.Context(), slog.LevelDebug) {
		q.e.log.LogAttrs(q.r.Context(), slog.LevelDebug, "answered", slog.String("method", short(q.out.Method)), slog.String("kind", string(q.out.Access.Kind)),
			slog.String("repository", short(q.out.Access.Repository)), slog.String("reference", short(q.out.Reference)), slog.Int("status", q.out.Status),
			slog.String("cache", q.out.CacheState), slog.Int64("bytes", q.out.Bytes), slog.Duration("took", q.out.Duration))
	}
	if q.e.cfg.Observe != nil {
		q.e.cfg.Observe(q.r, q.out)
	}
}

// short is a client's word as far as a log needs it.
func short(word string) string {
	const most = 256
	return word[:min(len(word), most)]
}

// serve answers. An error means that the header is out and the rest is not.
func (q *request) serve() error {
	parsed, err := parse(q.r)
	q.route = parsed
	k := routeKind(parsed.Kind)
	if q.watched || q.e.cfg.Authorize != nil {
		q.out.Access = accessOf(q.r, parsed)
	}
	q.out.Reference = parsed.Reference
	if q.e.cfg.Next != nil && parsed.Repository == "" {
		if err == nil && k == AccessPing && q.refused(k) {
			return nil
		}
		return q.next()
	}
	if err != nil {
		return q.fail(k, routeError(err))
	}
	if parsed.Repository != "" {
		q.repo.began = time.Now()
		q.repo.Repo, err = q.find(parsed.Repository)
		if err == nil && !q.repo.Covered() && q.e.cfg.Next != nil {
			return q.next()
		}
		q.out.Rule = q.repo.Rule()
		if q.repo.Name != "" {
			q.out.Access.Repository = q.repo.Name
		}
	}
	if q.refused(k) {
		return nil
	}
	q.apiVersion()
	if err != nil {
		return q.fail(k, err)
	}
	if q.r.Method != http.MethodGet && q.r.Method != http.MethodHead {
		q.w.Header().Set("Allow", "GET, HEAD")
		q.state("detail=refused", nil)
		return q.fail(k, methodError(q.r.Method))
	}
	loop, err := q.e.origins.Passed(q.r.Header)
	if err != nil {
		return q.fail(k, err)
	}
	q.repo.Repo, q.repo.cause = q.repo.Via(loop).Under(q.r.Context()), causeOf(q.r)
	q.only = onlyIfCached(q.r.Header)
	return q.dispatch(k)
}

// refused asks Authorize and answers if it refuses.
func (q *request) refused(k AccessKind) bool {
	if q.e.cfg.Authorize == nil {
		return false
	}
	refused := denial(q.w, q.e.cfg.Authorize(q.r, q.out.Access))
	if refused == nil {
		return false
	}
	q.apiVersion()
	q.state("detail=refused", nil)
	_ = q.fail(k, refused) // which has answered
	return true
}

// apiVersion says which API this is, as old clients want to know.
func (q *request) apiVersion() {
	q.w.Header()["Docker-Distribution-Api-Version"] = apiVersion
}

// methodError answers what neither GET nor HEAD is.
func methodError(method string) *Error {
	e := &Error{Status: http.StatusMethodNotAllowed, Code: CodeUnsupported, Message: "this is a cache: it cannot be written to"}
	switch method {
	case http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete:
	default:
		e.Message = "only GET and HEAD are answered here"
	}
	return e
}

// dispatch answers what was asked for.
func (q *request) dispatch(k AccessKind) error {
	ctx, head := q.r.Context(), q.r.Method == http.MethodHead
	switch q.route.Kind {
	case route.Ping:
		q.w.Header().Set("Content-Type", "application/json")
		q.w.Header().Set("Content-Length", "2")
		q.w.WriteHeader(http.StatusOK)
		if !head {
			_, _ = q.w.Write([]byte("{}"))
		}
		return nil
	case route.Manifest:
		var a answer
		switch {
		case q.only.on:
			a = q.e.cachedManifest(ctx, q.repo, q.route.Reference, q.route.Digest, head, q.only)
		case q.route.Digest != "":
			a = q.e.byDigest(ctx, q.repo, q.route.Digest, head)
		default:
			a = q.e.byTag(ctx, q.repo, q.route.Reference, head)
		}
		q.state(a.state, a.err)
		if a.err != nil {
			return q.fail(k, a.err)
		}
		if a.stale != nil {
			q.warnStale(k, a.stale)
		}
		serveManifest(q.w, q.r, a)
		return nil
	case route.Blob:
		var a blobAnswer
		switch {
		case q.only.on:
			a = q.e.cachedBlob(ctx, q.repo, q.route.Digest)
		case head:
			a = q.e.statBlob(ctx, q.repo, q.route.Digest)
		default:
			a = q.e.blob(ctx, q.repo, q.route.Digest)
		}
		defer a.close()
		q.state(a.state, a.err)
		if a.err != nil {
			return q.fail(k, a.err)
		}
		return serveBlob(q.w, q.r, q.route.Digest.String(), &a)
	case route.Tags:
		return q.tags()
	case route.Referrers:
		return q.referrers(q.route.Digest)
	case route.Catalog:
		return q.catalog()
	}
	return q.fail(k, &Error{Status: http.StatusNotFound, Code: CodeUnsupported, Message: "this path is not known"})
}

// state writes Cache-Status.
func (q *request) state(state string, err error) {
	if state == "" {
		state = fwd("miss", err)
	}
	q.out.CacheState = state
	status := q.w.Header()
	switch state {
	case hit:
		q.e.stats.hits.Add(1)
		status["Cache-Status"] = statusHit
	case unchanged:
		status["Cache-Status"] = statusUnchanged
	default:
		status["Cache-Status"] = []string{cacheName + state}
	}
}

// What Cache-Status says of most answers.
const (
	cacheName = "pullthrough; "
	hit       = "hit"
	unchanged = "fwd=request; fwd-status=200; detail=unchanged"
)

// warnStale says in a header why what is served was not checked.
func (q *request) warnStale(k AccessKind, err error) {
	warn(q.w.Header(), "served as it was known before: "+failure(q.repo.Repo, k, q.route.Reference, err).Message)
}

// fail answers with an error. It returns nil: the answer is whole.
func (q *request) fail(k AccessKind, err error) error {
	told := failure(q.repo.Repo, k, q.route.Reference, err)
	q.out.Err = err
	if told.Status >= 500 && q.e.cfg.Observe == nil && !errors.Is(err, errNotAsked) {
		q.e.log.Warn("a request failed", "path", q.r.URL.Path, "status", told.Status, "rule", q.out.Rule, "err", err)
	}
	if q.w.Header()["Cache-Status"] == nil && q.repo.Covered() {
		q.state("", err)
	}
	told.write(q.w, q.r.Method == http.MethodHead)
	return nil
}

// find finds the repository, through containerd's ns= if it is there: the path's own
// rule if its source has that host, else the rule whose source has it. A name of this
// cache in ns= means nothing.
func (q *request) find(repo string) (origin.Repo, error) {
	ctx := q.r.Context()
	r, err := q.e.origins.Find(ctx, repo)
	ns := ""
	if q.r.URL.RawQuery != "" {
		ns = q.r.URL.Query().Get("ns")
	}
	if ns == "" || ns == q.r.Host {
		return r, err
	}
	host, bad := rule.CanonicalHost(ns)
	if bad != nil {
		return r, &Error{Status: http.StatusNotFound, Code: CodeNameUnknown, Message: "the registry named by ns is not known", Err: bad}
	}
	if r.Covered() && r.Match.Source.Host == host {
		return r, err
	}
	r, err = q.e.origins.FindSource(ctx, host, repo)
	if err == origin.ErrNoSources || err == nil && !r.Covered() {
		return r, errNoNamespace(host)
	}
	return r, err
}

func errNoNamespace(host string) error {
	return &Error{Status: http.StatusNotFound, Code: CodeNameUnknown, Message: "no cache rule has a source at '" + host + "' that covers the repository"}
}
