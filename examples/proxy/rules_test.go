package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestNested: docker's registry-mirrors requests images of Docker Hub at the root. The rule for
// that stands beside others, whose longer prefix wins, also after a reload.
func TestNested(t *testing.T) {
	hub, quay := upstreamtest.NewRegistry(t), upstreamtest.NewRegistry(t)
	images := map[string]upstreamtest.Image{
		"library/alpine": hub.AddImage("library/alpine", "v1", upstreamtest.Layers(1, 1000)),
		"quay/lost":      hub.AddImage("quay/lost", "v1", upstreamtest.Layers(1, 2000)),
		"quay/team/app":  quay.AddImage("team/app", "v1", upstreamtest.Layers(1, 3000)),
		"quay/deep/app":  hub.AddImage("app", "v1", upstreamtest.Layers(1, 4000)),
	}
	want := func(p *process, name string, want int) {
		t.Helper()
		status, body := fetch(t, client(), p.url+"/v2/"+name+"/manifests/v1")
		if status != want || want == 200 && !bytes.Equal(body, images[name].Manifest) {
			t.Errorf("%s: status %d, want %d: %.300s", name, status, want, body)
		}
	}
	config := fmt.Sprintf("listen: 127.0.0.1:0\nnested: true\nupstreams: [{host: %q, plainHTTP: true}, {host: %q, plainHTTP: true}]\nrules:\n", hub.Host(), quay.Host()) +
		fmt.Sprintf("  - {name: hub, source: %s/*, target: '*'}\n  - {name: quay, source: %s/*, target: quay/*}\n", hub.Host(), quay.Host())
	p := startProxy(t, config)
	want(p, "library/alpine", 200)
	want(p, "quay/team/app", 200)
	want(p, "quay/lost", 404)
	want(p, "quay/deep/app", 404)

	deeper := config + fmt.Sprintf("  - {name: deeper, source: %s/*, target: quay/deep/*}\n", hub.Host())
	p.reload(t, deeper, reloaded+"3 rules, ")
	want(p, "quay/deep/app", 200)
	want(p, "quay/team/app", 200)
	p.reload(t, strings.Replace(deeper, "nested: true\n", "", 1), "rules[1].target: There is already a cache rule 'hub' with target repository '*'")
	p.reload(t, "listen: 127.0.0.1:0\n", `a change needs a restart; what was read before stays in force" keys="nested, upstreams"`)
	want(p, "library/alpine", 200)
}

// TestFaultyRulesAreCompared: a fault of one rule hides no fault between rules, and causes no
// false one.
func TestFaultyRulesAreCompared(t *testing.T) {
	for _, test := range []struct {
		name, rules string
		want        []string // line and key
	}{
		{"platforms and the same target", `
  - {name: first, source: quay.io/*, target: q/*, platforms: amd64}
  - {name: second, source: docker.io/*, target: q/*}
`, []string{"2: rules[0].platforms", "3: rules[1].target"}},
		{"two faulty sources overlap once", `
  - {name: first, source: quay, target: q/*}
  - {name: second, source: "docker.io:x/*", target: q/x/*}
`, []string{"2: rules[0].source", "3: rules[1].source", "3: rules[1].target"}},
		{"unknown credentials and a name that is taken", `
  - {name: first, source: quay.io/*, target: q/*}
  - {name: first, source: docker.io/*, target: d/*, credentials: hub}
  - {name: third, source: docker.io/*, target: d/*}
`, []string{"3: rules[1].credentials", "3: rules[1].name", "4: rules[2].target"}},
		{"no name", `
  - {source: quay.io/X, target: x}
  - {source: docker.io/x, target: x}
`, []string{"2: rules[0]", "2: rules[0].source", "3: rules[1]", "3: rules[1].target"}},
		{"no target", `
  - {name: first, source: quay.io/*}
  - {name: first, source: docker.io/*, target: '*'}
`, []string{"2: rules[0]", "3: rules[1].name"}},
		{"no source", `
  - {name: under_score, target: x}
  - {name: second, source: [], target: x}
`, []string{"2: rules[0]", "2: rules[0].name", "3: rules[1].source", "3: rules[1].target"}},
		{"one overlap after the other", `
  - {name: first, source: quay.io/*, target: q/*}
  - {name: second, source: quay.io/*, target: q/*}
  - {name: third, source: quay.io/*, target: q/*}
`, []string{"3: rules[1].target", "4: rules[2].target"}},
		{"no rules", `
  - one
  - {}
`, []string{"2: rules[0]", "2: rules[0]", "2: rules[0]", "2: rules[0]", "3: rules[1]", "3: rules[1]", "3: rules[1]"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			said := mistakesOf(t, "rules:"+test.rules)
			var got []string
			for line := range strings.Lines(said) {
				got = append(got, strings.Join(strings.SplitN(line, ":", 4)[1:3], ":"))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got the lines %q, want %q:\n%s", got, test.want, said)
			}
		})
	}
}

// TestTooManyRules: the limit gives one mistake, at the first rule too many, and hides no
// others.
func TestTooManyRules(t *testing.T) {
	t.Chdir(t.TempDir())
	var file strings.Builder
	file.WriteString("rules:\n")
	for i := range rule.DefaultMaxRules + 3 {
		fmt.Fprintf(&file, "  - {name: r%d, source: quay.io/x, target: x%d}\n", i, min(i, rule.DefaultMaxRules+1))
	}
	said := mistakesOf(t, file.String())
	for _, want := range []string{
		":1002: rules[1000]: is one rule too many: 1000 are allowed\n",
		":1004: rules[1002].target: There is already a cache rule 'r1001'",
	} {
		if !strings.Contains(said, want) || strings.Count(said, "\n") != 1 {
			t.Errorf("said:\n%s\nwant %q, and two lines", said, want)
		}
	}
}
