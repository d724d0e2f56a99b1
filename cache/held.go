package cache

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// HeldTag is a digest that a tag has upstream and that [Cache.Admit] did not admit when it
// was asked last.
type HeldTag struct {
	Repository string // canonical local name
	Tag        string
	Digest     digest.Digest
	// Former is what the tag stood for here then. If empty, it stood for nothing, and pulls
	// of the tag are refused.
	Former digest.Digest
	Source upstream.Source
	// Since is when the digest was not admitted for the first time, as far as this process
	// remembers.
	Since time.Time
	// Until is when a [Hold] ends. It is zero if Admit refused without one.
	Until time.Time
	// Err is what Admit returned.
	Err error
}

// HeldTags returns what Admit has not admitted, by repository and tag. The last 4096 tags
// are remembered in memory; with a restart they are known again at their next pull.
func (c *Cache) HeldTags() []HeldTag {
	var list []HeldTag
	for _, t := range c.engine().admission.last.All() {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b HeldTag) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
	})
	return list
}

// Reconsider forgets the holds of a tag, so that its next pull asks Admit again; with an
// empty tag, those of the repository; with an empty repository, all. It is for when what
// Admit decides by has changed. It returns how many tags there are.
func (c *Cache) Reconsider(ctx context.Context, repository, tag string) (int, error) {
	e := c.engine()
	if repository != "" {
		r, err := e.origins.Find(ctx, repository)
		if err != nil {
			return 0, failure(r, AccessManifest, tag, err)
		}
		repository = r.Name
	}
	about := func(k tagKey) bool {
		return (repository == "" || k.repository == repository) && (tag == "" || k.tag == tag)
	}
	tags := map[tagKey]bool{}
	for k := range e.admission.holds.All() {
		if about(k.tagKey) {
			e.admission.holds.Delete(k)
			tags[k.tagKey] = true
		}
	}
	for k := range e.admission.last.All() {
		if about(k) {
			tags[k] = true
		}
	}
	return len(tags), nil
}

// held is the Cache-Status of a tag whose new digest is not admitted.
const (
	heldFormer = "fwd=request; fwd-status=200; detail=held"
	heldFirst  = "fwd=miss; fwd-status=200; detail=held"
)

// notAdmitted is the answer for a tag whose new digest the embedder does not admit now.
func (e *engine) notAdmitted(r origin.Repo, tag string, s *storedTag, a answer, err error) answer {
	e.log.Info("a new digest is not admitted", "repository", r.Name, "tag", tag, "digest", a.man.Digest.String(), "err", err)
	if s.man != nil {
		return answer{man: s.man, state: heldFormer, asked: a.asked}
	}
	return answer{state: heldFirst, err: &Error{Status: http.StatusForbidden, Code: CodeDenied, Err: err,
		Message: fmt.Sprintf("tag '%s' of repository '%s' is not admitted: %s", tag, r.Name, err)}}
}

// undecided is the answer for a tag about whose new digest the embedder takes longer than
// a client waits. The upstream has answered in time.
func (e *engine) undecided(r origin.Repo, tag string, s *storedTag) answer {
	if s.man != nil {
		return answer{man: s.man, state: heldFormer}
	}
	return answer{state: heldFirst, err: &Error{Status: http.StatusServiceUnavailable, Code: CodeUnknown, RetryAfter: retrySoon,
		Message: fmt.Sprintf("whether tag '%s' of repository '%s' is admitted is being decided; try again", tag, r.Name)}}
}
