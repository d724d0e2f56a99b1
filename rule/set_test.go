package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth"
)

// onlyFor is an authenticator for one host.
type onlyFor struct {
	password
	host string
}

func (a onlyFor) Check(host string) error {
	if host != a.host {
		return fmt.Errorf("%w: for %s only", auth.ErrHost, a.host)
	}
	return nil
}

// wantFaults compares the codes and fields of joined faults.
func wantFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	var got []string
	for _, e := range flatten([]error{err}) {
		f, ok := e.(*Error)
		if !ok {
			t.Errorf("%T is no *Error: %v", e, e)
			continue
		}
		got = append(got, strings.TrimSpace(string(f.Code)+" "+f.Field))
		if !errors.Is(err, f.Code) {
			t.Errorf("errors.Is does not find %s", f.Code)
		}
		if f.Message == "" || strings.ContainsAny(f.Message, "\n") {
			t.Errorf("message %q", f.Message)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got the faults %q, want %q\n%v", got, want, err)
	}
}

func TestRefusesOneRule(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		name, source, target string
		want                 []string
	}{
		{"", "quay.io/a", "a", []string{"InvalidCacheRuleName name"}},
		{"under_score", "quay.io/a", "a", []string{"InvalidCacheRuleName name"}},
		{"dot.ted", "quay.io/a", "a", []string{"InvalidCacheRuleName name"}},
		{"rüle", "quay.io/a", "a", []string{"InvalidCacheRuleName name"}},
		{strings.Repeat("n", 51), "quay.io/a", "a", []string{"InvalidCacheRuleName name"}},
		{"r", "quay.io/a:v1", "a", []string{"InvalidRepositoryName source"}},
		{"r", "quay.io/a@sha256:0", "a", []string{"InvalidRepositoryName source"}},
		{"r", "quay.io/A", "a", []string{"InvalidRepositoryName source"}},
		{"r", "quay.io/", "a", []string{"InvalidRepositoryName source"}},
		{"r", "quay.io", "a", []string{"InvalidRepositoryName source"}},
		{"r", "quay.io/a/", "a", []string{"InvalidRepositoryName source"}},
		{"r", "quay.io//a", "a", []string{"InvalidRepositoryName source"}},
		{"r", "quay.io/" + long, "a", []string{"InvalidRepositoryName source"}},
		{"r", "quay.io/a", "", []string{"InvalidRepositoryName target"}},
		{"r", "quay.io/a", "/a", []string{"InvalidRepositoryName target"}},
		{"r", "quay.io/a", "a:v1", []string{"InvalidRepositoryName target"}},
		{"r", "quay.io/a", "a/../b", []string{"InvalidRepositoryName target"}},
		{"r", "quay.io/a", long, []string{"InvalidRepositoryName target"}},
		{"r", "quay.io/a", "A", []string{"InvalidRepositoryName target"}},
		{"r", "quay.io/*", "/*", []string{"InvalidRepositoryName target"}},
		{"r", "library/alpine", "a", []string{"InvalidLoginServer source"}},
		{"r", "alpine", "a", []string{"InvalidLoginServer source"}},
		{"r", "", "a", []string{"InvalidLoginServer source"}},
		{"r", "*", "*", []string{"InvalidLoginServer source"}},
		{"r", "../a", "a", []string{"InvalidLoginServer source"}},
		{"r", "https://quay.io/a", "a", []string{"InvalidLoginServer source"}},
		{"r", "quay.io:x/a", "a", []string{"InvalidLoginServer source"}},
		{"r", "*.io/a", "a", []string{"InvalidLoginServer source"}},
		{"r", "user@quay.io/a", "a", []string{"InvalidLoginServer source"}},
		{"r", "quay.io/a*", "b/*", []string{"InvalidWildcard source"}},
		{"r", "quay.io/*/a", "a", []string{"InvalidWildcard source"}},
		{"r", "quay.io/*/*", "b/*", []string{"InvalidWildcard source"}},
		{"r", "quay.io/**", "*", []string{"InvalidWildcard source"}},
		{"r", "quay.io/*", "*/a/*", []string{"InvalidWildcard target"}},
		{"r", "quay.io/*", "a*", []string{"InvalidWildcard target"}},
		{"r", "quay.io/*", "a", []string{"InvalidWildcard target"}},
		{"r", "quay.io/a", "a/*", []string{"InvalidWildcard target"}},
		{"r!", "QUAY.io/A", "A*", []string{"InvalidCacheRuleName name", "InvalidRepositoryName source", "InvalidWildcard target"}},
		{"r", "quay_io./a:1", "B", []string{"InvalidLoginServer source", "InvalidRepositoryName source", "InvalidRepositoryName target"}},
	} {
		t.Run(c.source+" "+c.target, func(t *testing.T) {
			r := Rule{Name: c.name, Source: c.source, Target: c.target}
			_, err := NewSet(r)
			wantFaults(t, err, c.want...)
			var s Set
			wantFaults(t, s.Create(r), c.want...)
		})
	}
}

