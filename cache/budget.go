package cache

import (
	"errors"
	"time"

	"github.com/pullthrough/pullthrough/internal/oci"
	"github.com/pullthrough/pullthrough/internal/origin"
	"github.com/pullthrough/pullthrough/upstream"
)

// unspent answers a pull by tag without a request to an upstream whose budget is spared,
// which err says: with what the tag was seen to stand for if that is being copied, or else
// with what is stored. Without either, or if that is too old for the rule, it is not ok.
func (e *engine) unspent(r origin.Repo, tag string, s *storedTag, err error) (a answer, ok bool) {
	if man, seen := e.comingFor(r, tag); man != nil && seen.UnixNano() > s.checked.Load() {
		s = &storedTag{from: r.From, man: man}
		s.checked.Store(seen.UnixNano())
		a.remote = true
	}
	if s.man == nil {
		return a, false
	}
	chosen := e.choose(r, tag, s, answer{err: err})
	chosen.remote = a.remote
	return chosen, chosen.err == nil
}

// comingFor returns the manifest that a tag was seen to stand for, and when, if it is being
// copied.
func (e *engine) comingFor(r origin.Repo, tag string) (*oci.Content, time.Time) {
	n, ok := e.sightings.newest.Get(tagKey{r.Name, tag})
	if !ok || n.from != r.From {
		return nil, time.Time{}
	}
	return e.ledger.Find(keyOf(r, n.digest), r.Match.Source), n.seen
}

// spares reports whether an upstream is not asked so that the rest of its budget is left
// for what is not stored.
func spares(err error) bool { return errors.Is(err, origin.ErrBudget) }

// budgetMessage says to clients why they get what is stored.
func budgetMessage(who string, up *upstream.Error) string {
	return who + " is not asked whether the tag has moved: " + up.Reason
}
