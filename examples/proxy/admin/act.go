package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
)

// retry answers POST retry.
func (a *API) retry(r *http.Request) (any, error) {
	var t Target
	if err := a.input(r, &t); err != nil {
		return nil, err
	}
	switch {
	case t.Platforms != nil:
		return nil, wrong("platforms: retry takes none")
	case t.All && t.Reference != "", t.Repository == "" && t.Reference != "", t.Repository == "" && !t.All:
		return nil, wrong("give a repository, perhaps with a reference, or all: true for everything")
	}
	n, err := a.Cache.Retry(r.Context(), t.Repository, t.Reference)
	a.done(r, "retry", err, slog.String("repository", short(t.Repository)), slog.String("reference", short(t.Reference)), slog.Int("copies", n))
	if err != nil {
		return nil, err
	}
	return Retried{Copies: n}, nil
}

// delete answers POST delete.
func (a *API) delete(r *http.Request) (any, error) {
	var t Target
	if err := a.input(r, &t); err != nil {
		return nil, err
	}
	switch {
	case t.Platforms != nil:
		return nil, wrong("platforms: delete takes none")
	case t.Repository == "":
		return nil, wrong("repository is missing")
	case t.All == (t.Reference != ""):
		return nil, wrong("give either a reference, which is a tag or a digest, or all: true for the whole repository")
	}
	there, err := a.isThere(r.Context(), t)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, &Error{Status: http.StatusNotFound, Code: CodeNotFound, Message: "nothing of " + short(name(t)) + " is stored or being copied"}
	}
	if t.All {
		err = a.Cache.DeleteRepository(r.Context(), t.Repository)
	} else {
		err = a.Cache.Delete(r.Context(), t.Repository, t.Reference)
	}
	a.done(r, "delete", err, slog.String("repository", short(t.Repository)), slog.String("reference", short(t.Reference)))
	if err != nil {
		return nil, err
	}
	return Deleted{Repository: t.Repository, Reference: t.Reference}, nil
}

// name writes what is acted on as REPOSITORY:TAG or REPOSITORY@DIGEST.
func name(t Target) string {
	switch {
	case t.Reference == "":
		return t.Repository
	case isDigest(t.Reference):
		return t.Repository + "@" + t.Reference
	}
	return t.Repository + ":" + t.Reference
}

// isDigest reports whether a reference is a digest.
func isDigest(reference string) bool { return digest.Digest(reference).Validate() == nil }

// isThere reports whether there is something to delete. The cache itself deletes what is not
// there without an error.
func (a *API) isThere(ctx context.Context, t Target) (bool, error) {
	reference := t.Reference
	if t.All {
		reference = "latest" // any will do for the canonical name
	}
	x, err := a.Cache.Explain(ctx, t.Repository, reference)
	if err != nil {
		return false, err
	}
	if !t.All {
		if x.Copy != nil {
			return true, nil
		}
		if isDigest(t.Reference) {
			_, err = a.Store.Stat(ctx, x.Repository, digest.Digest(t.Reference))
		} else {
			_, err = a.Store.Tag(ctx, x.Repository, t.Reference)
		}
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	if len(a.Cache.CopiesPage(cache.CopyFilter{Repository: x.Repository, Limit: 1}).Copies) > 0 {
		return true, nil
	}
	return a.hasContent(ctx, x.Repository)
}

// hasContent reports whether a repository has a tag, a manifest or a blob.
func (a *API) hasContent(ctx context.Context, repository string) (bool, error) {
	if l, ok := store.As[store.Lister](a.Store); ok {
		for _, err := range l.TagNames(ctx, repository, "") {
			return err == nil, err
		}
	}
	if l, ok := store.As[store.ManifestLister](a.Store); ok {
		for _, err := range l.Manifests(ctx, repository) {
			return err == nil, err
		}
	}
	if l, ok := store.As[store.BlobLister](a.Store); ok {
		for _, err := range l.Blobs(ctx, repository) {
			return err == nil, err
		}
	}
	return false, nil
}

// evict answers POST evict.
func (a *API) evict(r *http.Request) (any, error) {
	if err := a.input(r, &struct{}{}); err != nil {
		return nil, err
	}
	release, err := acquire(&a.evictions, 1, "one eviction goes on already")
	if err != nil {
		return nil, err
	}
	defer release()
	gone, err := a.Cache.Evict(r.Context())
	a.done(r, "evict", err, slog.Int("images", gone.Images), slog.Int64("bytes", gone.Bytes))
	if err != nil {
		return nil, err
	}
	return Evicted{Images: gone.Images, Bytes: gone.Bytes, Unmet: gone.Unmet}, nil
}

// resend answers POST resend.
func (a *API) resend(r *http.Request) (any, error) {
	var t Resent
	if err := a.input(r, &t); err != nil {
		return nil, err
	}
	if t.Receiver == "" || t.Event == "" {
		return nil, wrong("receiver and event are required")
	}
	outbox, err := a.outbox(t.Receiver)
	if err != nil {
		return nil, err
	}
	err = outbox.Resend(r.Context(), t.Receiver, t.Event)
	a.done(r, "resend", err, slog.String("receiver", short(t.Receiver)), slog.String("event", short(t.Event)))
	if err != nil {
		return nil, err
	}
	return t, nil
}

// ping answers POST ping.
func (a *API) ping(r *http.Request) (any, error) {
	var t Resent
	if err := a.input(r, &t); err != nil {
		return nil, err
	}
	if t.Receiver == "" || t.Event != "" {
		return nil, wrong("receiver is required, and nothing else")
	}
	outbox, err := a.outbox(t.Receiver)
	if err != nil {
		return nil, err
	}
	d, err := outbox.Ping(r.Context(), t.Receiver)
	a.done(r, "ping", err, slog.String("receiver", short(t.Receiver)))
	if err != nil {
		return nil, err
	}
	out := deliveryOf(d)
	out.Receiver = t.Receiver
	return out, nil
}

// input reads a body, and refuses parameters in the URL, which a reader may expect to count.
func (a *API) input(r *http.Request, into any) error {
	if r.URL.RawQuery != "" {
		return wrong("this takes a body and no parameters in the URL")
	}
	return body(r, into)
}
