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

// maxQuery is the longest query of a next page that is taken over.
const maxQuery = 4 << 10

// smaller are the page sizes that are tried when an upstream refuses a larger one.
// They are those that registries are known to allow.
var smaller = [...]int{1000, 100, 50}

// Tags implements [TagLister]. What is no legal tag is left out. The list is read
// as a stream, so that it costs little more than its tags.
func (r *repository) Tags(ctx context.Context, query url.Values) (TagPage, error) {
	page, err := r.tags(ctx, query)
	n, _ := strconv.Atoi(query.Get("n"))
	for _, less := range smaller {
		if e, ok := errors.AsType[*Error](err); !ok || !tooMany(e.Status) || less >= n {
			continue
		}
		again := maps.Clone(query)
		again.Set("n", strconv.Itoa(less))
		if fewer, failed := r.tags(ctx, again); failed == nil {
			return fewer, nil
		}
	}
	return page, err
}

// tooMany reports whether a status may mean that too many tags were asked for: ECR
// says 405, Quay 413, others 400 or 422.
func tooMany(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

func (r *repository) tags(ctx context.Context, query url.Values) (TagPage, error) {
	op := "GET tags"
	a, err := r.do(ctx, call{op: op, method: http.MethodGet, path: "tags/list", query: query, header: http.Header{"Accept": {"application/json"}}})
	if err != nil {
		return TagPage{}, err
	}
	defer a.close()
	if err := whole(a); err != nil {
		return TagPage{}, r.protocol(op, a.Response, err)
	}
	body := &bounded{r: a.Body, left: maxTagList}
	tags, err := readTags(body)
	switch {
	case body.full || a.ContentLength > maxTagList:
		return TagPage{}, r.protocol(op, a.Response, errTooLarge)
	case body.err != nil:
		return TagPage{}, r.fail(a.Request.Context(), op, &bodyError{body.err})
	case err != nil:
		const text = "the tag list is not JSON"
		return TagPage{}, r.protocol(op, a.Response, unusable{text, text})
	}
	next, err := nextPage(a.url, a.Header)
	if err != nil {
		return TagPage{}, r.protocol(op, a.Response, err)
	}
	return TagPage{Tags: tags, Next: next}, nil
}

// whole refuses what is no whole list as it is.
func whole(a *answer) error {
	if a.StatusCode != http.StatusOK {
		return errPart
	}
	return identity(a.Header)
}

// bounded reads at most left bytes, and keeps what went wrong below.
type bounded struct {
	r    io.Reader
	left int64
	full bool
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.full = true
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// readTags reads {"name": ..., "tags": [...]} token by token.
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

func expect(d *json.Decoder, want json.Token) error {
	got, err := d.Token()
	if err == nil && got != want {
		err = errNotAList
	}
	return err
}

// readNames reads an array of tags, or null.
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

// errNextPage reports a next page that cannot be asked for: without it a part of a
// list would pass for the whole.
var errNextPage = unusable{"the list has a next page whose link cannot be followed", "the list has a next page whose link cannot be followed"}

// nextPage returns the query of the next page that a Link (RFC 8288) names, nil
// if there is none. Nothing but the query is taken over: the path need not be the
// one that was asked, since registries behind a gateway (Artifactory, Nexus) and
// after a redirect name their own. A link to what was asked has no end.
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

// links yields the targets of a Link header and what follows each.
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
