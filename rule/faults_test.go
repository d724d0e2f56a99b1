package rule

import (
	"errors"
	"strings"
	"testing"
)

// TestFaultyRulesAreCompared: a rule with a fault of its own is still compared with others.
func TestFaultyRulesAreCompared(t *testing.T) {
	const name, twice, overlap = "InvalidCacheRuleName name", "CacheRuleAlreadyExists name", "TargetRepositoryConflictsWithCacheRule target"
	foreign := onlyFor{host: "docker.io"}
	for _, c := range []struct {
		what  string
		rules []Rule
		want  []string
	}{
		{"a bad name before a rule with the same target", []Rule{
			{Name: "under_score", Source: "quay.io/*", Target: "a/*"},
			{Name: "good", Source: "ghcr.io/*", Target: "a/*"},
		}, []string{name, overlap}},
		{"an authenticator for another host, inside another target", []Rule{
			{Name: "good", Source: "ghcr.io/*", Target: "a/*"},
			{Name: "foreign", Source: "quay.io/*", Target: "a/b/*", Auth: foreign},
		}, []string{"AuthenticatorNotForLoginServer auth", overlap}},
		{"an unsupported platform and a name that is taken", []Rule{
			{Name: "good", Source: "ghcr.io/*", Target: "a/*"},
			{Name: "good", Source: "quay.io/*", Target: "b/*", Platforms: []string{"amd64"}},
		}, []string{"InvalidPlatforms platforms", twice}},
		{"a source with a tag and the same target", []Rule{
			{Name: "tagged", Source: "quay.io/x:v1", Target: "x"},
			{Name: "good", Source: "ghcr.io/x", Target: "x"},
		}, []string{"InvalidRepositoryName source", overlap}},
		{"a source without a host and a name that is taken", []Rule{
			{Name: "good", Source: "team/x", Target: "x"},
			{Name: "good", Source: "ghcr.io/y", Target: "y"},
		}, []string{"InvalidLoginServer source", twice}},
		{"two faulty rules overlap once", []Rule{
			{Name: "under_score", Source: "quay.io/*", Target: "*"},
			{Name: "foreign", Source: "quay.io/*", Target: "a/*", Auth: foreign},
		}, []string{name, "AuthenticatorNotForLoginServer auth", overlap}},
		{"a name that is taken and the target of a third rule", []Rule{
			{Name: "good", Source: "quay.io/x", Target: "x"},
			{Name: "third", Source: "quay.io/y", Target: "y"},
			{Name: "good", Source: "quay.io/z", Target: "y"},
		}, []string{twice, overlap}},
		{"a name that is taken, and a third rule with the target of the second", []Rule{
			{Name: "good", Source: "quay.io/x", Target: "x"},
			{Name: "good", Source: "quay.io/z", Target: "y"},
			{Name: "third", Source: "quay.io/y", Target: "y"},
		}, []string{twice, overlap}},

		// No fault that only follows from another one.
		{"the same rule twice", []Rule{
			{Name: "good", Source: "quay.io/x", Target: "x"},
			{Name: "good", Source: "quay.io/x", Target: "x"},
		}, []string{twice}},
		{"two rules without a name", []Rule{
			{Source: "quay.io/x", Target: "x"},
			{Source: "quay.io/y", Target: "y"},
		}, []string{name, name}},
		{"two rules without a name and with one target", []Rule{
			{Source: "quay.io/x", Target: "x"},
			{Source: "quay.io/y", Target: "x"},
		}, []string{name, name, overlap}},
		{"targets that cannot be understood", []Rule{
			{Name: "one", Source: "quay.io/*", Target: "X/*"},
			{Name: "two", Source: "quay.io/*", Target: "X/*"},
			{Name: "two", Source: "quay.io/*", Target: ""},
			{Name: "good", Source: "quay.io/*", Target: "*"},
		}, []string{"InvalidRepositoryName target", "InvalidRepositoryName target", "InvalidRepositoryName target", twice}},
		{"a wildcard on one side only", []Rule{
			{Name: "good", Source: "quay.io/*", Target: "a/*"},
			{Name: "half", Source: "quay.io/x", Target: "a/*"},
		}, []string{"InvalidWildcard target"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := NewSet(c.rules...)
			wantFaults(t, err, c.want...)
			s := newSet(t, Options{}, "before quay.io/a -> before")
			wantFaults(t, s.Assign(c.rules...), c.want...)
			wantMatch(t, s, "before", "before before = quay.io/a")
		})
	}
}

// TestFaultyRulesCount: the limit counts faulty rules too, and Present is called for every
// rule with a valid source and target.
func TestFaultyRulesCount(t *testing.T) {
	o := Options{MaxRules: 2, Present: func(target, _ string) bool { return strings.HasPrefix(target, "taken") }}
	for what, c := range map[string]struct {
		third Rule
		want  []string
	}{
		"bad name":   {Rule{Name: "r!", Source: "quay.io/x", Target: "taken"}, []string{"InvalidCacheRuleName name", "TargetRepositoryAlreadyPresentInRegistry target"}},
		"foreign":    {Rule{Name: "r", Source: "quay.io/x", Target: "taken", Auth: onlyFor{host: "ghcr.io"}}, []string{"AuthenticatorNotForLoginServer auth", "TargetRepositoryAlreadyPresentInRegistry target"}},
		"tagged":     {Rule{Name: "r", Source: "quay.io/x:v1", Target: "taken"}, []string{"InvalidRepositoryName source"}},
		"one star":   {Rule{Name: "r", Source: "quay.io/x", Target: "taken/*"}, []string{"InvalidWildcard target"}},
		"no source":  {Rule{Name: "r", Source: "quay.io", Target: "taken"}, []string{"InvalidRepositoryName source"}},
		"bad target": {Rule{Name: "r", Source: "quay.io/x", Target: "taken:v1"}, []string{"InvalidRepositoryName target"}},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := o.NewSet(append(rules(t, "one quay.io/a -> a", "two quay.io/b -> b"), c.third)...)
			wantFaults(t, err, append(c.want, "CacheRuleLimitReached")...)
		})
	}
}

// TestOverlapHintsAtNested: the error mentions nested targets only if they would help.
func TestOverlapHintsAtNested(t *testing.T) {
	const hint = "unless nested targets are allowed (nested: true)"
	for _, c := range []struct {
		first, second string
		hint          bool
	}{
		{"*", "quay/*", true},
		{"quay/*", "*", true},
		{"a/b/*", "a/b/c/d/*", true},
		{"quay/*", "quay/*", false},
		{"*", "*", false},
		{"quay/app", "quay/app", false},
	} {
		source := "quay.io/app"
		if strings.HasSuffix(c.first, "*") {
			source = "quay.io/*"
		}
		list := []Rule{{Name: "first", Source: source, Target: c.first}, {Name: "second", Source: source, Target: c.second}}
		_, err := NewSet(list...)
		if !errors.Is(err, CodeOverlap) || strings.Contains(err.Error(), hint) != c.hint {
			t.Errorf("%s beside %s: %v; hint wanted: %t", c.second, c.first, err, c.hint)
		}
		if _, err := (Options{Nested: true}).NewSet(list...); (err == nil) != c.hint {
			t.Errorf("%s beside %s, nested: %v", c.second, c.first, err)
		}
	}
}
