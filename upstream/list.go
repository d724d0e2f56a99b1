package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

const (
	// maxTagList is the size in bytes of the largest tag list: 100,000 long tags. It is
	// read as a stream.
	maxTagList = 16 << 20
	// maxQuery is the length in bytes of the longest query of a next page.
	maxQuery = 4 << 10
)

// smallerPages are the page sizes that are tried when an upstream refuses a larger one.
// Registries are known to allow one of them.
var smallerPages = [...]int{1000, 100, 50}

// Tags implements [TagLister]. Names that are no legal tags are left out. The list is
// read as a stream, so that it costs little more memory than its tags.
func (r *repository) Tags(ctx context.Context, query url.Values) (page TagPage, err error) {
	ctx, o := r.begin(ctx, OpTags, "")
	defer o.end(&err)
	page, err = r.tags(ctx, query)
	if e, ok := errors.AsType[*Error](err); !ok || !mayMeanTooMany(e.Status) {
		return page, err
	}
	n, _ := strconv.Atoi(query.Get("n"))
	for _, size := range smallerPages {
		if size >= n {
			continue
		}
		smaller := maps.Clone(query)
		smaller.Set("n", strconv.Itoa(size))
		if page, failed := r.tags(ctx, smaller); failed == nil {
			return page, nil
		}
	}
	return page, err
}

// mayMeanTooMany reports whether a status may mean that too many tags were asked for.
// ECR responds with 405, Quay with 413, others with 400 or 422.
func mayMeanTooMany(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// tags fetches one page.
func (r *repository) tags(ctx context.Context, query url.Values) (TagPage, error) {
	op := "GET tags"
	resp, err := r.requests.do(ctx, call{op: op, method: http.MethodGet, path: "tags/list", query: query, header: http.Header{"Accept": {"application/json"}}})
	if err != nil {
		return TagPage{}, err
	}
	defer resp.close()
	if err := resp.checkWhole(); err != nil {
		return TagPage{}, r.failures.unusable(op, resp.Response, err)
	}
	body := &limitedReader{r: resp.Body, remaining: maxTagList}
	tags, err := readTags(body)
	switch {
	case body.exceeded || resp.ContentLength > maxTagList:
		return TagPage{}, r.failures.unusable(op, resp.Response, errTooLarge)
	case body.err != nil:
		return TagPage{}, r.failures.failed(resp.Request.Context(), op, &bodyError{body.err})
	case err != nil:
		const text = "the tag list is not JSON"
		return TagPage{}, r.failures.unusable(op, resp.Response, unusable{text, text})
	}
	next, err := nextPage(resp.url, resp.Header)
	if err != nil {
		return TagPage{}, r.failures.unusable(op, resp.Response, err)
	}
	return TagPage{Tags: tags, Next: next}, nil
}

// limitedReader reads at most a number of bytes of a body, and keeps apart what a JSON
// decoder mixes: that the body is too large, that it broke off, and that it is no JSON.
type limitedReader struct {
	r         io.Reader
	remaining int64
	exceeded  bool  // there was more than that
	err       error // of r, other than io.EOF
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.remaining <= 0 {
		l.exceeded = true
		return 0, io.ErrUnexpectedEOF
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.remaining)])
	l.remaining -= int64(n)
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// readTags parses {"name": ..., "tags": [...]} token by token.
func readTags(r io.Reader) ([]string, error) {
	d := json.NewDecoder(r)
	if err := expect(d, json.Delim('{')); err != nil {
		return nil, err
	}
	var tags []string
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		if key != "tags" {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return nil, err
			}
			continue
		}
		if tags, err = readNames(d); err != nil {
			return nil, err
		}
	}
	return tags, expect(d, json.Delim('}'))
}

var errNotAList = errors.New("upstream: not a list")

// expect reads a token and returns an error if it is not want.
func expect(d *json.Decoder, want json.Token) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = errNotAList
	}
	return err
}

// readNames parses an array of tags, or null.
func readNames(d *json.Decoder) (tags []string, err error) {
	if first, err := d.Token(); err != nil || first == nil {
		return nil, err
	} else if first != json.Delim('[') {
		return nil, errNotAList
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, errNotAList
		}
		if ociname.ValidTag(name) {
			tags = append(tags, name)
		}
	}
	return tags, expect(d, json.Delim(']'))
}

// errNextPage reports a next page that cannot be fetched. Without that error a part of a
// list would be taken for the whole.
var errNextPage = unusable{"the list has a next page whose link cannot be followed", "the list has a next page whose link cannot be followed"}

// nextPage returns the query of the next page that a Link (RFC 8288) names, or nil if
// there is none. Only the query is used: registries behind a gateway (Artifactory,
// Nexus) and those that a redirect led to write a path of their own. A link to the page
// that was requested itself is an error, since the list would have no end.
func nextPage(asked *url.URL, h http.Header) (next url.Values, err error) {
	for _, header := range h.Values("Link") {
		for target, params := range links(header) {
			if !isNext(params) {
				continue
			}
			if u, bad := url.Parse(target); bad == nil && u.RawQuery != "" && len(u.RawQuery) <= maxQuery && u.RawQuery != asked.RawQuery {
				if next, bad = url.ParseQuery(u.RawQuery); bad == nil {
					return next, nil
				}
			}
			err = errNextPage
		}
	}
	return nil, err
}

// links yields the target of each link in a Link header and the text of its parameters.
func links(header string) func(yield func(target, params string) bool) {
	return func(yield func(target, params string) bool) {
		for {
			_, rest, ok := strings.Cut(header, "<")
			if !ok {
				return
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				return
			}
			params, _, _ := strings.Cut(rest, "<")
			if !yield(target, params) {
				return
			}
			header = rest
		}
	}
}

// isNext reports whether the parameters of a link hold the relation "next".
func isNext(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.Trim(p, " \t,"), "=")
		if strings.EqualFold(strings.TrimSpace(name), "rel") {
			for rel := range strings.FieldsSeq(strings.Trim(strings.TrimSpace(value), `"`)) {
				if strings.EqualFold(rel, "next") {
					return true
				}
			}
		}
	}
	return false
}
