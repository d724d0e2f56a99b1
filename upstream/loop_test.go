package upstream_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
)

// An Opener of one's own can pass on what WithLoop was given.
func TestLoop(t *testing.T) {
	if got := upstream.Loop(t.Context()); got != "" {
		t.Errorf("%q in a context without a value", got)
	}
	ctx := upstream.WithLoop(t.Context(), "a, b")
	if got := upstream.Loop(upstream.WithLoop(ctx, "")); got != "a, b" {
		t.Errorf("%q, want the value that was put in", got)
	}
}
