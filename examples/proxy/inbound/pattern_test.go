package inbound_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// TestPatterns: * stands for any characters, and everything else for itself.
func TestPatterns(t *testing.T) {
	for pattern, names := range map[string]struct{ yes, no string }{
		"*":            {"a a/b team/x", ""},
		"team/*":       {"team/a team/a/b", "team teams/a xteam/a TEAM/a"},
		"team*":        {"team teams/a team/b", "xteam"},
		"*/app":        {"a/app a/b/app", "app a/apps /apps"},
		"a*b*c":        {"abc axbxc abbc abcc", "ab ac acb abcd xabc"},
		"a*a":          {"aa aba", "a ab"},
		"*b*":          {"b abc", "a"},
		"team/app":     {"team/app", "team/app2 team/ap team/app/x"},
		"hub/li*ary/*": {"hub/library/alpine hub/liary/x", "hub/library hub/x/alpine"},
	} {
		if err := inbound.CheckPattern(pattern); err != nil {
			t.Error(err)
		}
		for name := range strings.FieldsSeq(names.yes) {
			if !(inbound.Patterns{"nothing", pattern}).Match(name) {
				t.Errorf("%s does not match %s", pattern, name)
			}
		}
		for name := range strings.FieldsSeq(names.no) {
			if (inbound.Patterns{"nothing", pattern}).Match(name) {
				t.Errorf("%s matches %s", pattern, name)
			}
		}
	}
	if (inbound.Patterns{}).Match("a") || (inbound.Patterns{""}).Match("a") || (inbound.Patterns(nil)).Match("") {
		t.Error("no pattern matches something")
	}
}

// TestPatternsThatMatchNothing are mistakes.
func TestPatternsThatMatchNothing(t *testing.T) {
	for pattern, want := range map[string]string{
		"": "is empty", "Team/*": `no repository has 'T' in its name`, "team/app:v1": `has ':'`, "team/../secret": "no repository has such a name", "/team/*": "no repository has such",
		"team/": "no repository has such", "a//b": "no repository has such", "team/%2e%2e": `has '%'`, "team app": `has ' '`, "téam": `has 'é'`, "team/?": `has '?'`, "team\\*": `has '\\'`,
	} {
		if err := inbound.CheckPattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", pattern, err, want)
		}
	}
}

// FuzzPatterns compares with a regular expression.
func FuzzPatterns(f *testing.F) {
	for _, seed := range []string{"a*b|aab", "*|", "a*a|a", "**|x", "*a*b*|xaxbx"} {
		pattern, name, _ := strings.Cut(seed, "|")
		f.Add(pattern, name)
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		want := regexp.MustCompile(`\A(?s:` + strings.ReplaceAll(regexp.QuoteMeta(strings.ToValidUTF8(pattern, "")), `\*`, `.*`) + `)\z`).MatchString(strings.ToValidUTF8(name, ""))
		if got := (inbound.Patterns{strings.ToValidUTF8(pattern, "")}).Match(strings.ToValidUTF8(name, "")); got != want {
			t.Errorf("%q and %q: %t, want %t", pattern, name, got, want)
		}
	})
}

// TestParseRate: rates as they are written.
func TestParseRate(t *testing.T) {
	for text, want := range map[string]inbound.Rate{"100/s": {Count: 100, Per: time.Second}, "600/m": {Count: 600, Per: time.Minute}, "1/h": {Count: 1, Per: time.Hour}} {
		if got, err := inbound.ParseRate(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "100", "/s", "0/s", "-1/s", "1/d", "1.5/s", "100 /s", "99999999999/s", "1/s/s"} {
		if got, err := inbound.ParseRate(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
