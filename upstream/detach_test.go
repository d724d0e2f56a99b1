package upstream_test

import (
	"context"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream"
)

type valueKey struct{}

// TestDetach: values stay, and what belongs to one request does not.
func TestDetach(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), valueKey{}, "kept"), time.Hour)
	ctx = upstream.WithAnswerTimeout(upstream.WithoutRedirects(upstream.WithLoop(ctx, "outer")), time.Second)
	ctx = upstream.WithHint(ctx, upstream.Hint{Repository: "outer", Size: 7})
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { t.Error("the trace of the outer request is called") }})
	d := upstream.Detach(ctx)
	cancel()
	if _, ok := d.Deadline(); ok || d.Err() != nil || d.Value(valueKey{}) != "kept" {
		t.Errorf("deadline %v, %v, value %v", ok, d.Err(), d.Value(valueKey{}))
	}
	if upstream.Loop(d) != "" || httptrace.ContextClientTrace(d) != nil {
		t.Errorf("loop %q, trace %v", upstream.Loop(d), httptrace.ContextClientTrace(d))
	}
	if h := upstream.HintOf(d); h != (upstream.Hint{Size: -1}) {
		t.Errorf("hint %+v, which is about a blob of the outer request", h)
	}
}
