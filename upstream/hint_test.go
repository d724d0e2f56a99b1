package upstream_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
)

// TestHint: a context carries the last hint that was put into it, and without one nothing is
// known.
func TestHint(t *testing.T) {
	if h := upstream.HintOf(t.Context()); h != (upstream.Hint{Size: -1}) {
		t.Errorf("without a hint: %+v", h)
	}
	ctx := upstream.WithHint(t.Context(), upstream.Hint{Repository: "app/api", Size: 7})
	if h := upstream.HintOf(ctx); h != (upstream.Hint{Repository: "app/api", Size: 7}) {
		t.Errorf("%+v", h)
	}
	empty := upstream.Hint{Repository: "app/web", Size: 0}
	if h := upstream.HintOf(upstream.WithHint(ctx, empty)); h != empty {
		t.Errorf("an empty blob: %+v", h)
	}
}
