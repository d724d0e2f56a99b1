package watch_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
)

// TestWhy: each answer has a sentence that says why, and different reasons have different ones.
func TestWhy(t *testing.T) {
	reason := errors.New("the reason")
	seen := map[string]cache.Outcome{}
	for _, c := range []struct {
		outcome cache.Outcome
		want    string
	}{
		{cache.Outcome{Status: 200, Result: cache.ResultHit}, "It is stored here"},
		{cache.Outcome{Status: 200, Result: cache.ResultHit, Detail: "copying"}, "It is being copied"},
		{cache.Outcome{Status: 200, Result: cache.ResultHit, Detail: "read"}, "when a client read it before"},
		{cache.Outcome{Status: 200, Result: cache.ResultHit, Detail: "known"}, "Its size is known"},
		{cache.Outcome{Status: 200, Result: cache.ResultHit, Detail: "only-if-cached"}, "The client wanted only what is here"},
		{cache.Outcome{Status: 200, Result: cache.ResultChecked, Detail: "unchanged"}, "the tag has not moved"},
		{cache.Outcome{Status: 200, Result: cache.ResultChecked, Detail: "held"}, "so the former one was served"},
		{cache.Outcome{Status: 200, Result: cache.ResultChecked}, "what the tag stands for"},
		{cache.Outcome{Status: 200, Result: cache.ResultMiss}, "is copied"},
		{cache.Outcome{Status: 200, Result: cache.ResultMiss, Access: cache.Access{Kind: cache.AccessBlob}}, "while it was downloaded"},
		{cache.Outcome{Status: 200, Result: cache.ResultMiss, Access: cache.Access{Kind: cache.AccessTags}}, "Lists come from the source"},
		{cache.Outcome{Status: 200, Result: cache.ResultMiss, Detail: "collapsed"}, "under way already"},
		{cache.Outcome{Status: 200, Result: cache.ResultMiss, Detail: "peer", Access: cache.Access{Kind: cache.AccessBlob}}, "from another replica"},
		{cache.Outcome{Status: 200, Result: cache.ResultStale, Detail: "timeout"}, "took too long"},
		{cache.Outcome{Status: 200, Result: cache.ResultStale, Detail: "limited"}, "is left alone for as long as it said"},
		{cache.Outcome{Status: 200, Result: cache.ResultStale, Detail: "budget"}, "allows few more requests"},
		{cache.Outcome{Status: 200, Result: cache.ResultStale, Detail: "denied"}, "refuses pulls by this rule"},
		{cache.Outcome{Status: 200, Result: cache.ResultStale, Detail: "protocol"}, "cannot be used"},
		{cache.Outcome{Status: 200, Result: cache.ResultStale, UpstreamStatus: 404}, "served, since the source does not have it"},
		{cache.Outcome{Status: 200, Result: cache.ResultStale, UpstreamStatus: 503}, "answered with status 503"},
		{cache.Outcome{Status: 200, Result: cache.ResultStale}, "could not be asked"},
		{cache.Outcome{Status: 404, Rule: "-", Err: reason}, "No rule covers this name"},
		{cache.Outcome{Status: 404, Result: cache.ResultMiss, Detail: "absent", Err: reason}, "just said several times"},
		{cache.Outcome{Status: 404, Result: cache.ResultMiss, UpstreamStatus: 404, Err: reason}, "and the source does not have it"},
		{cache.Outcome{Status: 404, Err: reason}, "Neither this cache nor the source"},
		{cache.Outcome{Status: 504, Detail: "only-if-cached", Err: reason}, "did not want it from the source"},
		{cache.Outcome{Status: 403, Result: cache.ResultMiss, UpstreamStatus: 200, Detail: "held", Err: reason}, "is not admitted, and no former"},
		{cache.Outcome{Status: 403, Result: cache.ResultMiss, UpstreamStatus: 401, Err: reason}, "refused the credentials of the rule"},
		{cache.Outcome{Status: 429, Result: cache.ResultMiss, UpstreamStatus: 429, Err: reason}, "and the source limits pulls"},
		{cache.Outcome{Status: 401, Detail: "refused", Err: reason}, "to prove itself"},
		{cache.Outcome{Status: 403, Detail: "refused", Err: reason}, "does not let the client have it"},
		{cache.Outcome{Status: 405, Detail: "refused", Err: reason}, "cannot be written to"},
		{cache.Outcome{Status: 416}, "outside of the content"},
		{cache.Outcome{Status: 429, Detail: "refused", Err: reason}, "too many requests"},
		{cache.Outcome{Status: 400, Err: reason}, "not one that can be answered"},
		{cache.Outcome{Status: 502, Result: cache.ResultMiss, Detail: "unreachable", Err: reason}, "served, and the source cannot be reached"},
		{cache.Outcome{Status: 503, Err: reason}, "could not answer now"},
		{cache.Outcome{Status: 508, Err: reason}, "in a circle"},
		{cache.Outcome{Status: 500, Err: reason}, "the error says why"},
		{cache.Outcome{Status: 200, Result: cache.ResultMiss, Access: cache.Access{Kind: cache.AccessManifest}, Err: reason}, "broke off"},
		{cache.Outcome{Status: 499, Err: reason}, "The client left"},
		{cache.Outcome{Status: 200}, "no source is concerned"},
	} {
		o := c.outcome
		if o.Access.Kind == "" {
			o.Access.Kind = cache.AccessManifest
		}
		if o.Rule = "a"; c.outcome.Rule == "-" {
			o.Rule = ""
		}
		rec := &watch.Recorder{}
		rec.Request(request(), o)
		pulls := rec.Pulls(watch.Filter{Kinds: []watch.Kind{watch.Images, watch.Blobs, watch.Strangers}})
		if len(pulls) != 1 {
			t.Fatalf("%+v: %d pulls", o, len(pulls))
		}
		why := pulls[0].Why
		if !strings.Contains(why, c.want) || !strings.HasSuffix(why, ".") {
			t.Errorf("%+v: %q, want %q", o, why, c.want)
		}
		if other, ok := seen[why]; ok {
			t.Errorf("%+v and %+v have the same reason: %q", o, other, why)
		}
		seen[why] = o
	}
}
