package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/webhook"
)

func event(repo, tag string) webhook.Event {
	return webhook.Event{Action: webhook.ActionPush, Target: webhook.Target{Repository: repo, Tag: tag}}
}

func TestScopeMatches(t *testing.T) {
	for _, c := range []struct {
		scope     webhook.Scope
		repo, tag string
		want      bool
	}{
		{"", "a/b", "v1", true}, {"", "a/b", "", true},
		{"a/b:*", "a/b", "v1", true}, {"a/b:*", "a/b", "", true}, {"a/b:*", "a/bc", "v1", false}, {"a/b:*", "a/b/c", "v1", false}, {"a/b:*", "a", "b", false},
		{"a/b:v1", "a/b", "v1", true}, {"a/b:v1", "a/b", "v2", false}, {"a/b:v1", "a/b", "", false}, {"a/b:v1", "a/b", "v1.1", false},
		{"a/b", "a/b", "latest", true}, {"a/b", "a/b", "v1", false}, {"a/b", "a/b", "", false}, {"a/b:latest", "a/b", "latest", true},
	} {
		if got := c.scope.Matches(event(c.repo, c.tag)); got != c.want {
			t.Errorf("%q selects %s:%s: %v, want %v", c.scope, c.repo, c.tag, got, c.want)
		}
		if !c.scope.Matches(webhook.Ping()) {
			t.Errorf("%q does not select a ping", c.scope)
		}
	}
}

func TestScopeCheck(t *testing.T) {
	for scope, want := range map[webhook.Scope]string{
		"": "", "a": "", "a/b": "", "a/b:v1": "", "a/b:V1.0_x-y": "", "a/b:*": "", "team-a/b.c__d:latest": "",
		":v1": "no repository", "*": "no repository", "a/*": "no repository", "a*:v1": "no repository", "A/b": "no repository", "a b": "no repository",
		"/a": "no repository", "a/": "no repository", "a@sha256:0": "no repository",
		"a:": "no tag", "a:v*": "no tag", "a:**": "no tag", "a:v1:v2": "no tag", "a:b/c": "no tag", "a:v 1": "no tag", "a:v@1": "no tag",
	} {
		err := scope.Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", string(scope)))) {
			t.Errorf("%q: %v, want %q", scope, err, want)
		}
	}
}

func FuzzScope(f *testing.F) {
	f.Add("a/b", "v1", "a/b:*")
	f.Add("a", "latest", "a")
	f.Fuzz(func(t *testing.T, repo, tag, scope string) {
		s := webhook.Scope(scope)
		valid := s.Check() == nil
		ev := event(repo, tag)
		all, one := webhook.Scope(repo+":*"), webhook.Scope(repo+":"+tag)
		if all.Check() == nil && !all.Matches(ev) {
			t.Errorf("%q does not select %q", all, repo)
		}
		if one.Check() == nil && tag != "*" && (!one.Matches(ev) || one.Matches(event(repo, tag+"x")) || one.Matches(event(repo+"x", tag))) {
			t.Errorf("%q selects more or less than itself", one)
		}
		if valid && scope != "" && s.Matches(ev) && scope != string(all) && scope != string(one) && scope+":latest" != string(one) {
			t.Errorf("%q selects %q:%q", scope, repo, tag)
		}
		if valid && !strings.Contains(scope, ":") && scope != "" && s.Matches(ev) != (s+":latest").Matches(ev) {
			t.Errorf("%q is not %[1]q:latest", scope)
		}
	})
}

func TestFilter(t *testing.T) {
	var got []string
	sink := webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
		got = append(got, ev.Action+" "+ev.Subject())
		return nil
	})
	gone := event("a", "v1")
	gone.Action = webhook.ActionDelete
	events := []webhook.Event{event("a", "v1"), event("a", "v2"), event("b", "v1"), gone, webhook.Ping()}
	for _, c := range []struct {
		filter webhook.Filter
		want   string
	}{
		{webhook.Filter{Sink: sink}, "push a:v1,push a:v2,push b:v1,delete a:v1,ping "},
		{webhook.Filter{Sink: sink, Scope: "a:v1"}, "push a:v1,delete a:v1,ping "},
		{webhook.Filter{Sink: sink, Actions: []string{"delete"}}, "delete a:v1"},
		{webhook.Filter{Sink: sink, Actions: []string{}}, ""},
		{webhook.Filter{Sink: sink, Select: func(ev webhook.Event) bool { return ev.Target.Repository == "b" }}, "push b:v1"},
		{webhook.Filter{Sink: sink, Scope: "a:*", Actions: []string{"push"}, Select: func(ev webhook.Event) bool { return ev.Target.Tag != "v2" }}, "push a:v1"},
		{webhook.Filter{}, ""},
	} {
		got = nil
		for _, ev := range events {
			if err := c.filter.Send(t.Context(), ev); err != nil {
				t.Error(err)
			}
		}
		if text := strings.Join(got, ","); text != c.want {
			t.Errorf("%+v hands on %q, want %q", c.filter, text, c.want)
		}
	}
}

func TestSinks(t *testing.T) {
	var got []string
	add := func(name string, err error) webhook.Sink {
		return webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error {
			got = append(got, name+ev.ID)
			return err
		})
	}
	one, two := errors.New("one"), errors.New("two")
	s := webhook.Sinks{add("a", one), add("b", nil), webhook.Filter{Sink: add("c", two)}}
	err := s.Send(t.Context(), webhook.Event{ID: "1"})
	if strings.Join(got, " ") != "a1 b1 c1" || !errors.Is(err, one) || !errors.Is(err, two) {
		t.Errorf("%v, %v", got, err)
	}
	if err := (webhook.Sinks{add("b", nil)}).Send(t.Context(), webhook.Event{}); err != nil {
		t.Error(err)
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
