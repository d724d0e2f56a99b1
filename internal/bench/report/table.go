package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Print prints the table in Markdown. The first of the peers is the one that the others
// are compared with; peers of which nothing is known have no column.
func (r *Results) Print(w io.Writer, peers []string) error {
	var b strings.Builder
	ours, others := peers[0], r.measured(peers[1:])
	b.WriteString("| work | measured | " + ours)
	for _, p := range others {
		b.WriteString(" | × " + p)
	}
	b.WriteString(" | taken by others |\n|" + strings.Repeat("---|", len(others)+4) + "\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %s | %s", row.Work, row.What, spreadOf(r.all(row, ours)))
		for _, p := range others {
			fmt.Fprintf(&b, " | %s", spreadOf(r.ratios(row, ours, p)))
		}
		fmt.Fprintf(&b, " | %s |\n", percent(spreadOf(r.noise[row.Work])))
	}
	for _, f := range r.failed {
		fmt.Fprintf(&b, "\nFailed: %s\n", f)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// measured returns the peers that have a value.
func (r *Results) measured(peers []string) (some []string) {
	for _, p := range peers {
		for _, row := range r.rows {
			if len(r.values[row][p]) > 0 {
				some = append(some, p)
				break
			}
		}
	}
	return some
}

// String is the median, and the range if there is one.
func (s spread) String() string {
	switch {
	case s.n == 0:
		return "–"
	case s.n == 1:
		return number(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median), number(s.low), number(s.top))
}

// percent is the median of shares, and the highest.
func percent(s spread) string {
	if s.n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%, at most %.0f %%", 100*s.median, 100*s.top)
}

// number has three digits that count, as far as they are not whole thousands.
func number(v float64) string {
	if v == 0 || math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	return strconv.FormatFloat(v, 'f', min(digits, 4), 64)
}
