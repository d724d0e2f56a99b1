package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	orasregistry "oras.land/oras-go/v2/registry"
	orasauth "oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/pullthrough/pullthrough/auth"
)

const loopHeader = "CDN-Loop"

type loopKey struct{}

// WithLoop returns a context whose requests carry value as their CDN-Loop
// header (RFC 8586).
func WithLoop(ctx context.Context, value string) context.Context {
	return context.WithValue(ctx, loopKey{}, value)
}

// do sends a request and returns an answer of status 2xx. Everything else is an
// *Error.
func (r *repository) do(ctx context.Context, op, method, path string, query url.Values, header http.Header) (*http.Response, error) {
	resp, err := r.send(ctx, op, method, path, query, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, r.refusal(op, resp)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		_ = resp.Body.Close()
		return nil, r.bad(op, fmt.Errorf("the answer is encoded as %q though identity was asked for", e))
	}
	return resp, nil
}

// send authenticates and sends; a refused credential is read again once.
func (r *repository) send(ctx context.Context, op, method, path string, query url.Values, header http.Header) (*http.Response, error) {
	u := url.URL{Scheme: r.scheme, Host: r.host, Path: "/v2/" + r.source.Repository + path, RawQuery: query.Encode()}
	ctx = orasauth.AppendRepositoryScope(ctx, orasregistry.Reference{Registry: r.source.Host, Repository: r.source.Repository}, orasauth.ActionPull)
	who := auth.Request{Rule: r.source.Rule, Host: r.source.Host, Repository: r.source.Repository}
	for try := 0; ; try++ {
		cred, err := r.auth.Credential(ctx, who)
		if err != nil {
			return nil, r.noCredential(ctx, op, err)
		}
		req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			return nil, r.bad(op, err)
		}
		req.Header.Set("Accept-Encoding", "identity")
		for k, v := range header {
			req.Header[k] = v
		}
		if v, ok := ctx.Value(loopKey{}).(string); ok {
			req.Header.Set(loopHeader, v)
		}
		resp, err := r.login(cred, false).Do(req)
		refused := err == nil && resp.StatusCode == http.StatusUnauthorized || tokenRefused(err)
		i, can := r.auth.(auth.Invalidator)
		if !refused || !can || try > 0 || cred.Anonymous() {
			if err != nil {
				return nil, r.failed(op, err)
			}
			return resp, nil
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		i.Invalidate(who, cred)
		r.login(cred, true)
	}
}

// tokenRefused reports whether a token server refused the credential.
func tokenRefused(err error) bool {
	var e *errcode.ErrorResponse
	return errors.As(err, &e) && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusBadRequest)
}

// noCredential maps what an authenticator failed with.
func (r *repository) noCredential(ctx context.Context, op string, err error) error {
	e := &Error{Source: r.source, Op: op, Class: Unreachable, Err: err}
	var denied *auth.DeniedError
	switch {
	case errors.As(err, &denied), errors.Is(err, auth.ErrHost):
		e.Class = Denied
	case ctx.Err() == nil: // a secret that cannot be read is the set-up's fault
		e.Class = Denied
	}
	return e
}

// bad is an answer that cannot be used.
func (r *repository) bad(op string, err error) *Error {
	return &Error{Source: r.source, Op: op, Class: Protocol, Err: err}
}

// failed maps what sending failed with. URLs are dropped from the text: they
// may hold secrets.
func (r *repository) failed(op string, err error) error {
	e := &Error{Source: r.source, Op: op, Class: Unreachable}
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) {
		e.Status, e.Err = answer.StatusCode, errors.New("the token server refuses")
		e.Class = classOfStatus(answer.StatusCode)
		if e.Class == NotFound {
			e.Class = Denied
		}
		return e
	}
	for {
		u, ok := errors.AsType[*url.Error](err)
		if !ok {
			break
		}
		err = u.Err
	}
	e.Err = err
	if errors.Is(err, errRefused) {
		e.Class = Protocol
	}
	var n net.Error
	e.Timeout = errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
	return e
}

func classOfStatus(status int) Class {
	switch {
	case status == http.StatusTooManyRequests:
		return Limited
	case status == http.StatusNotFound:
		return NotFound
	case status >= 500:
		return Unreachable
	case status >= 400:
		return Denied
	}
	return Protocol
}

// refusal maps an answer that is not 2xx.
func (r *repository) refusal(op string, resp *http.Response) *Error {
	e := &Error{Source: r.source, Op: op, Status: resp.StatusCode, Class: classOfStatus(resp.StatusCode)}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	var envelope struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10))
	if json.Unmarshal(data, &envelope) == nil && len(envelope.Errors) > 0 && code(envelope.Errors[0].Code) {
		e.Code = envelope.Errors[0].Code
	}
	return e
}

// code reports whether a text looks like an error code, and like nothing else.
func code(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
}

const maxRetryAfter = 24 * time.Hour

// retryAfter parses a Retry-After header: seconds or an HTTP date.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
		return time.Duration(min(max(n, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
