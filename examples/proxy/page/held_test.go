package page_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/upstream"
)

// heldTag returns a tag that is held for so long, with a former image.
func heldTag(name string, left time.Duration) cache.HeldTag {
	until := time.Now().Add(left)
	return cache.HeldTag{
		Repository: "hub/" + name, Tag: "v1", Digest: digest.FromString(name), Former: digest.FromString("former"), Source: upstream.Source{Rule: "docker-hub", Host: "docker.io", Repository: name},
		Since: time.Now().Add(-2 * time.Hour), Until: until, Err: fmt.Errorf("asked: %w", &cache.Hold{Until: until, Reason: "it is too new"}),
	}
}

// holding returns a page on which these are held.
func holding(t *testing.T, list ...cache.HeldTag) *stage {
	s := newStage(t, hub())
	s.Held = func() []cache.HeldTag { return append([]cache.HeldTag(nil), list...) }
	return s
}

// sectionOf returns a section of a page, or an empty text.
func sectionOf(body, id string) string {
	_, part, _ := strings.Cut(body, `<section id="`+id+`"`)
	part, _, _ = strings.Cut(part, "</section>")
	return part
}

// TestHeldSection: it shows if a rule may hold images or something is held, with why, since and
// until when, and what is served meanwhile.
func TestHeldSection(t *testing.T) {
	s := newStage(t, hub())
	hasNot(t, s.get(t), `id="held"`, `href="#held"`)
	s.Gated = func() bool { return false }
	hasNot(t, s.get(t), `id="held"`)
	s.Gated = func() bool { return true }
	has(t, s.get(t), `href="#held"`, "Nothing is held.")

	refused := heldTag("refused", time.Hour)
	refused.Until, refused.Err = time.Time{}, errors.New("the gate refuses it: CVE-1")
	body := holding(t, heldTag("past", -time.Minute), refused, heldTag("late", 72*time.Hour), heldTag("soon", 30*time.Minute)).get(t)
	part := sectionOf(body, "held")
	has(t, part, "hub/soon:v1", digest.FromString("soon").String()[:19]+"…", "rule docker-hub", "Former image "+digest.FromString("former").String()[:19]+"…", "it is too new", "2 h ago", "in 30 min", "in 3 days",
		"the gate refuses it: CVE-1", "Each pull asks", "The next pull asks")
	hasNot(t, part, "held until", "asked:")
	hasNot(t, body, "cannot be pulled yet")
	last := -1
	for _, name := range []string{"soon", "late", "refused", "past"} {
		at := strings.Index(part, `data-key="hub/`+name+`:v1"`)
		if at <= last {
			t.Errorf("%s stands at %d, after %d", name, at, last)
		}
		last = at
	}
}

// TestHeldNotice: there is one if nothing is served of a tag, and none while its gate is asked or
// after its time.
func TestHeldNotice(t *testing.T) {
	first, past, undecided := heldTag("first", time.Hour), heldTag("past", -time.Hour), heldTag("undecided", time.Second)
	undecided.Err = &cache.Hold{Until: undecided.Until, Reason: "the gate is looking at it"}
	for _, one := range []*cache.HeldTag{&first, &past, &undecided} {
		one.Former = ""
	}
	body := holding(t, past, undecided).get(t)
	hasNot(t, body, "cannot be pulled yet")
	has(t, body, "Nothing yet")
	second := first
	second.Tag = "v2"
	body = holding(t, past, undecided, first, second, heldTag("with-former", time.Hour)).get(t)
	has(t, body, "2 tags cannot be pulled yet", `<a href="#held">See why</a>`, "Nothing: pulls fail")
	if n := strings.Count(sectionOf(body, "overview"), "cannot be pulled yet"); n != 1 {
		t.Errorf("%d notices, want 1", n)
	}
}

// TestHeldIsBounded: of many tags those show whose time ends first, and long texts are cut.
func TestHeldIsBounded(t *testing.T) {
	var list []cache.HeldTag
	for i := range 4096 {
		one := heldTag(fmt.Sprintf("app-%d", i), time.Duration(5000-i)*time.Minute)
		one.Err = errors.New(strings.Repeat("a long reason ", 1000))
		list = append(list, one)
	}
	body := holding(t, list...).get(t)
	part := sectionOf(body, "held")
	if n := strings.Count(part, `<tr role="row" data-key=`); n != 50 || len(part) > 100<<10 {
		t.Errorf("%d rows and %d KiB, want 50 and at most 100", n, len(part)>>10)
	}
	has(t, body, "Showing 50 of 4,096", "hub/app-4095:v1", "hub/app-4046:v1")
	hasNot(t, body, "hub/app-4045:v1")
}

// TestExplainHeld: the answer says until when the new image is held, and because of what.
func TestExplainHeld(t *testing.T) {
	d, until := digest.FromString("new"), time.Now().Add(time.Hour)
	hold := &cache.Hold{Until: until, Reason: "it is too new"}
	for want, x := range map[string]cache.Explanation{
		"A pull is refused: the image is held":             {Held: d, HeldErr: hold, HeldUntil: until},
		"The next pull is local, after a check of the tag": {Held: d, HeldErr: hold, HeldUntil: until, Stored: true},
	} {
		body := explained(t, x)
		has(t, body, ">"+want+"</span>", d.String()+": held until "+until.UTC().Format("2006-01-02 15:04:05")+" UTC because it is too new")
	}
	body := explained(t, cache.Explanation{Held: d, HeldErr: hold, HeldUntil: until.Add(-2 * time.Hour)})
	has(t, body, "The next pull comes from the source", "was held until ")
	body = explained(t, cache.Explanation{Held: d, HeldErr: errors.New("CVE-1")})
	has(t, body, "A pull is refused: the image is held", "Not admitted "+d.String()+": CVE-1")
}

// explained returns the page with an explanation.
func explained(t *testing.T, x cache.Explanation) string {
	s := newStage(t, hub())
	x.Rule = "r"
	s.cache.explain = func(string, string) (cache.Explanation, error) { return x, nil }
	return s.get(t, "explain", "x")
}
