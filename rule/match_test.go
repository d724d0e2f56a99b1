package rule

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/route"
)

// password is an authenticator for every host.
type password struct{ name string }

func (password) Credential(context.Context, auth.Request) (auth.Credential, error) {
	return auth.Credential{}, nil
}

// rules makes rules from lines "name source -> target".
func rules(t testing.TB, lines ...string) []Rule {
	t.Helper()
	var list []Rule
	for _, l := range lines {
		r := Rule{Auth: password{}}
		if _, err := fmt.Sscanf(l, "%s %s -> %s", &r.Name, &r.Source, &r.Target); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		list = append(list, r)
	}
	return list
}

func newSet(t testing.TB, o Options, lines ...string) *Set {
	t.Helper()
	s, err := o.NewSet(rules(t, lines...)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// show writes a match as "rule local = source".
func show(m *Match, err error) string {
	if err != nil {
		return err.Error()
	}
	return m.Rule.Name + " " + m.Repository + " = " + m.Source.String()
}

const none = "none"

func wantMatch(t *testing.T, s *Set, name, want string) {
	t.Helper()
	for _, how := range []string{"cold", "warm"} {
		m, err := s.Match(t.Context(), name)
		if want == none {
			if m != nil || !errors.Is(err, ErrNoMatch) {
				t.Errorf("%s: Match(%q) = %s, want ErrNoMatch", how, name, show(m, err))
			}
			continue
		}
		if got := show(m, err); got != want {
			t.Errorf("%s: Match(%q) = %s, want %s", how, name, got, want)
			continue
		}
		if m.Source.Rule != m.Rule.Name {
			t.Errorf("Match(%q): rule %q, but the source's is %q", name, m.Rule.Name, m.Source.Rule)
		}
		again, err := s.Match(t.Context(), m.Repository)
		if err != nil || *again != *m {
			t.Errorf("Match(%q) = %s, but its canonical name gives %s", name, show(m, nil), show(again, err))
		}
	}
}

func TestMatch(t *testing.T) {
	s := newSet(t, Options{},
		"wild quay.io/team/* -> team/*",
		"deep ghcr.io/* -> a/b/c/*",
		"fixed ghcr.io/x/y -> team/fixed",
		"top mcr.microsoft.com/dotnet/sdk -> sdk",
	)
	wantMatch(t, s, "team/app", "wild team/app = quay.io/team/app")
	wantMatch(t, s, "team/app/sub/dir", "wild team/app/sub/dir = quay.io/team/app/sub/dir")
	wantMatch(t, s, "team/fixed", "fixed team/fixed = ghcr.io/x/y")
	wantMatch(t, s, "team/fixed/more", "wild team/fixed/more = quay.io/team/fixed/more")
	wantMatch(t, s, "a/b/c/d", "deep a/b/c/d = ghcr.io/d")
	wantMatch(t, s, "sdk", "top sdk = mcr.microsoft.com/dotnet/sdk")
	for _, name := range []string{
		"team", "a/b/c", "a/b/d", "teams/app", "other", "", "/", "team/", "team//app", "team/App", "team/../x", "team/a:v1",
		"team/a@sha256:00", "sdk/x", "*", "team/*", "team/" + strings.Repeat("x", 300), "/team/app",
	} {
		wantMatch(t, s, name, none)
	}
}

// TestMatchLength: a name that would be too long upstream has no match.
func TestMatchLength(t *testing.T) {
	prefix := strings.Repeat("p", 200)
	s := newSet(t, Options{}, "long quay.io/"+prefix+"/* -> t/*")
	fits, more := strings.Repeat("n", 254-len(prefix)), strings.Repeat("n", 255-len(prefix))
	wantMatch(t, s, "t/"+fits, "long t/"+fits+" = quay.io/"+prefix+"/"+fits)
	wantMatch(t, s, "t/"+more, none)
}

func TestMatchEverything(t *testing.T) {
	s := newSet(t, Options{}, "all mcr.microsoft.com/* -> *", "pin quay.io/x/y -> one/two")
	wantMatch(t, s, "a", "all a = mcr.microsoft.com/a")
	wantMatch(t, s, "a/b/c", "all a/b/c = mcr.microsoft.com/a/b/c")
	wantMatch(t, s, "one/two", "pin one/two = quay.io/x/y")
	wantMatch(t, s, "one", "all one = mcr.microsoft.com/one")
	wantMatch(t, s, "", none)
	wantMatch(t, s, "A", none)
}

// TestMatchPrefixes: the part of a name that the wildcard matched follows the source's
// prefix, whatever it is (acr issue 772).
func TestMatchPrefixes(t *testing.T) {
	s := newSet(t, Options{}, "hub docker.io/library/* -> docker.io/*")
	wantMatch(t, s, "docker.io/pulumi/pulumi-dotnet", "hub docker.io/pulumi/pulumi-dotnet = docker.io/library/pulumi/pulumi-dotnet")
	wantMatch(t, s, "docker.io/alpine", "hub docker.io/alpine = docker.io/library/alpine")
}

func TestDockerHubShortNames(t *testing.T) {
	s := newSet(t, Options{},
		"hub docker.io/* -> hub/*",
		"short docker.io/alpine -> alpine",
		"pin ghcr.io/pinned/redis -> hub/library/redis",
		"index index.docker.io/busybox -> box",
		"port docker.io:5000/* -> port/*",
	)
	wantMatch(t, s, "hub/alpine", "hub hub/library/alpine = docker.io/library/alpine")
	wantMatch(t, s, "hub/library/alpine", "hub hub/library/alpine = docker.io/library/alpine")
	wantMatch(t, s, "hub/grafana/loki", "hub hub/grafana/loki = docker.io/grafana/loki")
	wantMatch(t, s, "alpine", "short alpine = docker.io/library/alpine")
	wantMatch(t, s, "hub/redis", "pin hub/library/redis = ghcr.io/pinned/redis")
	wantMatch(t, s, "hub/library/redis", "pin hub/library/redis = ghcr.io/pinned/redis")
	wantMatch(t, s, "box", "index box = docker.io/library/busybox")
	wantMatch(t, s, "port/alpine", "port port/alpine = docker.io:5000/alpine")
	a, _ := s.Match(t.Context(), "hub/alpine")
	b, _ := s.Match(t.Context(), "hub/library/alpine")
	if a != b {
		t.Error("two names of one repository have two matches")
	}
	wantMatch(t, s, "hub/"+strings.Repeat("x", 251), none) // too long with library/
}

func TestNested(t *testing.T) {
	s := newSet(t, Options{Nested: true},
		"all quay.io/all/* -> *",
		"team ghcr.io/team/* -> team/*",
		"hub docker.io/* -> team/hub/*",
		"lib mcr.microsoft.com/* -> team/hub/library/*",
	)
	wantMatch(t, s, "x", "all x = quay.io/all/x")
	wantMatch(t, s, "team/x", "team team/x = ghcr.io/team/x")
	wantMatch(t, s, "team", "all team = quay.io/all/team")
	wantMatch(t, s, "team/hub/a/b", "hub team/hub/a/b = docker.io/a/b")
	// The canonical name lies under a longer prefix, which wins.
	wantMatch(t, s, "team/hub/a", "lib team/hub/library/a = mcr.microsoft.com/a")
}

// TestNestedHubEnds: each step to the canonical form may lead to another rule of Docker Hub.
func TestNestedHubEnds(t *testing.T) {
	s := newSet(t, Options{Nested: true}, "one docker.io/* -> *", "two docker.io/* -> library/*", "three docker.io/* -> library/library/*")
	wantMatch(t, s, "a", "three library/library/library/a = docker.io/library/a")
}

func wantSource(t *testing.T, s *Set, host, repository, want string) {
	t.Helper()
	for _, how := range []string{"cold", "warm"} {
		m, err := s.MatchSource(t.Context(), host, repository)
		got := show(m, err)
		if want == none {
			want = ErrNoMatch.Error()
		}
		if got != want {
			t.Errorf("%s: MatchSource(%q, %q) = %s, want %s", how, host, repository, got, want)
		}
		if err == nil {
			if again, err := s.Match(t.Context(), m.Repository); again != m {
				t.Errorf("MatchSource(%q, %q) = %s, but Match gives %s", host, repository, got, show(again, err))
			}
		}
	}
}

func TestMatchSource(t *testing.T) {
	s := newSet(t, Options{},
		"b-hub docker.io/* -> hub/*",
		"a-hub docker.io/* -> other/*",
		"grafana docker.io/grafana/* -> dash/*",
		"loki docker.io/grafana/loki -> loki",
		"quay quay.io/* -> quay/*",
		"local localhost:5000/* -> local/*",
	)
	wantSource(t, s, "docker.io", "alpine", "a-hub other/library/alpine = docker.io/library/alpine")
	wantSource(t, s, "docker.io", "library/alpine", "a-hub other/library/alpine = docker.io/library/alpine")
	wantSource(t, s, "registry-1.docker.io", "a/b", "a-hub other/a/b = docker.io/a/b")
	wantSource(t, s, "Index.Docker.io:443", "grafana/x", "grafana dash/x = docker.io/grafana/x")
	wantSource(t, s, "docker.io", "grafana/loki", "loki loki = docker.io/grafana/loki")
	wantSource(t, s, "quay.io", "x", "quay quay/x = quay.io/x")
	wantSource(t, s, "localhost:5000", "x", "local local/x = localhost:5000/x")
	for _, q := range [][2]string{
		{"localhost", "x"}, {"ghcr.io", "x"}, {"", "x"}, {"", "hub/a"}, {"quay.io", ""}, {"quay.io", "X"}, {"quay.io", "a//b"}, {"quay.io", "/"},
		{"docker.io", ""}, {"not a host", "x"}, {"quay.io", "a:v1"}, {"quay.io", strings.Repeat("x", 256)},
	} {
		wantSource(t, s, q[0], q[1], none)
	}
}

// TestMatchSourceShadowed: a rule whose local name another rule covers does not match, even
// if both have one source host.
func TestMatchSourceShadowed(t *testing.T) {
	s := newSet(t, Options{},
		"hub docker.io/* -> hub/*",
		"pin quay.io/pinned/redis -> hub/library/redis",
		"host quay.io/library/node -> hub/library/node",
		"fork docker.io/fork/nginx -> hub/library/nginx",
		"same docker.io/a/b -> hub/a/b",
	)
	wantSource(t, s, "docker.io", "redis", none)
	wantSource(t, s, "docker.io", "node", none)
	wantSource(t, s, "docker.io", "nginx", none)
	wantSource(t, s, "docker.io", "a/b", "same hub/a/b = docker.io/a/b")
	wantSource(t, s, "docker.io", "fork/nginx", "fork hub/library/nginx = docker.io/fork/nginx")
	if err := s.Create(rules(t, "second docker.io/* -> second/*")[0]); err != nil {
		t.Fatal(err)
	}
	wantSource(t, s, "docker.io", "redis", "second second/library/redis = docker.io/library/redis")
	wantSource(t, s, "docker.io", "x", "hub hub/library/x = docker.io/library/x")
}

// TestMemoIsBounded: the memo is bounded, and a match that it has lost is computed again.
func TestMemoIsBounded(t *testing.T) {
	s := newSet(t, Options{}, "wild quay.io/* -> team/*")
	for round := range 2 {
		for i := range 3 * memoSize {
			name := fmt.Sprintf("r%d", i)
			if got, want := show(s.Match(t.Context(), "team/"+name)), "wild team/"+name+" = quay.io/"+name; got != want {
				t.Fatalf("round %d: %s, want %s", round, got, want)
			}
		}
	}
	if n := len(s.current.Load().memo.slots); n != memoSize {
		t.Errorf("the memo has %d slots", n)
	}
}

// TestMemoForgets: a change takes effect at once, since no memo outlives its rules.
func TestMemoForgets(t *testing.T) {
	s := newSet(t, Options{}, "wild quay.io/* -> team/*")
	wantMatch(t, s, "team/a", "wild team/a = quay.io/a")
	wantSource(t, s, "quay.io", "a", "wild team/a = quay.io/a")
	if err := s.Replace(rules(t, "wild ghcr.io/* -> team/*")[0]); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, s, "team/a", "wild team/a = ghcr.io/a")
	wantSource(t, s, "quay.io", "a", none)
	if err := s.Delete("wild"); err != nil {
		t.Fatal(err)
	}
	wantMatch(t, s, "team/a", none)
	wantSource(t, s, "ghcr.io", "a", none)
}

// TestMemoDistinguishesNames: local and upstream names that share a slot do not share a
// match.
func TestMemoDistinguishesNames(t *testing.T) {
	m := newMemo()
	want := &Match{}
	first, second := m.slotsOf("quay.io", "team/a")
	for _, slot := range []*atomic.Pointer[memory]{first, second} {
		for _, other := range []*memory{{"", "team/a", want}, {"ghcr.io", "team/a", want}, {"quay.io", "team/b", want}} {
			slot.Store(other)
			if m.get("quay.io", "team/a") != nil {
				t.Errorf("found what belongs to %+v", other)
			}
		}
		slot.Store(&memory{"quay.io", "team/a", want})
		if m.get("quay.io", "team/a") != want {
			t.Error("not found")
		}
		slot.Store(nil)
	}
}

// TestMemoCopiesNames: the memo must not keep the memory of a request alive.
func TestMemoCopiesNames(t *testing.T) {
	m := newMemo()
	path := "/v2/team/a/manifests/v1"
	m.put("", path[4:10], &Match{Repository: "team/library/a"})
	first, _ := m.slotsOf("", "team/a")
	e := first.Load()
	if e == nil || e.name != "team/a" {
		t.Fatal("not remembered")
	}
	if unsafe.StringData(e.name) == unsafe.StringData(path[4:]) {
		t.Error("the memo holds a part of the request")
	}
}

func thousand(t testing.TB) *Set {
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("r%d registry%d.example.com/team/* -> group%d/team%d/*", i, i, i%10, i))
	}
	return newSet(t, Options{}, lines...)
}

