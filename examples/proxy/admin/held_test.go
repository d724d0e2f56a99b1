package admin_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
)

// TestHeldOverHTTP: what is not admitted is listed in pages, by repository, and explained with the
// time, and a long reason of a gate is cut.
func TestHeldOverHTTP(t *testing.T) {
	k := newKit(t, open())
	until := time.Now().Add(72 * time.Hour).Truncate(time.Second)
	k.cache.Admit = func(_ context.Context, c cache.Candidate) error {
		switch {
		case c.Tag == "refused":
			return errors.New("it is refused " + strings.Repeat("x", 10<<10))
		case c.Tag == "first" || c.Former != "":
			return &cache.Hold{Until: until, Reason: "too new"}
		}
		return nil
	}
	if l := ask[admin.HeldList](k, "GET", "held", ""); l.Total != 0 || l.Held == nil || len(l.Held) != 0 {
		t.Errorf("%+v", l)
	}
	first := k.image("app", "v1", 1000)
	k.flow("prefetch", target("v1"))
	second := k.image("app", "v1", 2000)
	k.image("app", "refused", 3000)
	k.image("other", "first", 4000)
	for name, want := range map[string]int{"app/manifests/v1": 200, "app/manifests/refused": 403, "other/manifests/first": 403} {
		if got := k.pull("local/" + name); got != want {
			t.Fatalf("%s: status %d, want %d", name, got, want)
		}
	}
	all := ask[admin.HeldList](k, "GET", "held", "")
	if len(all.Held) != 3 || all.Total != 3 || all.Next != "" {
		t.Fatalf("%+v", all)
	}
	if r := all.Held[0]; r.Tag != "refused" || !r.Until.IsZero() || r.Former != "" || !strings.HasPrefix(r.Reason, "it is refused x") || len(r.Reason) > 3<<10 {
		t.Errorf("%+v", r)
	}
	if h := all.Held[1]; h.Repository != "local/app" || h.Tag != "v1" || h.Digest != second.Digest.String() || h.Former != first.Digest.String() || h.Rule != "local" ||
		h.Source != k.up.Host()+"/app" || h.Since.IsZero() || !h.Until.Equal(until) || h.Reason != "too new" {
		t.Errorf("%+v", h)
	}
	var seen []string
	for after, pages := "", 0; pages == 0 || after != "" && pages < 9; pages++ {
		l := ask[admin.HeldList](k, "GET", "held?limit=1&after="+after, "")
		if len(l.Held) != 1 || l.Total != 3 {
			t.Fatalf("after %q: %+v", after, l)
		}
		seen, after = append(seen, l.Held[0].Tag), l.Next
	}
	if got := strings.Join(seen, " "); got != "refused v1 first" {
		t.Errorf("the pages have %s", got)
	}
	if l := ask[admin.HeldList](k, "GET", "held?repository=local/other", ""); l.Total != 1 || len(l.Held) != 1 || l.Held[0].Tag != "first" {
		t.Errorf("%+v", l)
	}
	x := ask[admin.Explanation](k, "GET", "explain?repository=local/app&reference=v1", "")
	if x.Held != second.Digest.String() || !x.HeldUntil.Equal(until) || !strings.Contains(x.HeldError, "too new") || x.Digest != first.Digest.String() {
		t.Errorf("%+v", x)
	}
}

// pull asks the cache for something and returns the status.
func (k *kit) pull(path string) int {
	k.t.Helper()
	req, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, "http://cache.example.com/v2/"+path, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	resp, err := k.cache.Transport().RoundTrip(req)
	if err != nil {
		k.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		k.t.Error(err)
	}
	return resp.StatusCode
}
