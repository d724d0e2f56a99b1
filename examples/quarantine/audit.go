package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
)

// columns are the way of an image to production, in its order.
var columns = []struct{ title, stage, what string }{
	{"quarantine", "quarantine", push},
	{"clean", "scanner", clean},
	{"dev", "dev", push},
	{"test", "test", push},
	{"asked", "prod", asked},
	{"prod", "prod", push},
}

// audit prints the audit trail, with a line for each version, and checks that no version has
// left out a step.
func (s *story) audit(context.Context) {
	s.Line("", "When each version came into each stage under its tag, by the events, and when it was found clean and production was asked for it:")
	s.Blank()
	head := fmt.Sprintf("      %-7s", "version")
	for _, c := range columns {
		head += fmt.Sprintf(" %11s", c.title)
	}
	s.Print(head)
	begun, _ := s.trail.has("quarantine", push, s.version(1))
	for n := range len(s.versions) {
		s.row(n+1, begun.time)
	}
	s.Blank()
	all := s.base()
	for n := range len(s.versions) {
		all += s.own(n + 1)
	}
	s.Line("vendor", "has sent %s in all: each blob once", narrate.Size(s.sent))
	s.check(s.sent == all, "the vendor has sent %d bytes; the blobs have %d", s.sent, all)
	// An index with its tag, the index and the image for each version that came in; and in
	// quarantine one more tag of the second.
	for _, c := range []struct {
		stage string
		want  int
	}{{"prod", 6}, {"test", 6}, {"dev", 6}, {"quarantine", 10}} {
		got := s.trail.pushes(c.stage)
		s.check(got == c.want, "%s has sent %d events; the story says %d", c.stage, got, c.want)
	}
	_, bad := s.trail.has("scanner", rejected, s.version(2))
	s.check(bad, "version 2 was not rejected")
}

// row prints the line of a version.
func (s *story) row(version int, begun time.Time) {
	line, last, missing := fmt.Sprintf("      %-7d", version), time.Time{}, ""
	for _, c := range columns {
		e, ok := s.trail.has(c.stage, c.what, s.version(version))
		if !ok {
			line += fmt.Sprintf(" %11s", "-")
			missing = c.title
			continue
		}
		s.check(missing == "", "version %d is at %q, and %q is missing", version, c.title, missing)
		s.check(!e.time.Before(last), "version %d is at %q before it was where it comes from", version, c.title)
		line += fmt.Sprintf(" %9.3f s", e.time.Sub(begun).Seconds())
		if c.what == push && c.stage == "prod" {
			s.check(e.time.Sub(last) >= objections, "version %d is in production after %v", version, e.time.Sub(last))
		}
		last = e.time
	}
	if _, bad := s.trail.has("scanner", rejected, s.version(version)); bad {
		line += "   rejected"
	}
	s.Print(line)
}
