// Package admin is the listener of those who operate a proxy: what they may see, what they may
// do, and how they prove that they may.
//
// A [Server] is the handler of the whole listener. It has a field for each part, so that
// parts know nothing of one another:
//
//	/healthz, /readyz    for everybody
//	/metrics             for everybody who asks under a name of the listener
//	/api/v1/             the [API], in JSON
//	/debug/pprof/        for those who may act
//	/                    the status page
//
// [Access] guards them. Reading needs a proof unless Access.OpenReading says otherwise,
// acting always does, and browsers are refused what another site made them send.
package admin

import (
	"cmp"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strings"
)

// Server is the handler of the admin listener. Its fields must not change after first use.
// It is safe for concurrent use.
type Server struct {
	// Health answers /healthz. If nil, the answer is "ok".
	Health http.Handler
	// Ready answers /readyz. If nil, Health does.
	Ready http.Handler
	// Metrics answers /metrics. If nil, there are none.
	Metrics http.Handler
	// Debug answers everything below /debug/pprof/, for those who may act. If nil, nothing is there.
	Debug http.Handler
	// API answers everything below /api/v1/, usually an [API]. A request with a method other
	// than GET and HEAD comes here only if it may act. If nil, nothing is there.
	API http.Handler
	// Page answers everything else, such as /. A request with a method other than GET and
	// HEAD comes here only if it may act. If nil, nothing is there.
	Page http.Handler
	// Access says who may read and who may act.
	Access Access
	// Logger gets what was refused to clients, one line a second at most. If nil, nothing is logged.
	Logger *slog.Logger

	refusals throttle
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	if !plainPath(r) {
		WriteError(w, &Error{Status: http.StatusBadRequest, Code: CodePath, Message: "the path is not in its plain form: no //, no .., nothing percent-encoded"})
		return
	}
	part, guard := s.route(r)
	if part == nil {
		WriteError(w, notFound(r))
		return
	}
	if err := guard(r); err != nil {
		s.refused(r, err)
		s.Access.challenge(w, r, err)
		WriteError(w, err)
		return
	}
	part.ServeHTTP(w, r)
}

// Close ends what the API does behind requests, and waits for that.
func (s *Server) Close() error {
	if c, ok := s.API.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// route returns the part that answers a path, and the guard before it.
func (s *Server) route(r *http.Request) (part http.Handler, guard func(*http.Request) *Error) {
	health := orHandler(s.Health, http.HandlerFunc(ok))
	switch p := r.URL.Path; {
	case p == "/healthz":
		return health, readOnly
	case p == "/readyz":
		return orHandler(s.Ready, health), readOnly
	case p == "/metrics":
		return s.Metrics, s.Access.scrape
	case strings.HasPrefix(p, "/debug/pprof/"):
		return s.Debug, s.Access.act
	case p == "/api" || strings.HasPrefix(p, "/api/"):
		return s.API, s.Access.call
	case p == "/debug" || strings.HasPrefix(p, "/debug/"), p == "/v2" || strings.HasPrefix(p, "/v2/"):
		return nil, nil
	}
	return s.Page, s.Access.visit
}

// orHandler returns the first handler that is not nil.
func orHandler(a, b http.Handler) http.Handler {
	if a != nil {
		return a
	}
	return b
}

// plainPath reports whether the path of a request has one reading only.
func plainPath(r *http.Request) bool {
	p := r.URL.Path
	if r.URL.RawPath != "" || !strings.HasPrefix(p, "/") {
		return false
	}
	clean := path.Clean(p)
	return p == clean || p == clean+"/"
}

// ok is the default of Health.
func ok(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // a client that has left needs no answer
}

// notFound says that nothing is at a path.
func notFound(r *http.Request) *Error {
	return &Error{Status: http.StatusNotFound, Code: CodeNotFound, Message: "nothing is at " + short(r.URL.Path)}
}

// refused logs a refusal.
func (s *Server) refused(r *http.Request, err *Error) {
	if s.Logger == nil || !s.refusals.pass() {
		return
	}
	log := s.Logger.With("method", short(r.Method), "path", short(r.URL.Path), "from", r.RemoteAddr, "host", short(r.Host), "code", err.Code)
	if err.Err != nil {
		log = log.With("error", err.Err)
	}
	log.Warn("a request to the admin address was refused")
}

// short cuts a text of a client.
func short(text string) string {
	const most = 300
	if len(text) <= most {
		return text
	}
	return cmp.Or(strings.ToValidUTF8(text[:most], ""), "") + "…"
}
