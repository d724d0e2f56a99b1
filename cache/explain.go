package cache

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// Explanation says what a pull would do now, and why.
type Explanation struct {
	Repository string          // canonical local name
	Rule       string          // name of the rule; empty if none covers the repository
	Source     upstream.Source // zero without a rule
	Stored     bool            // the image is stored here, with all that it names
	Digest     digest.Digest   // of the stored image, or what was asked for
	// Fresh says that the tag is served without a request to the upstream.
	Fresh bool
	// Copy is the copy job of what is pulled, or of what the tag is about to stand for.
	// If nil, there is none.
	Copy *CopyState
	// Trouble is why the upstream is not asked for the moment, be it down or its budget
	// spared ([Cache.KeepBudget]). If nil, it is asked.
	Trouble error
	// Held is a digest that the tag has upstream and that Admit did not admit when it was
	// asked last, and HeldErr is why. They are empty if there is none.
	Held    digest.Digest
	HeldErr error
	// HeldUntil is when the [Hold] of that digest ends: Admit is asked again at the first
	// pull after it. It is zero if Admit refused without one.
	HeldUntil time.Time
	// Text is all that in a sentence.
	Text string
}

// Explain tells what a pull of a tag or digest would do now. It asks no
// upstream. Errors are [*Error].
func (c *Cache) Explain(ctx context.Context, repository, reference string) (Explanation, error) {
	e := c.engine()
	r, d, err := e.name(ctx, AccessManifest, repository, reference)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Repository: r.Name, Rule: r.Rule(), Digest: d}
	if d == "" {
		if s := e.local.tag(ctx, r.Repo, reference); s.man != nil {
			x.Stored, x.Digest = true, s.man.Digest
			x.Fresh = !r.Covered() || e.fresh(r.Repo, s, time.Now())
		}
	} else {
		x.Stored = e.local.manifest(ctx, r.Repo, d) != nil
		x.Fresh = x.Stored
	}
	if r.Covered() {
		x.Source = r.Match.Source
		if err, _ := r.Down(); err != nil {
			x.Trouble = err
		} else if x.Stored && !x.Fresh {
			x.Trouble = r.Spared()
		}
	}
	for _, c := range e.ledger.Copies(r.Name) {
		if c.Job.About(reference) || c.Job.Digest == x.Digest && !x.Stored {
			s := e.copyState(c)
			x.Copy = &s
		}
	}
	if held, ok := e.admission.heldOf(r.Repo, reference); ok && d == "" {
		x.Held, x.HeldErr, x.HeldUntil = held.Digest, held.Err, held.Until
	}
	x.Text = x.sentence()
	return x, nil
}

func (x Explanation) sentence() string {
	text := "no rule covers " + x.Repository
	if x.Rule != "" {
		text = "rule " + x.Rule + " maps " + x.Repository + " to " + x.Source.String()
	}
	switch {
	case x.Stored && x.Fresh:
		text += "; a complete copy is here and is served"
	case x.Stored && spares(x.Trouble):
		text += "; a complete copy is here and is served unchecked, since the rest of the source's budget is kept for what is not stored"
	case x.Stored && x.Trouble != nil:
		text += "; a complete copy is here and is served unchecked, since the source cannot be asked"
	case x.Stored:
		text += "; a complete copy is here and is served if the source says that the tag has not moved"
	case x.Rule == "":
		text += "; nothing is stored, so a pull fails"
	case x.Trouble != nil:
		text += "; nothing complete is stored and the source cannot be asked, so a pull fails"
	case x.Held != "":
		text += "; nothing complete is stored"
	default:
		text += "; nothing complete is stored, so a pull streams from the source"
	}
	if x.Held != "" {
		text += x.heldSentence()
	}
	if x.Copy == nil {
		return text
	}
	words, ok := elsewhereWords[x.Copy.Elsewhere]
	if !ok {
		words = copyWords[x.Copy.State]
	}
	text += "; a copy " + words
	if x.Copy.Err != nil {
		text += "; it failed last with: " + x.Copy.Err.Error()
	}
	if !x.Copy.Next.IsZero() && x.Copy.State == CopyPaused {
		text += "; it is tried again at " + x.Copy.Next.UTC().Format(time.RFC3339)
	}
	return text
}

// heldSentence says what was not admitted, and what follows from that.
func (x Explanation) heldSentence() string {
	text := "; the tag was seen at " + x.Held.String() + ", which is not admitted: " + x.HeldErr.Error()
	switch {
	case !x.HeldUntil.IsZero() && !time.Now().Before(x.HeldUntil):
		return text + "; that time has passed, so the next pull asks again whether it is admitted"
	case x.Stored:
		return text + "; meanwhile the tag stands for the former image"
	}
	return text + "; a pull is refused as long as the tag stands for it"
}

// elsewhereWords say what another cache does with a copy. They never change.
var elsewhereWords = map[JobState]string{
	JobComing:  "is made by another cache",
	JobParked:  "was given to another cache, where it failed too often and is parked",
	JobSending: "was made by another cache, where its events wait for their receivers",
}

// copyWords say what a state means. They never change.
var copyWords = map[CopyStatus]string{
	CopyQueued:    "is queued",
	CopyRunning:   "is running",
	CopySubmitted: "was given to the Copier",
	CopyWaiting:   "of the index waits for a platform to be pulled or copied",
	CopyWatching:  "begins when a client asks for one of its layers",
	CopyPaused:    "failed and is tried again",
	CopyParked:    "failed too often and is parked until somebody pulls it, or Retry",
}
