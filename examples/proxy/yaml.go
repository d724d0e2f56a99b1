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

// position is the position of a value in the file.
type position struct {
	line int
	key  string // path of the key: rules[0].source
}

// word is a text of the file and its position. The zero word was not given.
type word struct {
	text string
	position
}

// given reports whether the key is in the file.
func (w word) given() bool { return w.line != 0 }

// mistake is one mistake in the file.
type mistake struct {
	position
	text string
}

// mistakes are all mistakes in one file. Its text has one line for each, FILE:LINE: KEY:
// what, in the order of the file.
type mistakes struct {
	file string
	list []mistake
	keys sketch // what describe returned; nil until it is needed
}

// add notes a mistake.
func (m *mistakes) add(pos position, format string, args ...any) {
	m.list = append(m.list, mistake{pos, fmt.Sprintf(format, args...)})
}

// allKeys returns the keys that a file can have.
func (m *mistakes) allKeys() sketch {
	if m.keys == nil {
		m.keys = describe()
	}
	return m.keys
}

// count returns how many mistakes there are so far.
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

// reader reads the nodes of a YAML document. It goes on after a mistake, so that one run finds
// all of them. The decoder of package yaml knows neither all lines nor the keys.
//
// A reader with a sketch reads nothing. It describes what each key may have; see [describe].
// Each way to read a value has a line for that, or is made of ways that have one.
type reader struct {
	*mistakes
	sketch sketch // if nil, the file is read
}

// read reads the value of a key at a position.
type read func(n *yaml.Node, pos position)

// fields reads a mapping, each key with its own function. A key without one is a mistake, so
// that a misspelt key is never ignored.
func (r reader) fields(n *yaml.Node, pos position, known map[string]read) {
	if r.sketch != nil {
		r.describeFields(pos, known)
		return
	}
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.add(pos, "wants keys with values, not %s", kind(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		here := position{key.Line, join(pos.key, key.Value)}
		if line := seen[key.Value]; line != 0 {
			r.add(here, "is given twice, first in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		if f := known[key.Value]; f != nil {
			f(n.Content[i+1], here)
			continue
		}
		r.add(here, "%s", unknown(key.Value, pos.key, known, r.allKeys()))
	}
}

// list returns the read of a sequence, each element with f. An empty value is an empty list.
func (r reader) list(f read) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			s := r.sketch.at(pos.key)
			s.Type, s.Items = []string{"array", "null"}, r.child(pos.key+"[]", f)
			return
		}
		n = resolve(n)
		if isNull(n) {
			return
		}
		if n.Kind != yaml.SequenceNode {
			r.add(pos, "wants a list, not %s", kind(n))
			return
		}
		for i, e := range n.Content {
			f(e, position{e.Line, pos.key + "[" + strconv.Itoa(i) + "]"})
		}
	}
}

// word returns the read of a text. Numbers and booleans are read as they are written.
func (r reader) word(to *word) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, "", "string", "number", "boolean")
			return
		}
		n = resolve(n)
		to.position = pos
		switch {
		case n.Kind != yaml.ScalarNode:
			r.add(pos, "wants a text, not %s", kind(n))
		case isNull(n) || n.Value == "":
			r.add(pos, "is empty")
		default:
			to.text = n.Value
		}
	}
}

// flag returns the read of true or false.
func (r reader) flag(to *bool) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, "", "boolean")
			return
		}
		if err := resolve(n).Decode(to); err != nil {
			r.add(pos, "wants true or false")
		}
	}
}

// duration returns the read of a duration, as [time.ParseDuration] parses it.
func (r reader) duration(to *time.Duration) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, "^[-+]?"+durationPattern+"$", "string")
			return
		}
		var w word
		r.word(&w)(n, pos)
		if w.text == "" {
			return
		}
		d, err := time.ParseDuration(w.text)
		if err != nil {
			r.add(pos, "%q is not a duration such as 30s, 10m or 24h", w.text)
			return
		}
		*to = d
	}
}

// durationPattern matches what [time.ParseDuration] parses, but for a sign.
const durationPattern = `(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)`

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

// isNull reports whether a key has no value.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// kind describes a node in a mistake.
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
