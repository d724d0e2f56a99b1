package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullthrough/pullthrough/auth"
)

const (
	// maxTagList is the largest tag list, in bytes: 100,000 long tags. It is read
	// as a stream.
	maxTagList = 16 << 20
	// maxList is the largest referrer list or fallback index, in bytes.
	maxList = 4 << 20
	// maxErrorBody is how much of an error's body is looked at.
	maxErrorBody = 64 << 10
	// maxMessage is how much of an error's message is looked at.
	maxMessage = 1 << 10
	// maxRedirects is how many redirects a request follows.
	maxRedirects = 10
)

// repository is what Open returns.
type repository struct {
	engine *engine
	source Source
	auth   auth.Authenticator
	origin origin // where it is asked
}

// Origin returns scheme://host of the Source's canonical host, thus
// https://docker.io for Docker Hub.
func (r *repository) Origin() string { return r.origin.scheme + "://" + r.source.Host }

// call is one question to the upstream.
type call struct {
	op     string // for errors: "GET manifest v1"
	method string
	path   string // below /v2/<repository>/
	query  url.Values
	header http.Header // what else is sent; never a secret
	stream bool        // the body may take its time
	// conditional takes 304 for an answer.
	conditional bool
}

// answer is a response with a status of 200 or 206, or 304 to a conditional call.
// Its body must be closed.
type answer struct {
	*http.Response
	url     *url.URL // that was asked, before redirects
	release func()   // ends the answer's time limit
}

func (a *answer) close() {
	_ = a.Body.Close()
	a.release()
}

var errTooSlow = errors.New("no complete answer in time")

// do asks. What it returns besides an answer is always an [*Error].
func (r *repository) do(ctx context.Context, c call) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(r.engine.total, func() { cancel(errTooSlow) })
	release := func() { timer.Stop(); cancel(nil) }
	u := &url.URL{Scheme: r.origin.scheme, Host: r.origin.host, Path: "/v2/" + r.source.Repository + "/" + c.path, RawQuery: c.query.Encode()}
	resp, anonymous, err := r.authorized(ctx, c, u)
	if err != nil {
		e := r.fail(ctx, c.op, err)
		e.Anonymous = anonymous
		release()
		return nil, e
	}
	a := &answer{Response: resp, url: u, release: release}
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusPartialContent:
	case resp.StatusCode == http.StatusNotModified && c.conditional:
	default:
		defer a.close()
		e := r.refusal(c.op, resp)
		e.Anonymous = anonymous
		return nil, e
	}
	if c.stream {
		timer.Stop()
	}
	return a, nil
}

// identity reports a body that is labelled as another one than the content
// itself. Of content with a digest the label does not matter if the bytes match.
func identity(h http.Header) error {
	for _, v := range h.Values("Content-Encoding") {
		if v = strings.TrimSpace(v); v != "" && !strings.EqualFold(v, "identity") {
			return unusable{"the answer is encoded, though identity was asked for", "the answer is encoded, though identity was asked for"}
		}
	}
	return nil
}

// follow sends the request and goes where redirects lead. s is shown nowhere
// but at the origin of the rule, and not any more once a redirect left it: from
// there on an anonymous session of each origin takes its place.
func (r *repository) follow(ctx context.Context, c call, u *url.URL, s *session) (*http.Response, error) {
	t := r.newTrip(s)
	ctx = withTrip(ctx, t)
	ctx = orasauth.WithScopesForHost(ctx, r.origin.host, orasauth.ScopeRepository(r.source.Repository, orasauth.ActionPull))
	for hops := 0; ; hops++ {
		req, err := http.NewRequestWithContext(ctx, c.method, u.String(), nil)
		if err != nil {
			return nil, errAddress
		}
		for k, v := range c.header {
			req.Header[k] = v
		}
		t.to(req)
		resp, err := t.proof.do(req)
		if err != nil {
			return nil, t.discreet(err)
		}
		location := resp.Header.Get("Location")
		if !redirects(resp.StatusCode) || location == "" || staysHome(ctx) {
			return resp, nil
		}
		_ = resp.Body.Close()
		if hops == maxRedirects {
			return nil, &guardError{"too many redirects", "it redirects too often"}
		}
		if u, err = t.redirect(u, location); err != nil {
			return nil, err
		}
		if t.left {
			t.proof = r.engine.sessions.elsewhere(r.source, originOf(u))
		}
	}
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// body reads all of a small answer, at most limit bytes.
func (r *repository) body(op string, a *answer, limit int64) ([]byte, error) {
	if a.ContentLength > limit {
		return nil, r.protocol(op, a.Response, errTooLarge)
	}
	data, err := io.ReadAll(io.LimitReader(a.Body, limit+1))
	if err != nil {
		return nil, r.fail(a.Request.Context(), op, &bodyError{err})
	}
	if int64(len(data)) > limit {
		return nil, r.protocol(op, a.Response, errTooLarge)
	}
	return data, nil
}

var errTooLarge = unusable{"the answer is too large", "the answer is too large"}

// said is what the body of a refusal says.
type said struct {
	code    string         // empty unless it is plausible
	message auth.Sensitive // the upstream's own words, which may repeat what it was sent: only for auth.Observer
}

// maxShown is how many characters of a foreign text an error shows.
const maxShown = 100

// shorten is what an error shows of a text that somebody else wrote: its beginning,
// in quotes, with what cannot be seen spelt out. It is the one place that decides so.
func shorten(text string) string { return fmt.Sprintf("%.*q", maxShown, text) }

// saidIn reads the first error of the OCI envelope in the body of a refusal. A code
// that repeats what was sent is left out.
func saidIn(resp *http.Response) said {
	if resp.Body == nil {
		return said{}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil || identity(resp.Header) != nil {
		return said{}
	}
	var envelope struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(data, &envelope) != nil || len(envelope.Errors) == 0 {
		return said{}
	}
	first := envelope.Errors[0]
	if len(first.Code) > 64 || strings.Trim(first.Code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" {
		first.Code = ""
	}
	if t := tripOf(resp.Request.Context()); t != nil && t.repeats(first.Code) {
		first.Code = ""
	}
	return said{first.Code, auth.NewSensitive(first.Message[:min(len(first.Message), maxMessage)])}
}
