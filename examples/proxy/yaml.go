package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// place is where something stands in the file.
type place struct {
	line int
	key  string // path of the key: rules[0].source
}

// word is a text of the file and where it stands. The zero word was not given.
type word struct {
	text string
	place
}

// given reports whether the key is in the file.
func (w word) given() bool { return w.line != 0 }

// mistake is one thing that is wrong in the file.
type mistake struct {
	place
	text string
}

// mistakes is everything that is wrong in one file. Its text has one line for
// each, FILE:LINE: KEY: what, in the order of the file.
type mistakes struct {
	file string
	list []mistake
}

// add notes a mistake.
func (m *mistakes) add(at place, format string, args ...any) {
	m.list = append(m.list, mistake{at, fmt.Sprintf(format, args...)})
}

// count is how many mistakes there are so far.
func (m *mistakes) count() int { return len(m.list) }

// err returns m if there is any mistake, in the order of the file.
func (m *mistakes) err() error {
	if len(m.list) == 0 {
		return nil
	}
	slices.SortStableFunc(m.list, func(a, b mistake) int { return cmp.Compare(a.line, b.line) })
	return m
}

// Error returns one line for each mistake.
func (m *mistakes) Error() string {
	var b strings.Builder
	for i, one := range m.list {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(m.file)
		if one.line > 0 {
			fmt.Fprintf(&b, ":%d", one.line)
		}
		if one.key != "" {
			b.WriteString(": " + one.key)
		}
		b.WriteString(": " + one.text)
	}
	return b.String()
}

// reader walks the nodes of a YAML document. It goes on after a mistake, so
// that one run shows all of them; yaml's own decoder knows neither all the
// lines nor the keys.
type reader struct{ *mistakes }

// read is what is done with the value of a key.
type read func(n *yaml.Node, at place)

// fields reads a mapping, each key with its own function. Keys without one are
// mistakes, so that a misspelt key is never ignored in silence.
func (r reader) fields(n *yaml.Node, at place, known map[string]read) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.add(at, "wants keys with values, not %s", kind(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		here := place{key.Line, join(at.key, key.Value)}
		if line := seen[key.Value]; line != 0 {
			r.add(here, "is given twice, first in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		if f := known[key.Value]; f != nil {
			f(n.Content[i+1], here)
			continue
		}
		r.add(here, "unknown key; known here: %s", names(known))
	}
}

// list reads a sequence, each element with f. Nothing is an empty list.
func (r reader) list(f read) read {
	return func(n *yaml.Node, at place) {
		n = resolve(n)
		if isNull(n) {
			return
		}
		if n.Kind != yaml.SequenceNode {
			r.add(at, "wants a list, not %s", kind(n))
			return
		}
		for i, e := range n.Content {
			f(e, place{e.Line, at.key + "[" + strconv.Itoa(i) + "]"})
		}
	}
}

// word reads a text. Numbers and booleans count as what is written.
func (r reader) word(to *word) read {
	return func(n *yaml.Node, at place) {
		n = resolve(n)
		to.place = at
		switch {
		case n.Kind != yaml.ScalarNode:
			r.add(at, "wants a text, not %s", kind(n))
		case isNull(n) || n.Value == "":
			r.add(at, "is empty")
		default:
			to.text = n.Value
		}
	}
}

// flag reads true or false.
func (r reader) flag(to *bool) read {
	return func(n *yaml.Node, at place) {
		if err := resolve(n).Decode(to); err != nil {
			r.add(at, "wants true or false")
		}
	}
}

// duration reads what [time.ParseDuration] reads.
func (r reader) duration(to *time.Duration) read {
	return func(n *yaml.Node, at place) {
		var w word
		r.word(&w)(n, at)
		if w.text == "" {
			return
		}
		d, err := time.ParseDuration(w.text)
		if err != nil {
			r.add(at, "%q is not a duration such as 30s, 10m or 24h", w.text)
			return
		}
		*to = d
	}
}

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

// isNull reports whether a key has no value.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// kind says what a node is, for people.
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return "a single value"
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// names lists keys.
func names(known map[string]read) string {
	var all []string
	for k := range known {
		all = append(all, k)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
