package gate

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// mostOutput is how many bytes of what a gate says are read, and mostReason how many are
// shown.
const (
	mostOutput = 4 << 10
	mostReason = 200
)

// noReason is the reason of a gate that says none.
const noReason = "it says no reason"

// line is the first line of a text that is not empty, as far as it can be shown.
func line(text string) string {
	for one := range strings.Lines(text) {
		one = strings.Map(func(c rune) rune {
			if c == utf8.RuneError || !unicode.IsPrint(c) {
				return ' '
			}
			return c
		}, one)
		if one = strings.Join(strings.Fields(one), " "); one == "" {
			continue
		}
		for len(one) > mostReason {
			_, size := utf8.DecodeLastRuneInString(one)
			one = one[:len(one)-size]
		}
		return one
	}
	return noReason
}

// limited keeps the beginning of what is written to it.
type limited struct{ data []byte }

// Write takes everything and keeps mostOutput bytes.
func (l *limited) Write(p []byte) (int, error) {
	l.data = append(l.data, p[:min(len(p), mostOutput-len(l.data))]...)
	return len(p), nil
}
