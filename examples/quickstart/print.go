package main

import (
	"fmt"
	"time"

	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/webhook"
)

// print prints a line.
func (s *story) print(text string) { _, _ = fmt.Fprintln(s.out, text) }

// line prints the time, a party and a text.
func (s *story) line(who, format string, args ...any) {
	when := time.Since(s.begun).Seconds()
	_, _ = fmt.Fprintf(s.out, "  %6.3fs  %-8s  %s\n", when, who, fmt.Sprintf(format, args...))
}

// answered prints a response, unless it is a hit.
func (s *story) answered(a puller.Answer) {
	if a.State != "hit" {
		s.line("cache", "%-8s  %9s in %9s  %s", a.What, size(a.Size), duration(a.Took), a.State)
	}
}

// event prints an event, and returns the kind of its target.
func (s *story) event(ev webhook.Event) (about string) {
	t := ev.Target
	name := t.Repository + "@" + t.Digest
	if len(name) > 40 {
		name = name[:40] + "..."
	}
	switch {
	case t.Tag != "":
		about, name = "tag", t.Repository+":"+t.Tag
	case t.MediaType == typeIndex:
		about = "index"
	default:
		about = "image"
	}
	s.line("event", "%-8s  complete: %s", about, name)
	return about
}

// size returns a number of bytes in readable form.
func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// duration returns a duration in readable form.
func duration(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// equal returns an error unless a figure is as expected.
func equal(what string, got, want int64) error {
	if got != want {
		return fmt.Errorf("%s: %d, the story says %d", what, got, want)
	}
	return nil
}

// atMost returns an error if a figure is above the limit.
func atMost(what string, got, limit int64) error {
	if got > limit {
		return fmt.Errorf("%s: %d, the story says %d at most", what, got, limit)
	}
	return nil
}
