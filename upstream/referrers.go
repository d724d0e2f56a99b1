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
	// maxListless is how many repositories without the referrers API are known.
	maxListless = 4096
	// listlessTime is how long that is remembered.
	listlessTime = 10 * time.Minute
)

// Referrers implements [ReferrerLister]. A filter that the upstream does not apply
// is applied here. That an upstream lacks the referrers API is remembered for ten
// minutes.
func (r *repository) Referrers(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error) {
	page, err := r.referrers(ctx, d, query)
	return page.Filter(query.Get("artifactType")), err
}

func (r *repository) referrers(ctx context.Context, d digest.Digest, query url.Values) (ReferrerPage, error) {
	if err := checkDigest(d); err != nil {
		return ReferrerPage{}, err
	}
	if until, ok := r.engine.listless.Get(r.source); ok && time.Now().Before(until) {
		return r.fallback(ctx, d)
	}
	op := "GET referrers " + d.String()
	a, err := r.do(ctx, call{op: op, method: http.MethodGet, path: "referrers/" + d.String(), query: query, header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}}})
	if e, ok := errors.AsType[*Error](err); ok && lacksReferrers(e) {
		return r.withoutReferrers(ctx, d)
	}
	if err != nil {
		return ReferrerPage{}, err
	}
	defer a.close()
	if mediaType(a.Header) != ocispec.MediaTypeImageIndex {
		return r.withoutReferrers(ctx, d)
	}
	if err := whole(a); err != nil {
		return ReferrerPage{}, r.protocol(op, a.Response, err)
	}
	body, err := r.body(op, a, maxList)
	if err != nil {
		return ReferrerPage{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		const text = "the referrers are not JSON"
		return ReferrerPage{}, r.protocol(op, a.Response, unusable{text, text})
	}
	next, err := nextPage(a.url, a.Header)
	if err != nil {
		return ReferrerPage{}, r.protocol(op, a.Response, err)
	}
	return ReferrerPage{
		Manifests:      descriptors(index.Manifests),
		FiltersApplied: a.Header.Get("OCI-Filters-Applied"),
		Next:           next,
	}, nil
}

// lacksReferrers reports whether a refusal means that there is no referrers API.
// The spec says 404; what a registry says to a path or a media type that it does
// not know may be any of the others. A token server's word is about tokens.
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

// withoutReferrers is fallback for an upstream that was just found to need it.
func (r *repository) withoutReferrers(ctx context.Context, d digest.Digest) (ReferrerPage, error) {
	page, err := r.fallback(ctx, d)
	if err == nil {
		r.engine.listless.Put(r.source, time.Now().Add(listlessTime), 1)
	}
	return page, err
}

// fallback reads the tag that stands for the referrers API where there is none
// (distribution spec, "Referrers Tag Schema").
func (r *repository) fallback(ctx context.Context, d digest.Digest) (ReferrerPage, error) {
	desc, body, err := r.Manifest(ctx, fallbackTag(d))
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

// fallbackTag cuts both parts as the spec demands.
func fallbackTag(d digest.Digest) string {
	algorithm, encoded := d.Algorithm().String(), d.Encoded()
	return algorithm[:min(32, len(algorithm))] + "-" + encoded[:min(64, len(encoded))]
}

// descriptors leaves out what names no digest that is supported.
func descriptors(list []ocispec.Descriptor) []ocispec.Descriptor {
	return slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return checkDigest(d.Digest) != nil || d.Size < 0 })
}
