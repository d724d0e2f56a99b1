package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// schema is a JSON schema, as far as the file needs it.
type schema struct {
	Dialect     string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        typeNames          `json:"type,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	MinLength   int                `json:"minLength,omitempty"`
	Minimum     *float64           `json:"minimum,omitempty"`
	Maximum     *float64           `json:"maximum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	MinItems    int                `json:"minItems,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	OneOf       []*schema          `json:"oneOf,omitempty"`
	AnyOf       []*schema          `json:"anyOf,omitempty"`
	// Additional is what keys have that Properties does not name: false, if there must be
	// none, or a schema.
	Additional any `json:"additionalProperties,omitempty"`
}

// typeNames are the types that a value may have.
type typeNames []string

// MarshalJSON writes a single name as a text.
func (t typeNames) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// sketch is what a reader that describes the file has found, by the path of the key. That
// of an element of a list ends with [], that of a value with any key with .*.
type sketch map[string]*schema

// at returns the schema of the value at a path.
func (s sketch) at(path string) *schema {
	if s[path] == nil {
		s[path] = &schema{}
	}
	return s[path]
}

// describe returns the schemas of all keys that a file can have. The same functions that
// read a file write them, so that both have the same keys. The file itself has the path "".
func describe() sketch {
	r := reader{mistakes: &mistakes{}, sketch: sketch{}}
	new(config).read(r, &yaml.Node{})
	return r.sketch
}

// child describes what f reads at a path, and returns its schema.
func (r reader) child(path string, f read) *schema {
	f(&yaml.Node{}, position{line: 1, key: path})
	return r.sketch.at(path)
}

// describeFields describes a mapping with these keys.
func (r reader) describeFields(pos position, known map[string]read) {
	s := r.sketch.at(pos.key)
	s.Type, s.Additional, s.Properties = []string{"object"}, false, map[string]*schema{}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		s.Properties[key] = r.child(join(pos.key, key), known[key])
	}
}

// describeScalar describes a value that is no list and has no keys. Types are those that
// YAML gives to it; a text of one of them must match the pattern.
func (r reader) describeScalar(pos position, pattern string, types ...string) {
	s := r.sketch.at(pos.key)
	s.Type, s.Pattern = types, pattern
	if pattern == "" && slices.Contains(types, "string") {
		s.MinLength = 1
	}
}

// describeRequired notes that a key is required.
func (r reader) describeRequired(pos position, key string) {
	s := r.sketch.at(pos.key)
	s.Required = append(s.Required, key)
	slices.Sort(s.Required)
}

// describeChoice notes that a mapping has exactly one of its keys.
func (r reader) describeChoice(pos position) {
	s := r.sketch.at(pos.key)
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		s.OneOf = append(s.OneOf, &schema{Required: []string{key}})
	}
}

// describes describes a value that is read in one of several ways, and reports whether
// that was all there is to do: whether r describes the file.
func (r reader) describes(pos position, ways ...read) bool {
	if r.sketch == nil {
		return false
	}
	var either []*schema
	for _, way := range ways {
		delete(r.sketch, pos.key)
		either = append(either, r.child(pos.key, way))
	}
	r.sketch[pos.key] = &schema{AnyOf: either}
	return true
}

// like returns a read that f does, of a text that has a form which is checked later.
func (r reader) like(f read, pattern string) read {
	if r.sketch == nil {
		return f
	}
	return func(_ *yaml.Node, pos position) { r.describeScalar(pos, pattern, "string") }
}

// among returns a read that f does, of one of several words which are checked later.
func (r reader) among(f read, words ...string) read {
	if r.sketch == nil {
		return f
	}
	return func(_ *yaml.Node, pos position) {
		s := r.sketch.at(pos.key)
		s.Type, s.Enum = []string{"string"}, words
	}
}

// sample is the file with every key. Its comments are the descriptions in the schema.
//
//go:embed config.yaml
var sample []byte

// writeSchema returns the JSON schema of the file.
func writeSchema() ([]byte, error) {
	all := describe()
	notes, err := parseNotes(sample)
	if err != nil {
		return nil, err
	}
	for path, s := range all {
		s.Description = notes[path]
	}
	root := all[""]
	root.Dialect, root.Title = "https://json-schema.org/draft/2020-12/schema", "Configuration of the proxy"
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

// printSchema is proxy -schema. It returns the exit code.
func printSchema(stdout, stderr io.Writer) int {
	data, err := writeSchema()
	if err == nil {
		_, err = stdout.Write(data)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFault
	}
	return exitOK
}
