package pullthrough_test

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// TestContributingNamesItsTests: each law has a test, and the tests are where the
// document says.
func TestContributingNamesItsTests(t *testing.T) {
	data, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	text, all := string(data), declaredTests(t)
	for _, name := range named.FindAllStringSubmatch(text, -1) {
		if test := path.Join(name[1], name[2]); !slices.Contains(all, test) {
			t.Errorf("%s is not in the tree", test)
		}
	}
	_, laws, ok := strings.Cut(text, "\n## Laws\n")
	laws, _, whole := strings.Cut(laws, "\n## Locks\n")
	if !ok || !whole {
		t.Fatal("the sections are called differently")
	}
	list := strings.Split(laws, "\n- ")[1:]
	if len(list) < 10 {
		t.Errorf("%d laws were found", len(list))
	}
	for _, law := range list {
		if !named.MatchString(law) {
			t.Errorf("no test holds: %.80s", law)
		}
	}
}
