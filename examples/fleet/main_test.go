package main

import (
	"io"
	"os"
	"strings"
	"testing"
)

// The story is told to its end, and leaves nothing behind.
func TestStory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !strings.Contains(out.String(), "All figures were counted") {
		t.Errorf("the story has no end:\n%s", &out)
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What the program proposes to try has the consequence that it tells.
func TestStoryFails(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*replica)
		want   string
	}{
		"without the opener": {func(r *replica) { r.cache.Upstream = r.plain }, "step 2: the registry sent"},
		"without the copier": {func(r *replica) { r.cache.Copier = nil }, "were written to the object store"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := perform(t.Context(), io.Discard, c.change); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it ended with %v, want %q", err, c.want)
			}
		})
	}
}