func TestWarmMatchDoesNotAllocate(t *testing.T) {
	s := thousand(t)
	ctx := t.Context()
	for name, f := range map[string]func() error{
		"Match":       func() error { _, err := s.Match(ctx, "group7/team777/app/web"); return err },
		"MatchSource": func() error { _, err := s.MatchSource(ctx, "registry777.example.com", "team/app/web"); return err },
		"no match":    func() error { s.Match(ctx, "group7/unknown/app"); return nil },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	s := thousand(b)
	ctx := b.Context()
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Match(ctx, "group7/team777/app/web")
		}
	})
	b.Run("source", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.MatchSource(ctx, "registry777.example.com", "team/app/web")
		}
	})
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		now := s.current.Load()
		for b.Loop() {
			_ = now.find("group7/team777/app/web")
		}
	})
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Match(ctx, "group7/unknown/app/web")
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("docker.io/*", "hub/*", "docker.io/library/alpine", "alpine", "hub/alpine", true)
	f.Add("docker.io/*", "*", "docker.io/*", "library/*", "a", true)
	f.Add("quay.io/team/*", "team/*", "ghcr.io/x", "team/x", "team/x", false)
	f.Add("index.docker.io/busybox", "box", "docker.io/*", "hub/*", "hub/busybox", false)
	f.Add("a.io/x:v1", "y", "library/alpine", "z", "hub//x", false)
	f.Fuzz(func(t *testing.T, source1, target1, source2, target2, name string, nested bool) {
		s, err := Options{Nested: nested}.NewSet(
			Rule{Name: "one", Source: source1, Target: target1, Auth: password{}},
			Rule{Name: "two", Source: source2, Target: target2, Auth: password{}})
		if err != nil {
			return
		}
		m, err := s.Match(t.Context(), name)
		again, err2 := s.Match(t.Context(), name)
		if m != again || !errors.Is(err2, err) {
			t.Fatalf("two answers: %s and %s", show(m, err), show(again, err2))
		}
		if err != nil {
			return
		}
		if !route.ValidName(m.Repository) || !route.ValidName(m.Source.Repository) {
			t.Fatalf("not valid: %s", show(m, nil))
		}
		if canonical, err := s.Match(t.Context(), m.Repository); canonical != m {
			t.Fatalf("%s, but its canonical name gives %s", show(m, nil), show(canonical, err))
		}
		// MatchSource of the source finds a repository that stands for it.
		back, err := s.MatchSource(t.Context(), m.Source.Host, m.Source.Repository)
		if err != nil || back.Source.Host != m.Source.Host || back.Source.Repository != m.Source.Repository {
			t.Fatalf("%s, but its source gives %s", show(m, nil), show(back, err))
		}
		if back.Rule == m.Rule && back != m {
			t.Fatalf("one rule has two names for one source: %s and %s", show(m, nil), show(back, nil))
		}
	})
}
