package remote

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// clean replaces characters that could act on a terminal, since texts of upstreams and names of
// repositories are the words of others.
func clean(text string) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' || unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, text)
}

// show prints an answer as it is, or reads it and calls table.
func show[T any](k *call, data []byte, table func(T, io.Writer)) error {
	if k.json {
		_, err := fmt.Fprintf(k.Stdout, "%s\n", strings.TrimSpace(string(data)))
		return err
	}
	var answer T
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("the proxy answered in another form: %w", err)
	}
	w := &cleaner{out: k.Stdout}
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	table(answer, columns)
	if err := columns.Flush(); err != nil {
		return err
	}
	return w.err
}

// cleaner is a writer that cleans texts. It keeps the first error.
type cleaner struct {
	out io.Writer
	err error
}

// Write writes a text.
func (c *cleaner) Write(text []byte) (int, error) {
	if c.err == nil {
		_, c.err = io.WriteString(c.out, clean(string(text)))
	}
	return len(text), c.err
}

// row prints a line of a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		if t, ok := c.(time.Time); ok {
			c = when(t)
		}
		fmt.Fprint(w, strings.NewReplacer("\t", " ", "\n", " ", "\v", " ", "\f", " ").Replace(fmt.Sprint(c)))
	}
	fmt.Fprintln(w)
}

// when writes a time.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// size writes a number of bytes.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 {
		return fmt.Sprint(n, " B")
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// known writes a number of bytes that may not be known.
func known(n *int64) string {
	if n == nil {
		return "-"
	}
	return size(*n)
}

// or writes a dash for an empty text.
func or(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
