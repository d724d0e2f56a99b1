package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxReferrers is the size in bytes of the largest referrer list.
	maxReferrers = 4 << 20
	// maxLackReferrers is how many repositories are remembered as ones without the
	// referrers API.
	maxLackReferrers = 4096
	// lackReferrersTime is how long each of them is remembered.
	lackReferrersTime = 10 * time.Minute
)

// Referrers implements [ReferrerLister]. It applies a filter that the upstream does not
// apply. For ten minutes it remembers that an upstream lacks the referrers API.
func (r *repository) Referrers(ctx context.Context, d digest.Digest, query url.Values) (page ReferrerPage, err error) {
	ctx, o := r.begin(ctx, OpReferrers, d.String())
	defer o.end(&err)
	page, err = r.referrers(ctx, d, query)
	return page.Filter(query.Get("artifactType")), err
}

// referrers fetches one page, which the upstream may have filtered.
func (r *repository) referrers(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error) {
	if err := checkDigest(d); err != nil {
		return ReferrerPage{}, err
	}
	if until, ok := r.lackReferrers.Get(r.source); ok && time.Now().Before(until) {
		return r.fallback(ctx, d)
	}
	op := "GET referrers " + d.String()
	resp, err := r.requests.do(ctx, call{op: op, method: http.MethodGet, path: "referrers/" + d.String(), query: query, header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}}})
	if e, ok := errors.AsType[*Error](err); ok && lacksReferrers(e) {
		return r.withoutReferrers(ctx, d)
	}
	if err != nil {
		return ReferrerPage{}, err
	}
	defer resp.close()
	if mediaType(resp.Header) != ocispec.MediaTypeImageIndex {
		return r.withoutReferrers(ctx, d)
	}
	if err := resp.checkWhole(); err != nil {
		return ReferrerPage{}, r.failures.unusable(op, resp.Response, err)
	}
	body, err := r.requests.readBody(op, resp, maxReferrers)
	if err != nil {
		return ReferrerPage{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		const text = "the referrers are not JSON"
		return ReferrerPage{}, r.failures.unusable(op, resp.Response, unusable{text, text})
	}
	next, err := nextPage(resp.url, resp.Header)
	if err != nil {
		return ReferrerPage{}, r.failures.unusable(op, resp.Response, err)
	}
	return ReferrerPage{
		Manifests:      descriptors(index.Manifests),
		FiltersApplied: resp.Header.Get("OCI-Filters-Applied"),
		Next:           next,
	}, nil
}

// lacksReferrers reports whether a refusal means that there is no referrers API. The
// spec demands 404; registries respond with any of the others to a path or a media type
// that they do not know. A refusal of the token server means nothing of the kind.
func lacksReferrers(e *Error) bool {
	if _, ok := errors.AsType[*tokenError](e); ok {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusGone, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return true
	}
	return false
}

// withoutReferrers fetches the fallback, and if that works remembers that the upstream
// lacks the referrers API.
func (r *repository) withoutReferrers(ctx context.Context, d digest.Digest) (ReferrerPage, error) {
	page, err := r.fallback(ctx, d)
	if err == nil {
		r.lackReferrers.Put(r.source, time.Now().Add(lackReferrersTime), 1)
	}
	return page, err
}

// fallback fetches the tag that takes the place of the referrers API (distribution spec,
// "Referrers Tag Schema"). If it does not exist, or is no index, there are no referrers.
func (r *repository) fallback(ctx context.Context, d digest.Digest) (ReferrerPage, error) {
	desc, body, err := r.manifest(ctx, fallbackTag(d), nil)
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
	return ReferrerPage{Manifests: descriptors(index.Manifests)}, nil
}

// fallbackTag returns the name of that tag, each part of it cut as the spec demands.
func fallbackTag(d digest.Digest) string {
	algorithm, encoded := d.Algorithm().String(), d.Encoded()
	return algorithm[:min(32, len(algorithm))] + "-" + encoded[:min(64, len(encoded))]
}

// descriptors returns the descriptors that have a supported digest and a size. It reuses
// the memory of list.
func descriptors(list []ocispec.Descriptor) []ocispec.Descriptor {
	return slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return checkDigest(d.Digest) != nil || d.Size < 0 })
}
