package cache

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/ledger"
	"github.com/pullthrough/pullthrough/upstream"
)

// Explanation says what a pull would do now, and why.
type Explanation struct {
	Repository string          // canonical local name
	Rule       string          // name of the rule; empty: none covers it
	Source     upstream.Source // zero without a rule
	Stored     bool            // a complete copy is here
	Digest     digest.Digest   // of the complete copy, or what was asked for
	// Fresh says that the tag is served without a question.
	Fresh bool
	// Copy is the state of the copy that is under way, as in [CopyState]; empty:
	// none.
	Copy string
	// CopyError is why that copy failed last, and CopyNext when it is tried again;
	// empty and zero: it did not fail.
	CopyError string
	CopyNext  time.Time
	// Trouble is why the upstream is not asked just now; nil: it is.
	Trouble error
	// Text is all that in a sentence.
	Text string
}

// Explain tells what a pull of a tag or digest would do now. It asks no
// upstream. Errors are [*Error].
func (c *Cache) Explain(ctx context.Context, repository, reference string) (Explanation, error) {
	e := c.engine()
	r, d, err := e.name(ctx, kindManifest, repository, reference)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Repository: r.Name, Rule: r.Rule(), Digest: d}
	if d == "" {
		if s := e.local.tag(ctx, r.Repo, reference); s.man != nil {
			x.Stored, x.Digest = true, s.man.Digest
			x.Fresh = !r.Covered() || e.fresh(r.Repo, s)
		}
	} else {
		x.Stored = e.local.manifest(ctx, r.Repo, d) != nil
		x.Fresh = x.Stored
	}
	if r.Covered() {
		x.Source = r.Match.Source
		if err, _ := r.Down(); err != nil {
			x.Trouble = err
		}
	}
	for _, c := range e.ledger.Copies(r.Name) {
		if c.Job.About(reference) || c.Job.Digest == x.Digest && !x.Stored {
			x.Copy, x.CopyError, x.CopyNext = string(c.State), c.Job.Error, c.Job.Next
		}
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
	case x.Stored && x.Trouble != nil:
		text += "; a complete copy is here and is served unchecked, since the source cannot be asked"
	case x.Stored:
		text += "; a complete copy is here and is served if the source says that the tag has not moved"
	case x.Rule == "":
		text += "; nothing is stored, so a pull fails"
	case x.Trouble != nil:
		text += "; nothing complete is stored and the source cannot be asked, so a pull fails"
	default:
		text += "; nothing complete is stored, so a pull streams from the source"
	}
	if x.Copy == "" {
		return text
	}
	text += "; a copy " + copyWords[ledger.State(x.Copy)]
	if x.CopyError != "" {
		text += "; it failed last with: " + x.CopyError
	}
	if !x.CopyNext.IsZero() && ledger.State(x.Copy) == ledger.Paused {
		text += "; it is tried again at " + x.CopyNext.UTC().Format(time.RFC3339)
	}
	return text
}

// copyWords say what a state means. They never change.
var copyWords = map[ledger.State]string{
	ledger.Queued:    "is queued",
	ledger.Running:   "is running",
	ledger.Submitted: "was given to the Copier",
	ledger.Waiting:   "of the index waits for a platform to be pulled or copied",
	ledger.Watching:  "begins when a client asks for one of its layers",
	ledger.Paused:    "failed and is tried again",
	ledger.Parked:    "failed too often and is parked until somebody pulls it, or Retry",
}
