package cache

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/internal/flight"
	"github.com/pullthrough/pullthrough/upstream"
)

// progress counts the bytes of a copy that are here.
func (e *engine) progress(s *CopyState, blobs []ocispec.Descriptor) {
	p := place{repo: s.Repository}
	for _, d := range blobs {
		s.Total += d.Size
		if front, _, ok := e.flights.Peek(flight.Key{Source: s.Source, Digest: d.Digest}); ok {
			s.Done += front
		} else if e.linked(e.ctx, p, d.Digest) {
			s.Done += d.Size
		}
	}
}

// Explanation says what a pull would do now, and why.
type Explanation struct {
	Repository string          // canonical local name
	Rule       string          // name of the rule; empty: none covers it
	Source     upstream.Source // zero without a rule
	Stored     bool            // a complete copy is here
	Digest     digest.Digest   // of the complete copy, or what was asked for
	// Fresh says that the tag is served without a question.
	Fresh bool
	// Copy is the state of the copy that is under way; empty: none.
	Copy string
	// Trouble is why the upstream is not asked just now; nil: it is.
	Trouble error
	// Text is all that in a sentence.
	Text string
}

// Explain tells what a pull of a tag or digest would do now. It asks no
// upstream. Errors are [*Error].
func (c *Cache) Explain(ctx context.Context, repository, reference string) (Explanation, error) {
	e := c.engine()
	p, d, err := e.name(ctx, kindManifest, repository, reference)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Repository: p.repo, Rule: p.rule(), Digest: d}
	if d == "" {
		if s := e.stored(ctx, p, reference); s.man != nil {
			x.Stored, x.Digest = true, s.man.desc.Digest
			x.Fresh = p.match == nil || e.fresh(p, s)
		}
	} else {
		x.Stored = e.complete(ctx, p, d) != nil
		x.Fresh = x.Stored
	}
	if p.match != nil {
		x.Source = p.match.Source
		if err, _ := e.trouble(p); err != nil {
			x.Trouble = err
		}
	}
	e.jobs.mu.Lock()
	for k, t := range e.jobs.entries {
		if k.repo != p.repo {
			continue
		}
		if k.digest == d {
			x.Copy = string(t.state)
		}
		for _, s := range t.job.Tags {
			if s.Tag == reference {
				x.Copy = string(t.state)
			}
		}
	}
	e.jobs.mu.Unlock()
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
	if x.Copy != "" {
		text += "; a copy is " + x.Copy
	}
	return text
}
