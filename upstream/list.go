package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxQuery is the longest query of a next page that is taken over.
const maxQuery = 4 << 10

// Tags implements [TagLister]. What is no legal tag is left out.
func (r *repository) Tags(ctx context.Context, query url.Values) (TagPage, error) {
	op := "GET tags"
	a, err := r.do(ctx, call{op: op, method: http.MethodGet, path: "tags/list", query: query, header: http.Header{"Accept": {"application/json"}}})
	if err != nil {
		return TagPage{}, err
	}
	defer a.close()
	body, err := r.body(op, a, maxList)
	if err != nil {
		return TagPage{}, err
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return TagPage{}, r.protocol(op, a.Response, errors.New("the tag list is not JSON"))
	}
	tags := slices.DeleteFunc(list.Tags, func(t string) bool { return !tagName.MatchString(t) })
	return TagPage{Tags: tags, Next: nextPage(a.url, a.Header)}, nil
}

// Referrers implements [ReferrerLister]. At an upstream without the referrers
// API the fallback tag's list is filtered here.
func (r *repository) Referrers(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error) {
	if err := checkDigest(d); err != nil {
		return ReferrerPage{}, err
	}
	op := "GET referrers " + d.String()
	a, err := r.do(ctx, call{op: op, method: http.MethodGet, path: "referrers/" + d.String(), query: query, header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}}})
	if e, ok := errors.AsType[*Error](err); ok {
		switch e.Status {
		case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest:
			return r.fallback(ctx, d, query)
		}
	}
	if err != nil {
		return ReferrerPage{}, err
	}
	defer a.close()
	if mediaType(a.Header) != ocispec.MediaTypeImageIndex {
		return r.fallback(ctx, d, query)
	}
	body, err := r.body(op, a, maxList)
	if err != nil {
		return ReferrerPage{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return ReferrerPage{}, r.protocol(op, a.Response, errors.New("the referrers are not JSON"))
	}
	return ReferrerPage{
		Manifests:      descriptors(index.Manifests),
		FiltersApplied: a.Header.Get("OCI-Filters-Applied"),
		Next:           nextPage(a.url, a.Header),
	}, nil
}

// fallback reads the tag that stands for the referrers API where there is none
// (distribution spec, "Referrers Tag Schema").
func (r *repository) fallback(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error) {
	tag := fallbackTag(d)
	desc, body, err := r.Manifest(ctx, tag)
	if class, ok := ClassOf(err); ok && class == NotFound {
		return ReferrerPage{}, nil
	}
	if err != nil {
		return ReferrerPage{}, err
	}
	var index ocispec.Index
	if desc.MediaType != ocispec.MediaTypeImageIndex || json.Unmarshal(body, &index) != nil {
		return ReferrerPage{}, nil
	}
	page := ReferrerPage{Manifests: descriptors(index.Manifests)}
	if want := query.Get("artifactType"); want != "" {
		page.FiltersApplied = "artifactType"
		page.Manifests = slices.DeleteFunc(page.Manifests, func(m ocispec.Descriptor) bool { return m.ArtifactType != want })
	}
	return page, nil
}

// fallbackTag cuts both parts as the spec demands.
func fallbackTag(d digest.Digest) string {
	algorithm, encoded := d.Algorithm().String(), d.Encoded()
	return algorithm[:min(32, len(algorithm))] + "-" + encoded[:min(64, len(encoded))]
}

// descriptors leaves out what names no digest that is supported.
func descriptors(list []ocispec.Descriptor) []ocispec.Descriptor {
	return slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return checkDigest(d.Digest) != nil || d.Size < 0 })
}

// nextPage returns the query of the next page that a Link (RFC 8288) names, nil
// if there is none. Nothing but the query is taken over, and only from a link
// to the path that was asked.
func nextPage(asked *url.URL, h http.Header) url.Values {
	for _, header := range h.Values("Link") {
		for target, params := range links(header) {
			if !isNext(params) {
				continue
			}
			u, err := url.Parse(target)
			if err != nil {
				continue
			}
			u = asked.ResolveReference(u)
			if u.Path != asked.Path || u.RawQuery == "" || len(u.RawQuery) > maxQuery {
				continue
			}
			if query, err := url.ParseQuery(u.RawQuery); err == nil && u.RawQuery != asked.RawQuery {
				return query
			}
		}
	}
	return nil
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
