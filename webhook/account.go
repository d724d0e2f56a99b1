package webhook

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// masked replaces a secret.
const masked = "REDACTED"

// mask replaces the values of some headers.
func mask(h http.Header, names ...string) {
	for _, name := range names {
		if values := h[http.CanonicalHeaderKey(name)]; values != nil {
			h[http.CanonicalHeaderKey(name)] = slices.Repeat([]string{masked}, len(values))
		}
	}
}

// sentRequest describes a request without the parts that may be secret: the values of
// configured headers, signatures, and everything of the URL but scheme and host.
func (h *HTTP) sentRequest(req *http.Request, body []byte) *SentRequest {
	header := req.Header.Clone()
	mask(header, "Authorization", headerSignature)
	for name := range h.Header {
		mask(header, name)
	}
	content := string(body[:min(len(body), maxContent)])
	return &SentRequest{Method: req.Method, URI: req.URL.Scheme + "://" + req.URL.Host, Version: "HTTP/1.1", Header: header, Content: content}
}

// responseOf describes a response, and reads its body so that the connection can be
// used again.
func responseOf(resp *http.Response, secret *strings.Replacer) *Response {
	// Twice what is kept is read: a secret whose end is cut off would not be found.
	content, _ := io.ReadAll(io.LimitReader(resp.Body, 2*maxContent))
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	text := secret.Replace(string(content))
	header := http.Header{}
	left := maxHeader
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		for _, v := range resp.Header[name] {
			v = secret.Replace(v)
			if left -= len(name) + len(v); left >= 0 {
				header[name] = append(header[name], v)
			}
		}
	}
	mask(header, "Set-Cookie")
	return &Response{StatusCode: resp.StatusCode, ReasonPhrase: http.StatusText(resp.StatusCode), Version: resp.Proto,
		Header: header, Content: text[:min(len(text), maxContent)]}
}

// secretsOf returns a replacer that masks the secrets of a request. It is for texts
// that come from the receiver, because some receivers echo what they were sent.
func (h *HTTP) secretsOf(req *http.Request) *strings.Replacer {
	var all []string
	add := func(least int, texts ...string) {
		for _, text := range texts {
			if len(text) >= least {
				all = append(all, text, strings.ReplaceAll(text, "/", `\/`), url.QueryEscape(text))
			}
		}
	}
	for name := range h.Header {
		if http.CanonicalHeaderKey(name) == "Content-Type" {
			continue
		}
		for _, v := range req.Header.Values(name) {
			add(4, v)
			add(8, strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == ',' || c == '=' })...)
		}
	}
	add(4, req.Header.Get("Authorization"))
	if user, password, ok := req.BasicAuth(); ok {
		add(4, user, password, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	for v := range strings.FieldsSeq(req.Header.Get(headerSignature)) {
		add(4, v, strings.TrimPrefix(v, "v1,"))
	}
	add(4, req.URL.EscapedPath(), req.URL.Path, req.URL.RawQuery)
	add(8, strings.Split(req.URL.Path, "/")...)
	for _, values := range req.URL.Query() {
		add(8, values...)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // the longest first, because others may be parts of it
	var pairs []string
	for _, text := range slices.Compact(all) {
		pairs = append(pairs, text, masked)
	}
	return strings.NewReplacer(pairs...)
}

// failure is an error whose text shows no secret.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

// withoutURL takes the URL, whose path or query may be secret, out of an error of
// net/http, and masks secrets in the rest.
func withoutURL(host string, err error, secret *strings.Replacer) error {
	for u, ok := errors.AsType[*url.Error](err); ok; u, ok = errors.AsType[*url.Error](err) {
		err = u.Err
	}
	text := secret.Replace(err.Error())
	if text != err.Error() {
		err = nil // Unwrap would show the secret
	}
	return &failure{fmt.Sprintf("webhook: %s: %s", host, text), err}
}