func TestMessages(t *testing.T) {
	for _, c := range []struct{ source, target, want string }{
		{"docker.io/library/python:3.11-bookworm", "a", "Repository names should follow the standardized docker repository naming conventions. All characters should be lowercase."},
		{"docker.io/library/python:3.11-bookworm", "a", "a tag is not allowed"},
		{"quay.io/a@sha256:00", "a", "a digest is not allowed"},
		{"quay.io/A", "a", "upper case is not allowed"},
		{"library/alpine", "a", "'docker.io/library/alpine'"},
		{"https://quay.io/a", "a", "must not have a scheme"},
	} {
		_, err := NewSet(Rule{Name: "my-rule", Source: c.source, Target: c.target})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `"my-rule"`) {
			t.Errorf("%s: %v, want %q and the rule's name", c.source, err, c.want)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		first, second string
		acr, nested   bool // allowed
	}{
		{"*", "library/*", false, true},
		{"library/*", "*", false, true},
		{"library/*", "library/dotnet/*", false, true},
		{"library/dotnet/*", "library/*", false, true},
		{"a/b/c/d/*", "a/b/*", false, true},
		{"*", "*", false, false},
		{"a/*", "a/*", false, false},
		{"a", "a", false, false},
		{"a", "*", true, true},
		{"a/b", "a/*", true, true},
		{"a/*", "a/b", true, true},
		{"a/*", "a", true, true},
		{"a/*", "ab/*", true, true},
		{"a/b/*", "a/c/*", true, true},
		{"a/b/c/*", "a/b/d/*", true, true},
	} {
		for _, nested := range []bool{false, true} {
			allowed := c.acr
			if nested {
				allowed = c.nested
			}
			two := rules(t, "first quay.io/* -> "+c.first, "second ghcr.io/* -> "+c.second)
			for i := range two {
				if !strings.HasSuffix(two[i].Target, "*") {
					two[i].Source = strings.Replace(two[i].Source, "*", "x", 1)
				}
			}
			together, err := Options{Nested: nested}.NewSet(two...)
			one, _ := Options{Nested: nested}.NewSet(two[0])
			later := one.Create(two[1])
			if allowed {
				if err != nil || later != nil || together == nil {
					t.Errorf("%s then %s, nested %v: %v, %v", c.first, c.second, nested, err, later)
				}
				continue
			}
			for _, err := range []error{err, later} {
				wantFaults(t, err, "TargetRepositoryConflictsWithCacheRule target")
				if err != nil && !strings.Contains(err.Error(), `rule "second"`) {
					t.Errorf("%s then %s: the later rule is at fault: %v", c.first, c.second, err)
				}
			}
			if _, found := one.Get("second"); found {
				t.Error("a refused rule is in the set")
			}
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := Options{MaxRules: 3}.NewSet(rules(t,
		"good quay.io/* -> a/*",
		"bad! quay.io/x:v1 -> b",
		"good quay.io/x -> c",
		"inside quay.io/* -> a/b/*",
	)...)
	wantFaults(t, err, "InvalidCacheRuleName name", "InvalidRepositoryName source", "CacheRuleAlreadyExists name",
		"TargetRepositoryConflictsWithCacheRule target", "CacheRuleLimitReached")
}

func TestLimit(t *testing.T) {
	var many []Rule
	for i := range DefaultMaxRules + 1 {
		many = append(many, Rule{Name: fmt.Sprintf("r%d", i), Source: "quay.io/x", Target: fmt.Sprintf("x%d", i)})
	}
	s, err := NewSet(many[:DefaultMaxRules]...)
	if err != nil {
		t.Fatal(err)
	}
	wantFaults(t, s.Create(many[DefaultMaxRules]), "CacheRuleLimitReached")
	_, err = NewSet(many...)
	wantFaults(t, err, "CacheRuleLimitReached")
	if err := s.SetAuth("r1", password{}); err != nil {
		t.Errorf("a full set can be changed: %v", err)
	}
	if err := s.Delete("r0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(many[DefaultMaxRules]); err != nil {
		t.Error(err)
	}
	if _, err := (Options{MaxRules: -1}).NewSet(many...); err != nil {
		t.Error(err)
	}
	_, err = Options{MaxRules: 1}.NewSet(many[:2]...)
	wantFaults(t, err, "CacheRuleLimitReached")
}

func TestChecker(t *testing.T) {
	hub := onlyFor{host: "docker.io"}
	s := newSet(t, Options{}, "hub docker.io/* -> hub/*")
	if err := s.SetAuth("hub", hub); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"create":  s.Create(Rule{Name: "quay", Source: "quay.io/*", Target: "quay/*", Auth: hub}),
		"replace": s.Replace(Rule{Name: "hub", Source: "quay.io/*", Target: "hub/*", Auth: hub}),
		"auth":    s.SetAuth("hub", onlyFor{host: "quay.io"}),
		"assign":  s.Assign(Rule{Name: "quay", Source: "quay.io/*", Target: "quay/*", Auth: hub}),
	} {
		wantFaults(t, err, "AuthenticatorNotForLoginServer auth")
		if !errors.Is(err, auth.ErrHost) {
			t.Errorf("%s: the cause is lost: %v", name, err)
		}
	}
	// The host is canonical before the authenticator sees it.
	if err := s.Create(Rule{Name: "index", Source: "Index.Docker.io:443/x/y", Target: "xy", Auth: hub}); err != nil {
		t.Error(err)
	}
	set := &auth.CredentialSet{Name: "c", LoginServer: "quay.io"}
	wantFaults(t, s.Create(Rule{Name: "c", Source: "ghcr.io/x", Target: "c", Auth: set}), "AuthenticatorNotForLoginServer auth")
}

func TestChanges(t *testing.T) {
	ctx := t.Context()
	var s Set
	if _, err := s.Match(ctx, "a"); !errors.Is(err, ErrNoMatch) {
		t.Error(err)
	}
	if _, err := s.MatchSource(ctx, "quay.io", "a"); !errors.Is(err, ErrNoMatch) {
		t.Error(err)
	}
	for range s.All() {
		t.Error("an empty set has a rule")
	}
	wantFaults(t, s.Delete("x"), "CacheRuleNotFound")
	wantFaults(t, s.SetAuth("x", nil), "CacheRuleNotFound")
	wantFaults(t, s.Replace(Rule{Name: "x", Source: "quay.io/x", Target: "x"}), "CacheRuleNotFound")
	for _, r := range rules(t, "zed quay.io/z -> z", "abc quay.io/a -> a", "mid Quay.io/m -> m") {
		if err := s.Create(r); err != nil {
			t.Fatal(err)
		}
	}
	wantFaults(t, s.Create(Rule{Name: "abc", Source: "quay.io/b", Target: "b"}), "CacheRuleAlreadyExists name")
	var names []string
	for r := range s.All() {
		names = append(names, r.Name)
	}
	if want := []string{"abc", "mid", "zed"}; !slices.Equal(names, want) {
		t.Errorf("order %q", names)
	}
	for range s.All() {
		break
	}
	if r, ok := s.Get("mid"); !ok || r.Source != "Quay.io/m" {
		t.Errorf("a rule is given back as it was: %+v", r)
	}
	if _, ok := s.Get("none"); ok {
		t.Error("found what is not there")
	}
	if err := s.SetAuth("abc", nil); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Get("abc"); r.Auth != nil || r.Source != "quay.io/a" || r.Target != "a" {
		t.Errorf("Update changed the rule to %+v", r)
	}
	if err := s.Replace(Rule{Name: "abc", Source: "ghcr.io/b", Target: "b"}); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, &s, "a", none)
	wantMatch(t, &s, "b", "abc b = ghcr.io/b")
	wantFaults(t, s.Replace(Rule{Name: "abc", Source: "ghcr.io/b", Target: "z"}), "TargetRepositoryConflictsWithCacheRule target")
	wantMatch(t, &s, "b", "abc b = ghcr.io/b")
	// A rule may be put where it overlaps only with itself.
	if err := s.Replace(Rule{Name: "abc", Source: "ghcr.io/*", Target: "b/*"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(Rule{Name: "abc", Source: "ghcr.io/*", Target: "b/c/*"}); err != nil {
		t.Fatal(err)
	}
}

func TestSetKeepsItsOwnRules(t *testing.T) {
	list := rules(t, "one quay.io/a -> a")
	s, err := NewSet(list...)
	if err != nil {
		t.Fatal(err)
	}
	list[0].Source = "ghcr.io/b"
	m, _ := s.Match(t.Context(), "a")
	if m.Rule.Source != "quay.io/a" {
		t.Error("the set shares the caller's rule")
	}
}

func generation(t *testing.T, s *Set, name string) uint64 {
	t.Helper()
	m, err := s.Match(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return m.Generation
}

func TestGenerations(t *testing.T) {
	s := newSet(t, Options{}, "one quay.io/a -> a", "two quay.io/b -> b")
	one := rules(t, "one quay.io/a -> a")[0]
	seen := []uint64{generation(t, s, "a")}
	other := generation(t, s, "b")
	for i, change := range []func() error{
		func() error { return s.SetAuth("one", password{"new"}) },
		func() error { return s.SetAuth("one", password{"new"}) },
		func() error { return s.Replace(one) },
		func() error { return errors.Join(s.Delete("one"), s.Create(one)) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, generation(t, s, "a"))
		if seen[i+1] <= seen[i] {
			t.Errorf("change %d: generations %d", i, seen)
		}
	}
	if err := s.SetAuth("one", onlyFor{host: "ghcr.io"}); err == nil {
		t.Fatal("not refused")
	}
	if g := generation(t, s, "a"); g != seen[len(seen)-1] {
		t.Error("a refused change changed the generation")
	}
	if generation(t, s, "b") != other {
		t.Error("the change of one rule changed the generation of another")
	}
	// Generations differ between sets too, since a program may replace a whole set.
	later := newSet(t, Options{}, "one quay.io/a -> a")
	if g := generation(t, later, "a"); g <= seen[0] {
		t.Errorf("a later set repeats the generation %d", g)
	}
}

func TestAssign(t *testing.T) {
	s := newSet(t, Options{}, "one quay.io/a -> a", "two quay.io/b -> b")
	before := generation(t, s, "a")
	// Two rules swap their targets: no order of single changes could do that.
	if err := s.Assign(rules(t, "one quay.io/a -> b", "two quay.io/b -> a")...); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, s, "a", "two a = quay.io/b")
	wantMatch(t, s, "b", "one b = quay.io/a")
	if generation(t, s, "a") <= before {
		t.Error("the generation did not grow")
	}
	wantFaults(t, s.Assign(rules(t, "one quay.io/a -> x", "two quay.io/b -> x")...), "TargetRepositoryConflictsWithCacheRule target")
	wantMatch(t, s, "a", "two a = quay.io/b")
	if err := s.Assign(); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, s, "a", none)
}

func TestPresent(t *testing.T) {
	var asked []string
	present := map[string]bool{}
	o := Options{Present: func(target, source string) bool {
		asked = append(asked, target+" "+source)
		return present[target]
	}}
	s := newSet(t, o, "wild Docker.io/* -> hub/*", "one docker.io/alpine -> alpine")
	if want := []string{"hub/* docker.io/*", "alpine docker.io/library/alpine"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	asked = nil
	if err := errors.Join(s.SetAuth("one", nil), s.Replace(rules(t, "one docker.io/library/alpine -> alpine")[0])); err != nil || asked != nil {
		t.Errorf("asked %q for a target that the rule had already, %v", asked, err)
	}
	present["mise"], present["team/*"] = true, true
	wantFaults(t, s.Create(rules(t, "mise quay.io/mise -> mise")[0]), "TargetRepositoryAlreadyPresentInRegistry target")
	wantFaults(t, s.Create(rules(t, "team quay.io/t/* -> team/*")[0]), "TargetRepositoryPrefixMatchesExistingRegistries target")
	wantFaults(t, s.Replace(rules(t, "one docker.io/alpine -> mise")[0]), "TargetRepositoryAlreadyPresentInRegistry target")
	wantFaults(t, s.Assign(rules(t, "mise quay.io/mise -> mise")...), "TargetRepositoryAlreadyPresentInRegistry target")
}
