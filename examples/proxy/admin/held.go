package admin

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"github.com/pullthrough/pullthrough/cache"
)

// held answers GET held.
func (a *API) held(r *http.Request) (any, error) {
	q, err := parameters(r, "repository", "after", "limit")
	if err != nil {
		return nil, err
	}
	most, err := limit(q)
	if err != nil {
		return nil, err
	}
	var after cache.HeldTag
	if text := q.Get("after"); text != "" {
		var ok bool
		if after.Repository, after.Tag, ok = strings.Cut(text, ":"); !ok {
			return nil, wrong("after: %q is no REPOSITORY:TAG", short(text))
		}
	}
	repository := a.canonical(r.Context(), q.Get("repository"))
	list := HeldList{Held: []HeldTag{}}
	for _, t := range a.Cache.HeldTags() {
		if repository != "" && t.Repository != repository {
			continue
		}
		list.Total++
		switch {
		case cmp.Or(cmp.Compare(t.Repository, after.Repository), cmp.Compare(t.Tag, after.Tag)) <= 0:
		case len(list.Held) < most:
			list.Held = append(list.Held, heldOf(t))
		case list.Next == "":
			last := list.Held[most-1]
			list.Next = last.Repository + ":" + last.Tag
		}
	}
	return list, nil
}

// heldOf is a tag that is held, in JSON.
func heldOf(t cache.HeldTag) HeldTag {
	out := HeldTag{
		Repository: t.Repository, Tag: t.Tag, Digest: t.Digest.String(), Former: t.Former.String(), Rule: t.Source.Rule, Source: t.Source.String(),
		Since: t.Since.UTC(), Until: t.Until, Reason: bound(reason(t.Err), maxText),
	}
	if !out.Until.IsZero() {
		out.Until = out.Until.UTC()
	}
	return out
}

// reason says why a digest is held. The time stands beside it.
func reason(err error) string {
	if h, ok := errors.AsType[*cache.Hold](err); ok {
		return h.Reason
	}
	return err.Error()
}
