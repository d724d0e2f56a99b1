package pullthrough_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	declared = regexp.MustCompile(`(?m)^func (Test[A-Z0-9]\w*)\(\w+ \*testing\.T\)`)
	named    = regexp.MustCompile("`([a-z][a-z0-9/]*)/(Test[A-Z0-9]\\w*)`")
	word     = regexp.MustCompile(`\bTest[A-Z0-9]\w*`)
)

// declaredTests returns the folder and name of every test in the tree, those of nested
// modules included.
func declaredTests(t *testing.T) []string {
	var all []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, found := range declared.FindAllSubmatch(text, -1) {
			all = append(all, path.Join(filepath.ToSlash(filepath.Dir(name)), string(found[1])))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSecurityNamesItsTests: a promise is held by tests that exist where the document
// says, and each of its paragraphs about promises names one.
func TestSecurityNamesItsTests(t *testing.T) {
	data, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	found := wantNamedTests(t, text)
	if n := len(word.FindAllString(text, -1)); n != found {
		t.Errorf("%d tests are named, and %d of them as `folder/Test`", n, found)
	}
	wantEachHeld(t, text, "Promises", "What stays")
}

// wantNamedTests checks that the tests that a document names exist, and counts them.
func wantNamedTests(t *testing.T, text string) int {
	t.Helper()
	all, found := declaredTests(t), named.FindAllStringSubmatch(text, -1)
	for _, name := range found {
		if test := path.Join(name[1], name[2]); !slices.Contains(all, test) {
			t.Errorf("%s is not in the tree", test)
		}
	}
	return len(found)
}

// wantEachHeld checks that each point of a section names a test. next is the section that
// follows.
func wantEachHeld(t *testing.T, text, section, next string) {
	t.Helper()
	_, points, ok := strings.Cut(text, "\n## "+section+"\n")
	points, _, whole := strings.Cut(points, "\n## "+next+"\n")
	if !ok || !whole {
		t.Fatal("the sections are called differently")
	}
	list := strings.Split(points, "\n- ")[1:]
	if len(list) < 10 {
		t.Errorf("%s: %d points were found", section, len(list))
	}
	for _, point := range list {
		if !named.MatchString(point) {
			t.Errorf("no test holds: %.80s", point)
		}
	}
}
