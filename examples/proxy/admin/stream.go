package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
)

const (
	maxPrefetches = 16 // at once
	maxChecks     = 1

	lineTimeout = 30 * time.Second // for a client to take a line
	lineEvery   = 5 * time.Second  // a line with nothing new is sent, so that the connection is used
)

// work does what a request asks for. Its lines tell how far it is; the one that it returns is
// the last.
type work func(ctx context.Context, out *lines) (last Line, err error)

// errEnding ends streams when the program ends.
var errEnding = &Error{Status: http.StatusServiceUnavailable, Code: CodeEnding, Message: "the proxy is ending; ask again when it runs"}

// lines writes lines of JSON. It is not safe for concurrent use.
type lines struct {
	w      http.ResponseWriter
	cancel context.CancelCauseFunc
	begun  bool
	broken bool
}

// send writes a line. If the client does not take it, the work ends.
func (l *lines) send(line Line) {
	if l.broken {
		return
	}
	rc := http.NewResponseController(l.w)
	_ = rc.SetWriteDeadline(time.Now().Add(lineTimeout)) // without deadlines a client may be slow
	if !l.begun {
		l.begun = true
		h := l.w.Header()
		h.Set("Content-Type", "application/x-ndjson")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
	}
	data, err := json.Marshal(line)
	if err == nil {
		_, err = l.w.Write(append(data, '\n'))
	}
	if err == nil {
		err = rc.Flush()
	}
	if err != nil {
		l.broken = true
		l.cancel(err)
	}
}

// stream does some work and writes its lines. What fails before the first line is an
// ordinary error, with its status. The work ends with its client and with the program.
func (a *API) stream(w http.ResponseWriter, r *http.Request, begin func(*API, *http.Request) (work, error)) {
	do, err := begin(a, r)
	if err != nil {
		WriteError(w, errorOf(err))
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-a.Ending:
			cancel(errEnding)
		case <-ctx.Done():
		}
	}()
	out := &lines{w: w, cancel: cancel}
	last, err := do(ctx, out)
	if err != nil && context.Cause(ctx) == errEnding {
		err = errEnding
	}
	switch {
	case err == nil:
		out.send(last)
	case !out.begun:
		WriteError(w, errorOf(err))
		return
	default:
		out.send(Line{Kind: LineError, Error: errorOf(err)})
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // for the next request of the connection
}

// prefetch answers POST prefetch.
func (a *API) prefetch(r *http.Request) (work, error) {
	var t Target
	if err := a.input(r, &t); err != nil {
		return nil, err
	}
	if t.Repository == "" || t.Reference == "" || t.All {
		return nil, wrong("repository and reference are required, and perhaps platforms")
	}
	release, err := acquire(&a.prefetches, maxPrefetches, fmt.Sprint(maxPrefetches, " images are prefetched already"))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, out *lines) (last Line, err error) {
		defer func() {
			release() // first: a client that reads in the log that it has ended finds room
			a.done(r, "prefetch", err, slog.String("repository", short(t.Repository)), slog.String("reference", short(t.Reference)))
		}()
		var sent time.Time
		progress := Line{Kind: LineProgress, Done: -1}
		err = a.Cache.Prefetch(ctx, t.Repository, t.Reference, cache.PrefetchOptions{
			Platforms: t.Platforms,
			Progress: func(done, total int64) {
				if done == progress.Done && total == progress.Total && time.Since(sent) < lineEvery {
					return
				}
				progress.Done, progress.Total, sent = done, total, time.Now()
				out.send(progress)
			},
		})
		if err != nil {
			return Line{}, err
		}
		last = Line{Kind: LineDone, Done: max(0, progress.Done), Total: progress.Total}
		if x, err := a.Cache.Explain(ctx, t.Repository, t.Reference); err == nil {
			last.Digest = x.Digest.String()
		}
		return last, nil
	}, nil
}

// checker is what a store has that can look for damage.
type checker interface {
	Check(ctx context.Context, o store.CheckOptions, found func(store.Fault)) error
}

// check answers POST check.
func (a *API) check(r *http.Request) (work, error) {
	var o CheckOptions
	if err := a.input(r, &o); err != nil {
		return nil, err
	}
	local := a.Store
	if t, ok := local.(*store.Tier); ok {
		local = t.Near // content of the far store is checked whenever it comes near
	}
	s, ok := store.As[checker](local)
	if !ok {
		return nil, &Error{Status: http.StatusNotImplemented, Code: CodeUnsupported, Message: "the store cannot be checked: it is in memory"}
	}
	release, err := acquire(&a.checks, maxChecks, "a check goes on already")
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, out *lines) (last Line, err error) {
		last.Kind = LineDone
		defer func() {
			release()
			a.done(r, "check", err, slog.Bool("repair", o.Repair), slog.Int("faults", last.Faults))
		}()
		out.send(Line{Kind: LineProgress}) // it may take long until the first fault
		err = s.Check(ctx, store.CheckOptions{Repair: o.Repair, Rate: o.Rate}, func(f store.Fault) {
			last.Faults++
			out.send(Line{Kind: LineFault, Fault: &Fault{
				Repository: f.Repository, Tag: f.Tag, Digest: f.Digest.String(), Problem: bound(f.Problem, maxText), Repaired: f.Repaired,
			}})
		})
		return last, err
	}, nil
}

// errorOf is an error in the form of this listener.
func errorOf(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	text := err.Error()
	for _, of := range []string{"cache: ", "store: ", "webhook: "} {
		text = strings.TrimPrefix(text, of)
	}
	out := &Error{Status: http.StatusInternalServerError, Code: CodeFailed, Message: bound(text, maxText), Err: err}
	if e, ok := errors.AsType[*cache.Error](err); ok {
		out.Status, out.Code, out.RetryAfter = e.Status, Code(e.Code), e.RetryAfter
		out.Message = strings.TrimPrefix(out.Message, string(e.Code)+": ")
		return out
	}
	return classify(err, out)
}
