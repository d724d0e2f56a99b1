package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

var (
	// errTooLarge reports a response that is larger than it may be.
	errTooLarge = unusable{"the answer is too large", "the answer is too large"}
	// errPart reports a part of what should have come as a whole.
	errPart = errors.New("a part, though the whole was asked for")
)

// response is a response whose status is 200 or 206, or 304 to a conditional call. It
// must be closed.
type response struct {
	*http.Response
	url   *url.URL // that was requested first, before any redirect
	limit callLimit
}

// close closes the body and ends the call.
func (r *response) close() {
	_ = r.Body.Close()
	r.limit.end()
}

// checkWhole refuses a response that is not the whole content, unencoded.
func (r *response) checkWhole() error {
	if r.StatusCode != http.StatusOK {
		return errPart
	}
	return checkEncoding(r.Header)
}

// quoted completes a [*quoting] error with what the upstream wrote, as far as that may
// be shown. It returns other errors as they are.
func (r *response) quoted(err error) error {
	q, ok := errors.AsType[*quoting](err)
	g := guardOf(r.Request.Context())
	if !ok || g == nil {
		return err
	}
	shown := make([]any, len(q.quotes))
	for i, text := range q.quotes {
		shown[i] = g.echoes.quote(text)
	}
	return unusable{fmt.Sprintf(q.format, shown...), q.client}
}

// discard closes a response that is not passed on. It may be nil.
func discard(resp *http.Response) {
	if resp != nil {
		_ = resp.Body.Close()
	}
}
