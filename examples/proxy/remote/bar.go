package remote

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// plainEvery is how often progress has a line where there is no terminal.
const plainEvery = 5 * time.Second

// bar shows how far something is: as a bar on a terminal, and otherwise as a line from time
// to time.
type bar struct {
	out   io.Writer
	width int // of the terminal; zero if there is none
	name  string
	quiet bool // nothing is shown

	drawn bool
	said  time.Time
}

// update shows how many bytes of how many are there.
func (b *bar) update(done, total int64) {
	switch {
	case b.quiet || total <= 0:
	case b.width > 0:
		b.drawn = true
		fmt.Fprint(b.out, "\r\x1b[K"+drawing(b.name, done, total, b.width))
	case b.said.IsZero():
		b.said = time.Now()
	case time.Since(b.said) >= plainEvery:
		b.said = time.Now()
		fmt.Fprintf(b.out, "%s: %s of %s\n", b.name, size(done), size(total))
	}
}

// end removes the bar, so that the next line takes its place.
func (b *bar) end() {
	if b.drawn {
		b.drawn = false
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}

// drawing is a bar of at most width characters, such as
// "hub/alpine  [=====>     ]  45 %  1.2 MiB of 2.6 MiB".
func drawing(name string, done, total int64, width int) string {
	share := min(1, max(0, float64(done)/float64(total)))
	figures := fmt.Sprintf(" %3d %%  %s of %s", int(share*100), size(done), size(total))
	width-- // a terminal breaks the line in the last column
	room := width - utf8.RuneCountInString(figures)
	if room < 4 {
		return string([]rune(figures)[:max(0, min(width, utf8.RuneCountInString(figures)))])
	}
	bars := min(30, room/2) - 3
	if bars < 4 {
		bars = 0
	}
	if letters := []rune(name); len(letters) > room-bars-3 {
		name = "…" + string(letters[len(letters)-max(0, room-bars-4):])
	}
	if bars == 0 {
		return name + figures
	}
	full := int(share * float64(bars))
	return name + " [" + strings.Repeat("=", full) + strings.Repeat(" ", bars-full) + "]" + figures
}
