package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/pullthrough/pullthrough/auth"
)

// requester makes the calls of one repository: it shows the credential of the rule and
// follows redirects.
type requester struct {
	source   Source
	auth     auth.Authenticator
	policy   *hostPolicy
	failures *failures
	sessions *sessions
	total    time.Duration // limit of a call, but for the content of blobs
	scope    string        // what a token must be good for
}

// call is what is asked of the upstream. It takes several requests if there are
// redirects or challenges.
type call struct {
	op          string // for errors, such as "GET manifest v1"
	method      string
	path        string // below /v2/<repository>/
	query       url.Values
	header      http.Header // further headers; never a secret
	stream      bool        // the time limit ends with the header of the response
	conditional bool        // 304 is a response and no failure

	abort context.CancelCauseFunc // ends its context; nil if the caller limits it. requester.do sets it
}

// errTooSlow ends a call that has used up its time.
var errTooSlow = errors.New("no complete answer in time")

// do makes a call. Its error is always an [*Error].
func (r *requester) do(ctx context.Context, c call) (*response, error) {
	ctx, l := r.limit(ctx)
	c.abort = l.cancel
	o := operationOf(ctx)
	o.asking()
	home := r.policy.home
	u := &url.URL{Scheme: home.scheme, Host: home.host, Path: "/v2/" + r.source.Repository + "/" + c.path, RawQuery: c.query.Encode()}
	hr, anonymous, err := r.withCredential(ctx, c, u)
	if err != nil {
		e := r.failures.failed(ctx, c.op, err)
		e.Anonymous = anonymous
		o.answered(e.Status)
		l.end()
		return nil, e
	}
	o.answered(hr.StatusCode)
	resp := &response{Response: hr, url: u, limit: l}
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusPartialContent:
	case resp.StatusCode == http.StatusNotModified && c.conditional:
	default:
		defer resp.close()
		e := r.failures.refused(c.op, hr)
		e.Anonymous = anonymous
		return nil, e
	}
	hr.Body = o.counted(hr.Body)
	if c.stream {
		l.lift()
	}
	return resp, nil
}

// limit returns the context of a call, which ends within its time limit. If the caller
// ends it sooner anyway, nothing is added.
func (r *requester) limit(ctx context.Context) (context.Context, callLimit) {
	d := max(r.total, answerTimeoutOf(ctx))
	if endsWithin(ctx, d) {
		return ctx, callLimit{}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, callLimit{time.AfterFunc(d, func() { cancel(errTooSlow) }), cancel}
}

// callLimit is the time limit of a call. Its zero value is that of a call that its caller
// limits.
type callLimit struct {
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// lift ends the limit and not the call.
func (l callLimit) lift() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// end ends the call.
func (l callLimit) end() {
	if l.lift(); l.cancel != nil {
		l.cancel(nil)
	}
}

// readBody reads the body of a response, which may have at most limit bytes.
func (r *requester) readBody(op string, resp *response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, r.failures.unusable(op, resp.Response, errTooLarge)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, r.failures.failed(resp.Request.Context(), op, &bodyError{err})
	}
	if int64(len(data)) > limit {
		return nil, r.failures.unusable(op, resp.Response, errTooLarge)
	}
	return data, nil
}
