package page

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
)

// functions are those of the templates.
func functions() template.FuncMap {
	return template.FuncMap{"bytes": formatBytes, "digest": shortDigest, "noun": noun[int]}
}

// formatBytes writes a size in three digits or so.
func formatBytes(n int64) string {
	if n < 0 {
		return "unknown"
	}
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n), -1
	for value >= 1023.5 && unit < 5 {
		value /= 1 << 10
		unit++
	}
	digits := 0
	if value < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + " " + []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit]
}

// formatNumber writes a number with commas between thousands.
func formatNumber[N int | int64](n N) string {
	text := strconv.FormatInt(int64(n), 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// noun writes "1 rule", "2 rules", "1,000 rules".
func noun[N int | int64](n N, what string) string {
	if n != 1 {
		switch {
		case strings.HasSuffix(what, "y"):
			what = strings.TrimSuffix(what, "y") + "ies"
		default:
			what += "s"
		}
	}
	return formatNumber(n) + " " + what
}

// formatPercent writes a ratio. It says 100 % and 0 % only where that is exact.
func formatPercent(ratio float64) string {
	switch n := ratio * 100; {
	case ratio >= 1:
		return "100 %"
	case n > 99:
		return "> 99 %"
	case ratio <= 0:
		return "0 %"
	case n < 1:
		return "< 1 %"
	default:
		return strconv.FormatFloat(n, 'f', 0, 64) + " %"
	}
}

// formatDuration writes how long something took or lasts.
func formatDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "< 1 ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < 2*time.Minute:
		return strconv.FormatInt(int64(d.Seconds()), 10) + " s"
	case d < 2*time.Hour:
		return strconv.FormatInt(int64(d.Minutes()), 10) + " min"
	case d < 48*time.Hour:
		return strconv.FormatInt(int64(d.Hours()), 10) + " h"
	}
	return strconv.FormatInt(int64(d.Hours()/24), 10) + " days"
}

// when is a moment beside now.
type when struct {
	Machine string // for the datetime attribute
	Full    string // with date and zone
	Text    string // such as "3 min ago"; empty if there is no such moment
}

// moment describes a time.
func moment(t, now time.Time) when {
	if t.IsZero() {
		return when{}
	}
	w := when{Machine: t.UTC().Format(time.RFC3339), Full: t.UTC().Format("2006-01-02 15:04:05") + " UTC"}
	switch d := now.Sub(t); {
	case d <= -time.Second:
		w.Text = "in " + formatDuration(-d.Round(time.Second))
	case d < 2*time.Second:
		w.Text = "just now"
	default:
		w.Text = formatDuration(d.Truncate(time.Second)) + " ago"
		if d < 10*time.Second {
			w.Text = strconv.FormatInt(int64(d.Seconds()), 10) + " s ago"
		}
	}
	return w
}

// shortDigest cuts a digest to what people compare.
func shortDigest(text string) string {
	algorithm, hex, ok := strings.Cut(text, ":")
	if !ok || len(hex) <= 12 {
		return text
	}
	return fmt.Sprintf("%s:%s…", algorithm, hex[:12])
}

// short cuts a text for a cell of a table.
func short(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
