// Package narrate prints the stories of the examples, for people, and checks their figures.
package narrate

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Width is the width of all lines.
const Width = 100

// indent is the width before the texts of lines, which has room for the name of a party.
const indent = 14

// Narrator prints a story. It is used by one goroutine.
type Narrator struct {
	Out io.Writer

	blank bool // the last line was blank
}

// Print prints text as it is, and ends the line.
func (n *Narrator) Print(text string) {
	_, _ = fmt.Fprintln(n.Out, text)
	n.blank = text == ""
}

// Blank prints a blank line, unless the last one was blank.
func (n *Narrator) Blank() {
	if !n.blank {
		n.Print("")
	}
}

// Title prints the title of a step.
func (n *Narrator) Title(step int, text string) {
	n.Blank()
	n.Print(fmt.Sprintf("%d. %s", step, text))
}

// Line prints the name of a party and a text, wrapped to as many lines as it takes.
func (n *Narrator) Line(who, format string, args ...any) {
	line := fmt.Sprintf("   %-*s", indent-3, who)
	for word := range strings.SplitSeq(fmt.Sprintf(format, args...), " ") {
		if utf8.RuneCountInString(line)+utf8.RuneCountInString(word) > Width {
			n.Print(strings.TrimRight(line, " "))
			line = strings.Repeat(" ", indent)
		}
		line += word + " "
	}
	n.Print(strings.TrimRight(line, " "))
}

// Size returns a number of bytes in readable form.
func Size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 100<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// Brief returns as much of a digest as people compare.
func Brief[T ~string](digest T) string { return string(digest[:min(len(digest), 19)]) }

// Check returns an error unless ok.
func Check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
