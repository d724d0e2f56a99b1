package page_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/upstream"
)

// TestExplainTakesWhatPeopleType: names with and without the address, tags, digests, and
// what they copy from a terminal.
func TestExplainTakesWhatPeopleType(t *testing.T) {
	d := digest.FromString("x").String()
	for typed, want := range map[string]string{
		"hub/library/alpine":                                "hub/library/alpine latest",
		"hub/library/alpine:3.20":                           "hub/library/alpine 3.20",
		"127.0.0.1:5000/hub/library/alpine:3.20":            "hub/library/alpine 3.20",
		"  docker pull 127.0.0.1:5000/hub/library/alpine  ": "hub/library/alpine latest",
		"https://127.0.0.1:5000/hub/library/alpine":         "hub/library/alpine latest",
		"hub/library/alpine@" + d:                           "hub/library/alpine " + d,
		"127.0.0.1:5000/hub/library/alpine:3.20@" + d:       "hub/library/alpine " + d,
		"localhost:9999/hub/library/alpine":                 "localhost:9999/hub/library/alpine latest",
		"<script>:x":                                        "<script> x",
		":":                                                 " ",
	} {
		s := newStage(t, hub())
		var got string
		s.cache.explain = func(repository, reference string) (cache.Explanation, error) {
			got = repository + " " + reference
			return cache.Explanation{}, errors.New("no")
		}
		s.get(t, "explain", typed)
		if got != want {
			t.Errorf("%q: asked for %q, want %q", typed, got, want)
		}
	}
}

// TestVerdicts: the answer begins with what happens.
func TestVerdicts(t *testing.T) {
	trouble := errors.New("it is down")
	job := copyOf(1, cache.CopyRunning)
	for want, x := range map[string]cache.Explanation{
		"The next pull is local":                           {Stored: true, Fresh: true, Rule: "r"},
		"The next pull is local, unchecked":                {Stored: true, Rule: "r", Trouble: trouble},
		"The next pull is local, after a check of the tag": {Stored: true, Rule: "r"},
		"A pull fails: no rule covers the name":            {},
		"A pull fails: the source cannot be asked":         {Rule: "r", Trouble: trouble},
		"The next pull comes from the source":              {Rule: "r", Source: upstream.Source{Host: "docker.io", Repository: "x"}, Copy: &job},
	} {
		s := newStage(t, hub())
		x.Text = "rule r maps it; and so on"
		s.cache.explain = func(string, string) (cache.Explanation, error) { return x, nil }
		body := s.get(t, "explain", "x")
		has(t, body, ">"+want+"</span>", "Rule r maps it; and so on.", `value="x"`)
		if (x.Copy != nil) != strings.Contains(body, "The copy: Running, 40 MiB of 160 MiB") {
			t.Errorf("%s: the copy is wrong", want)
		}
	}
	s := newStage(t, hub())
	s.cache.explain = func(string, string) (cache.Explanation, error) {
		return cache.Explanation{}, errors.New("NAME_INVALID: no")
	}
	has(t, s.get(t, "explain", "X"), "Not a name that can be pulled", "NAME_INVALID: no")
}

// TestFormsKeepTheRest: a filter or a question does not undo another one.
func TestFormsKeepTheRest(t *testing.T) {
	s := crowd(t)
	s.cache.explain = func(string, string) (cache.Explanation, error) { return cache.Explanation{}, errors.New("no") }
	body := s.get(t, "rules", "rule-01", "explain", "hub/x", "span", "day", "unknown", "1")
	for _, form := range strings.Split(body, "<form ")[1:] {
		form, _, _ = strings.Cut(form, "</form>")
		if !strings.HasPrefix(form, `method="get"`) {
			continue
		}
		for _, field := range []string{`name="span" value="day"`, `name="rules"`, `name="explain"`} {
			if strings.Count(form, field) != 1 {
				t.Errorf("%s is not once in the form %s", field, form)
			}
		}
		hasNot(t, form, "unknown")
	}
	has(t, body, `href="/?explain=hub%2Fx&amp;rules=rule-01#overview"`, `href="/?copies=queued&amp;explain=hub%2Fx&amp;rules=rule-01&amp;span=day#copies"`)
}

// TestPictures: each has words, and a table with the same figures.
func TestPictures(t *testing.T) {
	s := crowd(t)
	body := s.get(t)
	if n := strings.Count(body, `role="img"`); n != 3 {
		t.Errorf("%d pictures, want 3", n)
	}
	has(t, body, "<desc id=\"chart-ratio-desc\">In the last hour, 80 % of what was asked for came from here: 1,440 of 1,800 requests.</desc>",
		"360 MiB were sent to clients and 360 KiB came from upstreams", "The pictures as a table", "<td role=\"cell\" data-label=\"Requests\" class=\"number\">300</td>")
	if n := strings.Count(body, `scope="row" data-label="Until"`); n < 12 || n > 13 {
		t.Errorf("the table of an hour has %d rows", n)
	}
	s.record.points = []watch.Point{{Used: -1, Free: -1, Content: -1}}
	hasNot(t, s.get(t), `role="img"`)
}
