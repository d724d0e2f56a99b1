package origin

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// Kind is what is asked for by digest.
type Kind string

// The kinds.
const (
	Manifest Kind = "manifest"
	Blob     Kind = "blob"
)

// headTime is how long a source that refuses HEAD is asked by GET at once, so that this
// costs one request and not two.
const headTime = 10 * time.Minute

// headKey is a source that refuses HEAD for one kind of content.
type headKey struct {
	source upstream.Source
	kind   Kind
}

// HeadRefused reports whether the source is known to refuse HEAD.
func (r Repo) HeadRefused(k Kind) bool {
	if r.origins.noHead.Empty() {
		return false
	}
	until, ok := r.origins.noHead.Get(headKey{r.Match.Source, k})
	return ok && time.Now().Before(until)
}

// RefusesHead notes that the source answered a GET after it had refused a HEAD.
func (r Repo) RefusesHead(k Kind) {
	r.origins.noHead.Put(headKey{r.Match.Source, k}, time.Now().Add(headTime), 1)
}

// A digest that an upstream does not have is not asked for without end: once it has
// said so absentTimes within absentTime, that is the answer for as long again. A client
// that looks, pushes and looks again sees what was pushed; one that asks in a loop costs
// the upstream a few requests per second.
const (
	absentTime  = time.Second
	absentTimes = 3
)

// absentKey is a digest as a rule asks for it.
type absentKey struct {
	name, from string
	digest     digest.Digest
	kind       Kind
	generation uint64
}

// absence is the upstream's word that it does not have something.
type absence struct {
	until time.Time
	times int
	err   error
}

func (r Repo) absentKey(k Kind, d digest.Digest) absentKey {
	return absentKey{r.Name, r.From, d, k, r.Match.Generation}
}

// noteAbsent remembers for a moment that the upstream does not have a digest. What is
// known of tags is not remembered.
func (r Repo) noteAbsent(k Kind, reference string, err error) {
	class, ok := upstream.ClassOf(err)
	if !ok || class != upstream.NotFound || !isDigest(reference) {
		return
	}
	now := time.Now()
	r.origins.absent.Update(r.absentKey(k, digest.Digest(reference)), func(a absence, _ bool) (absence, int64, bool) {
		if !now.Before(a.until) {
			a.times = 0
		}
		return absence{now.Add(absentTime), a.times + 1, err}, 1, true
	})
}

// isDigest tells a digest from a tag, which has no colon.
func isDigest(reference string) bool { return strings.Contains(reference, ":") }

// Absent is what the upstream has said several times just now of a digest, if that was
// that it does not have it.
func (r Repo) Absent(k Kind, d digest.Digest) error {
	a, ok := r.origins.absent.Get(r.absentKey(k, d))
	if ok && a.times >= absentTimes && time.Now().Before(a.until) {
		return a.err
	}
	return nil
}
