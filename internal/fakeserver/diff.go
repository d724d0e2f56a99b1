package fakeserver

import (
	"slices"
	"strings"
)

// Diff compares what a fake was asked with what a test wants, in any order. It is
// empty if both are the same. Else it has a line for each: what was asked, in
// order and with a + before what was not wanted, and then with a - what is
// missing.
func Diff(got, want []string) string {
	var text strings.Builder
	missing := slices.Clone(want)
	same := true
	for _, line := range got {
		mark := "  "
		if i := slices.Index(missing, line); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
		} else {
			mark, same = "+ ", false
		}
		text.WriteString("\n\t" + mark + line)
	}
	for _, line := range missing {
		text.WriteString("\n\t- " + line)
	}
	if same && len(missing) == 0 {
		return ""
	}
	return text.String()
}

// Want complains unless a fake was asked what a test wants, in any order, and
// reports whether it was. what names the lines, such as "requests".
func (c *Complaints) Want(what string, got, want []string) bool {
	diff := Diff(got, want)
	if diff == "" {
		return true
	}
	if c.T != nil {
		c.T.Helper()
	}
	c.Complain("the %s are not what is wanted (+ unwanted, - missing):%s", what, diff)
	return false
}
