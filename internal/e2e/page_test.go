package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// section is a part of a page of examples/proxy, from its heading on.
type section struct {
	name     string
	text     string            // all of it
	files    map[string]string // by the path that stands before the block
	commands []string          // the lines of the sh blocks
}

var (
	block   = regexp.MustCompile("(?ms)(?:^`([^`\n]+)`:\n)?^```(\\w+)\n(.*?)^```$")
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// readPage reads a page of examples/proxy. The first section is that of the title.
func readPage(t *testing.T, name string) []section {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "examples", "proxy", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	// A comment in a block is no heading.
	hidden := block.ReplaceAllStringFunc(text, func(b string) string { return strings.ReplaceAll(b, "#", " ") })
	at := heading.FindAllStringSubmatchIndex(hidden, -1)
	var sections []section
	for i, h := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		s := section{name: text[h[2]:h[3]], text: text[h[0]:end], files: map[string]string{}}
		for _, b := range block.FindAllStringSubmatch(s.text, -1) {
			switch path, kind, body := b[1], b[2], b[3]; {
			case path != "":
				s.files[path] = body
			case kind == "sh":
				s.commands = append(s.commands, strings.Split(strings.TrimSuffix(body, "\n"), "\n")...)
			}
		}
		sections = append(sections, s)
	}
	return sections
}

// sectionOf returns a section of a page.
func sectionOf(t *testing.T, sections []section, name string) section {
	t.Helper()
	for _, s := range sections {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("the page has no section %q", name)
	return section{}
}

// TestPagesNameWhatExists: the links of the pages of examples/proxy lead to files, and the keys
// of their table of keys are those of config.yaml.
func TestPagesNameWhatExists(t *testing.T) {
	folder := filepath.Join("..", "..", "examples", "proxy")
	links := 0
	for _, page := range []string{"README.md", "CLIENTS.md", "COMPARISON.md"} {
		for _, s := range readPage(t, page) {
			for _, found := range regexp.MustCompile(`\]\(([^)#:]+)(#[\w-]*)?\)`).FindAllStringSubmatch(s.text, -1) {
				links++
				if _, err := os.Stat(filepath.Join(folder, filepath.FromSlash(found[1]))); err != nil {
					t.Errorf("%s: %v", page, err)
				}
			}
		}
	}
	known, err := os.ReadFile(filepath.Join(folder, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	keys := 0
	for _, found := range regexp.MustCompile("`([a-zA-Z]+)`").FindAllStringSubmatch(sectionOf(t, readPage(t, "README.md"), "Keys").text, -1) {
		keys++
		if !regexp.MustCompile(`(?m)[ #{,-]*\b` + found[1] + `:`).Match(known) {
			t.Errorf("README.md names the key %s, which config.yaml does not have", found[1])
		}
	}
	if links < 10 || keys < 20 {
		t.Errorf("%d links and %d keys were found", links, keys)
	}
}
