package pullthrough_test

import (
	"os"
	"testing"
)

// TestContributingNamesItsTests: each law has a test, and the tests are where the
// document says.
func TestContributingNamesItsTests(t *testing.T) {
	data, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	wantNamedTests(t, text)
	wantEachHeld(t, text, "Laws", "Locks")
}
