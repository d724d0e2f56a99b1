package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write config.schema.json")

const schemaFile = "config.schema.json"

// TestSchemaIsWritten: the schema in the repository is that of the program, which prints it.
func TestSchemaIsWritten(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), nil, []string{"-schema"}, &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	if *update {
		if err := os.WriteFile(schemaFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(schemaFile)
	if err != nil || !bytes.Equal(written, out.Bytes()) {
		t.Errorf("%s is not the schema of the keys (%v); go test -run %s -update . writes it", schemaFile, err, t.Name())
	}
}

// TestEveryKeyHasAComment: config.yaml has every key with a comment, which is its description
// in the schema. Keys of which exactly one is given share the comment of that above them.
func TestEveryKeyHasAComment(t *testing.T) {
	all := describe()
	notes, err := parseNotes(sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		for key := range all[path].Properties {
			if len(all[path].OneOf) == 0 && notes[join(path, key)] == "" {
				t.Errorf("%s has no comment in config.yaml, beside the key or above it", join(path, key))
			}
		}
	}
	for path := range notes {
		if path, _, free := strings.Cut(path, ".headers."); all[path] == nil && !free {
			t.Errorf("config.yaml has %s, which the schema has not", path)
		}
	}
	if want := "file with the certificate and what it was issued by; read again at SIGHUP"; notes["tls.cert"] != want {
		t.Errorf("the comment of tls.cert is %q, want %q", notes["tls.cert"], want)
	}
	if said := notes["listen"]; !strings.HasPrefix(said, "default; ") || !strings.HasSuffix(said, "in front") {
		t.Errorf("the comment of listen is %q: it has several lines", said)
	}
	if want := "in place of credentials: one of the identities"; notes["rules[].identity"] != want {
		t.Errorf("the comment above rules[].identity is %q, want %q", notes["rules[].identity"], want)
	}
}

// TestSchemaAcceptsGoodFiles: the schema accepts files that the program accepts.
func TestSchemaAcceptsGoodFiles(t *testing.T) {
	shown := strings.ReplaceAll(string(sample), hiddenMark, "")
	for name, file := range map[string]string{
		"sample": string(sample), "whole sample": shown, "whole file": wholeFile, "no values": "rules:\nupstreams: []\n",
		"numbers": "freshness: 1h30m\neviction: {maxBytes: 1048576, minFree: 0, maxAge: .5h}\n", "anchors": "store: &s mem\npublicHost: '[::1]:5000'\n",
	} {
		if err := bySchema(t, file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// seen matches the mistakes that a schema can see: keys, types, and the form of texts.
var seen = regexp.MustCompile(`unknown key|: wants |is missing|is empty|is not a (duration|port|number of bytes)|is not an address|must not be negative|is no GUID`)

// wantRefusedBySchema fails unless the schema refuses a file with a mistake that it can see.
func wantRefusedBySchema(t *testing.T, file, mistake string) {
	t.Helper()
	if !seen.MatchString(mistake) {
		return
	}
	if err := bySchema(t, file); err == nil {
		t.Errorf("the schema accepts a file with this mistake: %s", mistake)
	}
}

// bySchema validates a file by the schema of the program.
func bySchema(t *testing.T, file string) error {
	t.Helper()
	s, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	var content any
	if err := yaml.Unmarshal([]byte(file), &content); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

// compiled returns the schema of the program, compiled once.
var compiled = sync.OnceValues(func() (*jsonschema.Schema, error) {
	data, err := writeSchema()
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(schemaFile, doc); err != nil {
		return nil, err
	}
	return c.Compile(schemaFile)
})

// TestSuggestions: an unknown key names the one that was meant, or where it belongs.
func TestSuggestions(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"one letter", rules("    freshnes: 1s\n"), "5: rules[0].freshnes: unknown key; did you mean freshness?"},
		{"swapped letters", "stroe: mem\n", "1: stroe: unknown key; did you mean store?"},
		{"case", "publichost: a.example\n", "1: publichost: unknown key; did you mean publicHost?"},
		{"singular", "credential: []\n", "1: credential: unknown key; did you mean credentials?"},
		{"two letters", rules("    platfroms: [all]\n"), "5: rules[0].platfroms: unknown key; did you mean platforms?"},
		{"in another place", "requireAccess: true\n", "1: requireAccess: unknown key; requireAccess belongs into rules[]"},
		{"at the top", rules("    publicHost: a.example\n"), "5: rules[0].publicHost: unknown key; publicHost belongs into the top of the file"},
		{"in several places", "plainHTTP: true\n", "1: plainHTTP: unknown key; plainHTTP belongs into upstreams[]"},
		{"in two places", "source: x\n", "1: source: unknown key; source belongs into rules[] or webhooks[]"},
		{"nothing near", "colour: blue\n", "1: colour: unknown key; known here: access, admin, "},
		{"a common word", "name: x\n", "1: name: unknown key; known here: "},
		{"a long word", strings.Repeat("x", 1000) + ": 1\n", ": unknown key; known here: "},
		{"short words", secrets("{it: x}"), "4: credentials[0].username.it: unknown key; known here: env, file, keyVault, value"},
	} {
		t.Run(test.name, func(t *testing.T) { wantMistake(t, test.file, test.want) })
	}
}
