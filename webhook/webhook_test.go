package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

func event(repo, tag string) webhook.Event {
	return webhook.Event{Target: webhook.Target{Repository: repo, Tag: tag}}
}

func TestScope(t *testing.T) {
	for _, c := range []struct {
		scope     webhook.Scope
		repo, tag string
		want      bool
	}{
		{"", "a/b", "v1", true}, {"", "a/b", "", true},
		{"a/b:*", "a/b", "v1", true}, {"a/b:*", "a/b", "", true}, {"a/b:*", "a/bc", "v1", false},
		{"a/b:v1", "a/b", "v1", true}, {"a/b:v1", "a/b", "v2", false}, {"a/b:v1", "a/b", "", false},
		{"a/b", "a/b", "latest", true}, {"a/b", "a/b", "v1", false},
	} {
		if got := c.scope.Matches(event(c.repo, c.tag)); got != c.want {
			t.Errorf("%q selects %s:%s: %v, want %v", c.scope, c.repo, c.tag, got, c.want)
		}
	}
}

func TestUntaggedEventLacksTag(t *testing.T) {
	ev := event("a", "")
	ev.Timestamp = time.Unix(0, 0).UTC()
	data, err := json.Marshal(ev)
	if want := `{"id":"","timestamp":"1970-01-01T00:00:00Z","action":"","target":{"repository":"a"}}`; err != nil || string(data) != want {
		t.Errorf("%s, %v; want %s", data, err, want)
	}
}

func ExampleSinkFunc() {
	sink := webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
		fmt.Println(ev.Action, ev.Target.Repository+":"+ev.Target.Tag)
		return nil
	})
	_ = sink.Send(context.Background(), webhook.Event{Action: webhook.ActionPush, Target: webhook.Target{Repository: "team/api", Tag: "v1"}})
	// Output: push team/api:v1
}
