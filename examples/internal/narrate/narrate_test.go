package narrate_test

import (
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/examples/internal/narrate"
)

func TestLines(t *testing.T) {
	var out strings.Builder
	n := narrate.Narrator{Out: &out}
	n.Title(1, "Begin")
	n.Line("client", "pulls %s", "app")
	n.Line("", "%s", strings.TrimSpace(strings.Repeat("words ", 20)))
	n.Blank()
	n.Blank()
	n.Title(2, "End")
	want := "\n1. Begin\n   client     pulls app\n" +
		"              words words words words words words words words words words words words words words\n" +
		"              words words words words words words\n\n2. End\n"
	if out.String() != want {
		t.Errorf("%s, want %s", out.String(), want)
	}
}

func TestFigures(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 99999: "99999 B", 100 << 10: "100.0 KiB", 3 << 19: "1.5 MiB"} {
		if got := narrate.Size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if got := narrate.Brief("sha256:0123456789abcdef"); got != "sha256:0123456789ab" {
		t.Error(got)
	}
	if narrate.Brief("short") != "short" {
		t.Error("a short digest is changed")
	}
	if narrate.Check(true, "x") != nil || narrate.Check(false, "%d apples", 2).Error() != "2 apples" {
		t.Error("Check")
	}
}
