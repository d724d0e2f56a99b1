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

// masked stands for what is not shown.
const masked = "REDACTED"

// mask hides the values of headers.
func mask(h http.Header, names ...string) {
	for _, name := range names {
		if values := h[http.CanonicalHeaderKey(name)]; values != nil {
			h[http.CanonicalHeaderKey(name)] = slices.Repeat([]string{masked}, len(values))
		}
	}
}

// told notes a request without what may be secret: the values of the headers
// that were configured, signatures, and everything of the URL but its host.
func (h *HTTP) told(req *http.Request, body []byte) *SentRequest {
	header := req.Header.Clone()
	mask(header, "Authorization", headerSignature)
	for name := range h.Header {
		mask(header, name)
	}
	content := string(body[:min(len(body), maxContent)])
	return &SentRequest{Method: req.Method, URI: req.URL.Scheme + "://" + req.URL.Host, Version: "HTTP/1.1", Header: header, Content: content}
}

// answered notes an answer, and reads it so that the connection can be kept.
func answered(resp *http.Response, secret *strings.Replacer) *Response {
	// Twice what is kept: a secret must not survive because its end is cut off.
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

// private replaces in what a receiver answers what it was sent and others must
// not see: some echo it.
func (h *HTTP) private(req *http.Request) *strings.Replacer {
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
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // the longest first: others are parts of it
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

// failed takes the URL out of an error of net/http, whose path or query may be
// secret.
func failed(host string, err error, secret *strings.Replacer) error {
	for u, ok := errors.AsType[*url.Error](err); ok; u, ok = errors.AsType[*url.Error](err) {
		err = u.Err
	}
	text := secret.Replace(err.Error())
	if text != err.Error() {
		err = nil // whoever unwraps would show it
	}
	return &failure{fmt.Sprintf("webhook: %s: %s", host, text), err}
}
