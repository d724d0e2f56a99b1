package monitoring_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/examples/proxy/metrics"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
)

// alert is an alert rule, as far as the tests look at it.
type alert struct {
	Alert, Expr, For string
	Labels           map[string]string
	Annotations      map[string]string
}

// alerts reads rules.yaml.
func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal(read(t, "rules.yaml"), &file); err != nil || len(file.Groups) != 1 {
		t.Fatalf("%v, %d groups", err, len(file.Groups))
	}
	return file.Groups[0].Rules
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// panel is a panel of the dashboard.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ Expr string }
}

// panels reads dashboard.json.
func panels(t *testing.T) []panel {
	t.Helper()
	var file struct{ Panels []panel }
	if err := json.Unmarshal(read(t, "dashboard.json"), &file); err != nil || len(file.Panels) == 0 {
		t.Fatalf("%v, %d panels", err, len(file.Panels))
	}
	return file.Panels
}

// variables are what Grafana puts into an expression.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$rule", ".*")

// expressions returns every expression of both files, by where it stands.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, a := range alerts(t) {
		all["alert "+a.Alert] = a.Expr
	}
	for _, p := range panels(t) {
		for i, target := range p.Targets {
			all[fmt.Sprintf("panel %q, %d", p.Title, i)] = variables.Replace(target.Expr)
		}
	}
	return all
}

// known returns the labels of every metric that there is.
func known(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{"up": {"job"}}
	for _, f := range metrics.Families() {
		all[f.Name] = f.Labels
		if f.Type == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				all[f.Name+suffix] = append([]string{"le"}, f.Labels...)
			}
		}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		all[f.GetName()] = nil
	}
	return all
}

var (
	metric   = regexp.MustCompile(`\b(?:pullthrough|go|process)_[a-z_]+\b|\bup\b`)
	selector = regexp.MustCompile(`\b([a-z_]+)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z_]+)(?:=~|!=|!~|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on)\s*\(([^)]*)\)`)
)

// TestExpressionsNameWhatThereIs: each metric in the rules and the dashboard exists and has the
// labels that are asked for, and each outcome and state is one.
func TestExpressionsNameWhatThereIs(t *testing.T) {
	all := known(t)
	used := map[string]bool{}
	values := map[string][]string{"state": {"queued", "running", "submitted", "waiting", "watching", "paused", "parked"}, "result": {"delivered", "gave-up", "dropped"},
		"kind": {"downloads", "requests", "lists", "jobs"}}
	for _, o := range watch.Outcomes() {
		values["outcome"] = append(values["outcome"], string(o))
	}
	for where, expr := range expressions(t) {
		labels := []string{"instance"}
		for _, name := range metric.FindAllString(expr, -1) {
			if _, ok := all[name]; !ok {
				t.Errorf("%s: there is no metric %s", where, name)
			}
			labels = append(labels, all[name]...)
			used[strings.TrimSuffix(name, "_bucket")] = true
		}
		for _, s := range selector.FindAllStringSubmatch(expr, -1) {
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				if label := m[1]; label != "instance" && !slices.Contains(all[s[1]], label) {
					t.Errorf("%s: %s has no label %s", where, s[1], label)
				}
				for value := range strings.SplitSeq(m[2], "|") {
					if list := values[m[1]]; list != nil && !slices.Contains(list, value) {
						t.Errorf("%s: %s is never %q", where, m[1], value)
					}
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
			for label := range strings.SplitSeq(g[1], ",") {
				if label = strings.TrimSpace(label); !slices.Contains(labels, label) {
					t.Errorf("%s: groups by %s, which none of its metrics has", where, label)
				}
			}
		}
	}
	for _, f := range metrics.Families() {
		if !used[f.Name] {
			t.Errorf("%s is neither in the dashboard nor in a rule", f.Name)
		}
	}
}

// TestEverythingIsDocumented: README.md has each metric with its labels and each alert, and nothing
// that there is not.
func TestEverythingIsDocumented(t *testing.T) {
	text := string(read(t, "README.md"))
	row := regexp.MustCompile("(?m)^\\| `(pullthrough_[a-z_]+)` \\|([^|]*)\\| ([^|]+) \\|$")
	documented := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		documented[m[1]] = strings.TrimSpace(m[2])
	}
	for _, f := range metrics.Families() {
		labels := ""
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		if got, ok := documented[f.Name]; !ok || got != labels {
			t.Errorf("README.md has %s: %t, with labels %q, want %q", f.Name, ok, got, labels)
		}
		delete(documented, f.Name)
	}
	if len(documented) > 0 {
		t.Errorf("README.md has metrics that there are not: %q", slices.Sorted(maps.Keys(documented)))
	}
	for _, o := range watch.Outcomes() {
		if !strings.Contains(text, "`"+string(o)+"`") {
			t.Errorf("README.md does not say what the outcome %s is", o)
		}
	}
	sections := map[string]bool{}
	_, rest, _ := strings.Cut(text, "\n## Alerts\n")
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)\n\S`).FindAllStringSubmatch(rest, -1) {
		sections[m[1]] = true
	}
	for _, a := range alerts(t) {
		if !sections[a.Alert] {
			t.Errorf("README.md does not say what to do about %s", a.Alert)
		}
		delete(sections, a.Alert)
	}
	if len(sections) > 0 {
		t.Errorf("README.md has alerts that there are not: %q", slices.Sorted(maps.Keys(sections)))
	}
}

// TestAlertsAreComplete: each alert says how urgent it is and what it is about, and has a unit test
// in which it fires.
func TestAlertsAreComplete(t *testing.T) {
	var file struct {
		Tests []struct {
			Name      string
			AlertTest []struct {
				Alertname string
				Alerts    []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(read(t, "rules_test.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, one := range file.Tests {
		for _, a := range one.AlertTest {
			fires[a.Alertname] = fires[a.Alertname] || len(a.Alerts) > 0
			quiet[a.Alertname] = quiet[a.Alertname] || len(a.Alerts) == 0 && one.Name == "all is well"
		}
	}
	for _, a := range alerts(t) {
		if s := a.Labels["severity"]; s != "page" && s != "ticket" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: %+v", a.Alert, a)
		}
		if !fires[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s has no unit test in which it fires (%t), or none in which all is well (%t)", a.Alert, fires[a.Alert], quiet[a.Alert])
		}
	}
}

// TestDashboardIsTidy: panels have numbers of their own and do not overlap.
func TestDashboardIsTidy(t *testing.T) {
	ids, cells := map[int]string{}, map[[2]int]string{}
	for _, p := range panels(t) {
		if ids[p.ID] != "" {
			t.Errorf("%q and %q have the number %d", p.Title, ids[p.ID], p.ID)
		}
		ids[p.ID] = p.Title
		if g := p.GridPos; g.X < 0 || g.X+g.W > 24 || g.W == 0 || g.H == 0 || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q: %+v, %d targets", p.Title, g, len(p.Targets))
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if cells[at] != "" {
					t.Fatalf("%q lies on %q", p.Title, cells[at])
				}
				cells[at] = p.Title
			}
		}
	}
}
