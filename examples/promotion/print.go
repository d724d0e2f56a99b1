package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/webhook"
)

// The width of lines, and the indent of their texts, before which there is room for the
// name of a party.
const (
	width  = 100
	indent = 12
)

// printer prints the story.
type printer struct{ out io.Writer }

// title prints the title of a step.
func (p *printer) title(step int, text string) {
	_, _ = fmt.Fprintf(p.out, "\n%d. %s\n", step, text)
}

// line prints a party and a text, wrapped to as many lines as it takes.
func (p *printer) line(who, format string, args ...any) {
	line := fmt.Sprintf("   %-*s", indent-3, who)
	for word := range strings.SplitSeq(short(fmt.Sprintf(format, args...)), " ") {
		if len(line)+len(word) > width {
			_, _ = fmt.Fprintln(p.out, strings.TrimRight(line, " "))
			line = strings.Repeat(" ", indent)
		}
		line += word + " "
	}
	_, _ = fmt.Fprintln(p.out, strings.TrimRight(line, " "))
}

// text prints lines without wrapping them.
func (p *printer) text(lines string) {
	for line := range strings.Lines(short(lines)) {
		_, _ = fmt.Fprintln(p.out, strings.Repeat(" ", indent)+strings.TrimRight(line, "\n"))
	}
}

// answers prints what a client received. Responses from the store are only counted.
func (p *printer) answers(of puller.Pull) {
	var hits int
	var all int64
	for _, a := range of.Answers {
		all += a.Size
		switch {
		case a.State == "hit" && a.Origin == "":
			hits++
		case a.Origin == "":
			p.line("client", "%-9s%9s   %s", a.What, size(a.Size), a.State)
		default:
			p.line("client", "%-9s%9s   %-42s X-Azure-Origin: %s", a.What, size(a.Size), a.State, a.Origin)
		}
	}
	p.line("client", "the tag is %s, %s in all; %d of %d answers from the store", brief(of.Index), size(all), hits, len(of.Answers))
}

// event prints an event that a webhook received.
func (p *printer) event(ev webhook.Event) {
	name, kind := ev.Target.Repository, "manifest"
	if ev.Target.Tag != "" {
		name += ":" + ev.Target.Tag
	}
	if ev.Target.MediaType == ocispec.MediaTypeImageIndex {
		kind = "index"
	}
	p.line("event", "%-6s%-28s %-10s%s", ev.Action, name, kind, brief(ev.Target.Digest))
}

// short leaves the beginning of the resource ids of identities out, which are long.
func short(text string) string {
	return regexp.MustCompile(`(?i)/subscriptions/[-0-9a-z/.]*/userAssignedIdentities/`).ReplaceAllString(text, ".../userAssignedIdentities/")
}

// brief returns as much of a digest as people compare.
func brief[T ~string](digest T) string { return string(digest[:min(len(digest), 19)]) }

// size returns a number of bytes in readable form.
func size(n int64) string {
	if n < 100<<10 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
