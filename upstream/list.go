package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Tags asks for one page of tags.
func (r *repository) Tags(ctx context.Context, query url.Values) (TagPage, error) {
	const op = "GET tags"
	resp, err := r.do(ctx, op, http.MethodGet, "/tags/list", query, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return TagPage{}, err
	}
	defer resp.Body.Close()
	body, err := r.all(op, resp)
	if err != nil {
		return TagPage{}, err
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return TagPage{}, r.bad(op, fmt.Errorf("the list cannot be read: %w", err))
	}
	return TagPage{Tags: list.Tags, Next: nextPage(resp.Header, query)}, nil
}

// nextPage returns the query of a Link with rel=next (RFC 8288), nil if there
// is none. Only the query counts: where the link leads is not followed. A page
// that leads to itself is the last.
func nextPage(h http.Header, now url.Values) url.Values {
	for _, v := range h.Values("Link") {
		for link := range strings.SplitSeq(v, ",") {
			target, params, ok := strings.Cut(link, ">")
			target = strings.TrimPrefix(strings.TrimSpace(target), "<")
			if !ok || !strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
				continue
			}
			u, err := url.Parse(target)
			if err != nil {
				continue
			}
			if q := u.Query(); len(q) > 0 && q.Encode() != now.Encode() {
				return q
			}
		}
	}
	return nil
}

// Referrers asks for one page of referrers, or for the fallback tag.
func (r *repository) Referrers(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error) {
	op := "GET referrers " + d.String()
	resp, err := r.do(ctx, op, http.MethodGet, "/referrers/"+d.String(), query, http.Header{"Accept": {ocispec.MediaTypeImageIndex}})
	if e, ok := errors.AsType[*Error](err); ok && (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusBadRequest) {
		return r.fallback(ctx, d, query)
	}
	if err != nil {
		return ReferrerPage{}, err
	}
	defer resp.Body.Close()
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != ocispec.MediaTypeImageIndex {
		return r.fallback(ctx, d, query)
	}
	body, err := r.all(op, resp)
	if err != nil {
		return ReferrerPage{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return ReferrerPage{}, r.bad(op, fmt.Errorf("the list cannot be read: %w", err))
	}
	return ReferrerPage{Manifests: index.Manifests, FiltersApplied: resp.Header.Get("OCI-Filters-Applied"), Next: nextPage(resp.Header, query)}, nil
}

// fallback reads the tag of the distribution spec's referrers tag schema.
func (r *repository) fallback(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error) {
	_, body, err := r.Manifest(ctx, d.Algorithm().String()+"-"+d.Encoded())
	if c, ok := ClassOf(err); err != nil && ok && c == NotFound {
		return ReferrerPage{}, nil
	}
	if err != nil {
		return ReferrerPage{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return ReferrerPage{}, r.bad("GET referrers", fmt.Errorf("the fallback tag cannot be read: %w", err))
	}
	page := ReferrerPage{Manifests: index.Manifests}
	if want := query.Get("artifactType"); want != "" {
		page.Manifests, page.FiltersApplied = nil, "artifactType"
		for _, m := range index.Manifests {
			if m.ArtifactType == want {
				page.Manifests = append(page.Manifests, m)
			}
		}
	}
	return page, nil
}
