package admin

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// API answers everything below /api/v1/, in JSON:
//
//	GET  copies, copies/ID             copy jobs that are not finished; parameters state, repository
//	GET  held                          tags whose new image is not admitted; parameter repository
//	GET  explain                       what a pull would do; parameters repository, reference
//	GET  fleet                         the replicas that share their downloads, and what is under way
//	GET  rules, stats, store           the rules without secrets, the counters, the size of the store
//	GET  repositories                  what is stored; parameter order=bytes: the largest first
//	GET  tags, manifests               what is stored in a repository; parameter repository
//	GET  receivers, deliveries         receivers of events, and the last tries of one; parameter receiver
//	POST prefetch, check               copy an image, check the store; answered by a stream of [Line]s
//	POST retry, delete, evict          act on copies and on what is stored
//	POST resend, ping                  act on a receiver
//
// Lists have the parameters limit and after. Errors are {"error": {"code", "message"}}; see
// [Error]. A [Server] guards it. Its fields must not change after first use. It is safe for
// concurrent use.
type API struct {
	// Cache is what is shown and acted on. It is required.
	Cache *cache.Cache
	// Store is the store of Cache. It is required.
	Store store.Store
	// Rules are the rules of Cache. If nil, there are none.
	Rules *rule.Set
	// Outbox delivers the events. If nil, there are no receivers.
	Outbox *webhook.Outbox
	// Fleet is this replica among others. If nil, there are no others.
	Fleet Replicas
	// Started is when the program was started.
	Started time.Time
	// Ending is closed when the program begins to end: streams end then. If nil, they go on.
	Ending <-chan struct{}
	// Logger gets a line for everything that was done. If nil, nothing is logged.
	Logger *slog.Logger

	looks      looks
	prefetches atomic.Int32 // under way
	checks     atomic.Int32
	evictions  atomic.Int32
}

// Prefix is the beginning of all paths of an [API].
const Prefix = "/api/v1/"

// answer is the answer to a request: a value for JSON.
type answer func(a *API, r *http.Request) (any, error)

// reads are what GET answers, by path.
func reads(path string) answer {
	switch path {
	case "copies":
		return (*API).copies
	case "held":
		return (*API).held
	case "explain":
		return (*API).explain
	case "fleet":
		return (*API).fleet
	case "rules":
		return (*API).rules
	case "stats":
		return (*API).stats
	case "store":
		return (*API).storeSize
	case "repositories":
		return (*API).repositories
	case "tags":
		return (*API).tags
	case "manifests":
		return (*API).manifests
	case "receivers":
		return (*API).receivers
	case "deliveries":
		return (*API).deliveries
	}
	if id, ok := strings.CutPrefix(path, "copies/"); ok && id != "" && !strings.Contains(id, "/") {
		return func(a *API, r *http.Request) (any, error) { return a.copy(r, id) }
	}
	return nil
}

// acts are what POST answers at once, by path.
func acts(path string) answer {
	switch path {
	case "retry":
		return (*API).retry
	case "delete":
		return (*API).delete
	case "evict":
		return (*API).evict
	case "resend":
		return (*API).resend
	case "ping":
		return (*API).ping
	}
	return nil
}

// flows are what POST answers by a stream, by path. begin reads the request, and the
// function that it returns does the work.
func flows(path string) func(a *API, r *http.Request) (work, error) {
	switch path {
	case "prefetch":
		return (*API).prefetch
	case "check":
		return (*API).check
	}
	return nil
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, _ := strings.CutPrefix(r.URL.Path, Prefix)
	read, act, flow := reads(path), acts(path), flows(path)
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	switch {
	case read == nil && act == nil && flow == nil || !strings.HasPrefix(r.URL.Path, Prefix):
		WriteError(w, notFound(r))
	case read != nil && !safe(r):
		w.Header().Set("Allow", "GET, HEAD")
		WriteError(w, &Error{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Message: short(r.URL.Path) + " takes GET only"})
	case read != nil:
		a.write(w, r, read)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		WriteError(w, &Error{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Message: short(r.URL.Path) + " takes POST only"})
	case act != nil:
		a.write(w, r, act)
	default:
		a.stream(w, r, flow)
	}
}

// write writes an answer, or its error.
func (a *API) write(w http.ResponseWriter, r *http.Request, get answer) {
	body, err := get(a, r)
	if err != nil {
		WriteError(w, errorOf(err))
		return
	}
	writeJSON(w, http.StatusOK, body)
}

// done logs what was done, and for whom.
func (a *API) done(r *http.Request, what string, err error, attrs ...slog.Attr) {
	if a.Logger == nil {
		return
	}
	attrs = append(attrs, slog.String("by", actor(r)), slog.String("from", r.RemoteAddr))
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("error", bound(err.Error(), maxText)))
	}
	a.Logger.LogAttrs(context.WithoutCancel(r.Context()), level, "admin: "+what, attrs...)
}

// actor names who proved that they may act.
func actor(r *http.Request) string {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return "certificate " + short(r.TLS.VerifiedChains[0][0].Subject.String())
	}
	return "token"
}

// acquire takes one of a few slots. The caller gives it back with release.
func acquire(used *atomic.Int32, most int32, what string) (release func(), err error) {
	if used.Add(1) > most {
		used.Add(-1)
		return nil, &Error{Status: http.StatusTooManyRequests, Code: CodeBusy, RetryAfter: 10 * time.Second, Message: "too many at once: " + what}
	}
	return func() { used.Add(-1) }, nil
}
