package monitoring_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/metrics"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
)

// promtool runs Prometheus' own checks. A machine without it skips the test, but for CI.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("promtool is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRulesByPromtool: the alert rules can be read, and each fires when it should and not
// when all is well.
func TestRulesByPromtool(t *testing.T) {
	promtool(t, "", "check", "rules", "rules.yaml")
	promtool(t, "", "test", "rules", "rules_test.yaml")
}

// TestDashboardByPromtool: each expression of the dashboard is one of PromQL.
func TestDashboardByPromtool(t *testing.T) {
	type recording struct {
		Record string
		Expr   string
	}
	var all []recording
	found := expressions(t)
	for _, where := range slices.Sorted(maps.Keys(found)) {
		all = append(all, recording{"a:" + strings.Map(letter, where), found[where]})
	}
	data, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": all}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}

// letter replaces what is no letter or digit.
func letter(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

// TestMetricsByPromtool: what is scraped is what Prometheus reads, and its names follow its rules.
func TestMetricsByPromtool(t *testing.T) {
	rec, mem := &watch.Recorder{}, &store.Mem{}
	c := &cache.Cache{Store: mem, Observe: rec.Request}
	defer c.Shutdown(context.Background())
	server := httptest.NewServer(c)
	defer server.Close()
	for _, path := range []string{"/v2/", "/v2/a/manifests/v1"} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	w := httptest.NewRecorder()
	metrics.Handler(metrics.Source{Cache: c, Recorder: rec, Size: mem.Size}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	promtool(t, w.Body.String(), "check", "metrics")
}
