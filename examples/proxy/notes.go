package main

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// hiddenMark begins the lines of the sample that show a key of which an example would not
// be valid where the sample lies, since the key names files.
const hiddenMark = "#~"

// notes are the comments of a file by the path of the key, as in [sketch]. The first
// comment of a path counts.
type notes map[string]string

// parseNotes reads the comments of a file: that behind a key, with the lines below that
// have a comment in the same column and nothing else, or else the lines with a comment
// above the key, in its column.
func parseNotes(data []byte) (notes, error) {
	text := strings.ReplaceAll(string(data), hiddenMark, "")
	root, err := parse([]byte(text))
	if err != nil || root == nil {
		return nil, fmt.Errorf("the comments of the sample: %w", err)
	}
	n := notes{}
	n.walk(root, "", strings.Split(text, "\n"))
	return n, nil
}

// walk adds the comments of all keys below a node.
func (all notes) walk(n *yaml.Node, path string, lines []string) {
	switch n.Kind {
	case yaml.SequenceNode:
		for _, e := range n.Content {
			all.walk(e, path+"[]", lines)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			here := join(path, key.Value)
			if _, had := all[here]; !had || all[here] == "" {
				all[here] = noteOf(key, value, lines)
			}
			all.walk(value, here, lines)
		}
	}
}

// noteOf returns the comment of one key.
func noteOf(key, value *yaml.Node, lines []string) string {
	var parts []string
	comment := key.LineComment
	if comment == "" && value.Line == key.Line && value.Kind != yaml.MappingNode {
		comment = value.LineComment
	}
	if comment == "" && value.Line == key.Line && value.Kind == yaml.MappingNode { // {key: value}  # comment
		comment = lastComment(value)
	}
	if comment != "" {
		line := lines[key.Line-1]
		column := strings.LastIndex(line, comment)
		parts = append(parts, bare(comment))
		for _, below := range lines[key.Line:] {
			if strings.TrimSpace(below) == "" || indent(below) != column || below[column] != '#' {
				break
			}
			parts = append(parts, bare(below))
		}
		return strings.Join(parts, " ")
	}
	for i := key.Line - 2; i >= 0; i-- {
		above := lines[i]
		if strings.TrimSpace(above) == "" || indent(above) != key.Column-1 || above[indent(above)] != '#' {
			break
		}
		parts = append([]string{bare(above)}, parts...)
	}
	return strings.Join(parts, " ")
}

// lastComment returns the comment behind a mapping in braces.
func lastComment(n *yaml.Node) string {
	if n.LineComment != "" || len(n.Content) == 0 {
		return n.LineComment
	}
	return lastComment(n.Content[len(n.Content)-1])
}

// indent returns how many spaces a line begins with.
func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// bare returns the text of a comment.
func bare(comment string) string {
	return strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(comment), "#"))
}
