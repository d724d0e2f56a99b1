package admin_test

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestPrefetchOverHTTP: an image is copied while lines tell how far it is, and then every list
// has it.
func TestPrefetchOverHTTP(t *testing.T) {
	k := newKit(t, open())
	img := k.image("app", "v1", 1<<20)
	k.up.Pace(4 << 20) // half a second
	lines := k.flow("prefetch", target("v1"))
	last := lines[len(lines)-1]
	if len(lines) < 2 || lines[0].Kind != admin.LineProgress || lines[0].Total < 2<<20 {
		t.Errorf("the lines are %+v", lines)
	}
	if last.Kind != admin.LineDone || last.Digest != img.Digest.String() || last.Done != last.Total || last.Done < 2<<20 {
		t.Errorf("the last line is %+v", last)
	}
	k.up.Stop()
	x := ask[admin.Explanation](k, "GET", "explain?repository=local/app&reference=v1", "")
	if !x.Stored || x.Digest != img.Digest.String() || x.Rule != "local" || x.Source != k.up.Host()+"/app" || !strings.Contains(x.Text, "a complete copy is here") {
		t.Errorf("explain: %+v", x)
	}
	if tags := ask[admin.TagList](k, "GET", "tags?repository=local/app", ""); len(tags.Tags) != 1 || tags.Tags[0].Name != "v1" || tags.Tags[0].Digest != img.Digest.String() {
		t.Errorf("tags: %+v", tags)
	}
	if m := ask[admin.ManifestList](k, "GET", "manifests?repository=local/app", ""); len(m.Manifests) != 1 || m.Manifests[0].Digest != img.Digest.String() || m.Manifests[0].Size != img.Size {
		t.Errorf("manifests: %+v", m)
	}
	repos := ask[admin.RepositoryList](k, "GET", "repositories?wait=30s", "")
	if len(repos.Repositories) != 1 || repos.Repositories[0].Name != "local/app" || repos.Repositories[0].Rule != "local" || *repos.Repositories[0].Bytes < 2<<20 || repos.Looking {
		t.Errorf("repositories: %+v", repos)
	}
	if r := ask[admin.RepositoryList](k, "GET", "repositories?order=bytes", ""); len(r.Repositories) != 1 || *r.Repositories[0].Bytes != *repos.Repositories[0].Bytes {
		t.Errorf("repositories by size: %+v", r)
	}
	if s := ask[admin.StoreSize](k, "GET", "store", ""); s.Content < 2<<20 || s.Free <= 0 || s.Repositories != 1 || s.Looked.IsZero() {
		t.Errorf("store: %+v", s)
	}
	if s := ask[admin.Stats](k, "GET", "stats", ""); s.Copied != 1 || s.BytesFetched < 2<<20 || s.Started.IsZero() {
		t.Errorf("stats: %+v", s)
	}
	if c := ask[admin.CopyList](k, "GET", "copies", ""); c.Total != 0 || len(c.Copies) != 0 {
		t.Errorf("copies: %+v", c)
	}
	if log := k.log.String(); !strings.Contains(log, `"admin: prefetch" repository=local/app reference=v1 by=token`) {
		t.Errorf("the log does not say what was done:\n%s", log)
	}
}

// TestRulesOverHTTP: rules are shown with the health of their credentials, and not with secrets.
func TestRulesOverHTTP(t *testing.T) {
	k := newKit(t, open())
	k.up.RequireLogin(map[string]string{"alice": "another"}, nil)
	k.refused(k.request("POST", "/api/v1/prefetch", `{"repository": "secret/app", "reference": "v1"}`), http.StatusForbidden, "DENIED", "source '"+k.up.Host()+"/secret/app' does not accept the credentials of cache rule 'secret'")
	all := ask[admin.RuleList](k, "GET", "rules", "")
	if len(all.Rules) != 2 || all.Next != "" || all.Rules[0].Name != "local" || all.Rules[0].Authentication != nil {
		t.Fatalf("%+v", all)
	}
	r := all.Rules[1]
	if r.Source != k.up.Host()+"/secret/*" || r.Target != "secret/*" || r.Freshness != "1m0s" || r.MaxStale != "0s" || !slices.Equal(r.Platforms, []string{"all"}) {
		t.Errorf("%+v", r)
	}
	if a := r.Authentication; a == nil || a.Kind != "credentials" || a.Name != "team" || a.Health != "Unhealthy" || a.HealthMessage == "" {
		t.Errorf("%+v", a)
	}
	first := ask[admin.RuleList](k, "GET", "rules?limit=1", "")
	second := ask[admin.RuleList](k, "GET", "rules?limit=1&after="+first.Next, "")
	if first.Next != "local" || len(first.Rules) != 1 || len(second.Rules) != 1 || second.Rules[0].Name != "secret" || second.Next != "" {
		t.Errorf("pages: %+v, %+v", first, second)
	}
}

// TestCopiesOverHTTP: a copy that fails is listed with its reason, found by state, repository and
// ID, and can be tried again.
func TestCopiesOverHTTP(t *testing.T) {
	k := newKit(t, open())
	img := k.image("app", "v1", 1000)
	k.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Layers[0].Digest.String(), Status: 404})
	if _, _, err := k.cache.Manifest(t.Context(), "local/app", "v1"); err != nil {
		t.Fatal(err)
	}
	var list admin.CopyList
	k.until("the copy to fail", func() bool {
		list = ask[admin.CopyList](k, "GET", "copies?state=paused,parked", "")
		return list.Total == 1
	})
	c := list.Copies[0]
	if c.Repository != "local/app" || c.Digest != img.Digest.String() || !slices.Equal(c.Tags, []string{"v1"}) || c.Error == "" || c.Rule != "local" || c.Source != k.up.Host()+"/app" || c.Created.IsZero() {
		t.Errorf("%+v", c)
	}
	if got := ask[admin.Copy](k, "GET", "copies/"+c.ID, ""); got.ID != c.ID || got.Digest != c.Digest {
		t.Errorf("%+v", got)
	}
	for query, want := range map[string]int{"repository=local/app": 1, "repository=local/other": 0, "state=queued": 0, "limit=1": 1} {
		if got := ask[admin.CopyList](k, "GET", "copies?"+query, ""); got.Total != want || len(got.Copies) != want {
			t.Errorf("%s: %+v", query, got)
		}
	}
	if x := ask[admin.Explanation](k, "GET", "explain?repository=local/app&reference=v1", ""); x.Copy == nil || x.Copy.ID != c.ID || x.Stored {
		t.Errorf("%+v", x)
	}
	k.up.Heal()
	for _, body := range []string{`{"repository": "local/other"}`, `{"repository": "local/app", "reference": "v2"}`} {
		if got := ask[admin.Retried](k, "POST", "retry", body); got.Copies != 0 {
			t.Errorf("%s: %+v", body, got)
		}
	}
	if got := ask[admin.Retried](k, "POST", "retry", target("v1")); got.Copies != 1 {
		t.Errorf("%+v", got)
	}
	k.until("the copy to end", func() bool { return ask[admin.CopyList](k, "GET", "copies", "").Total == 0 })
	if got := ask[admin.Retried](k, "POST", "retry", `{"all": true}`); got.Copies != 0 {
		t.Errorf("%+v", got)
	}
	k.refused(k.request("GET", "/api/v1/copies/"+c.ID, ""), http.StatusNotFound, admin.CodeNotFound, c.ID)
}

// TestDeleteOverHTTP: a tag, a digest and a repository are deleted, each alone; what is not there
// is an error.
func TestDeleteOverHTTP(t *testing.T) {
	k := newKit(t, open())
	one, two := k.image("app", "v1", 1000), k.image("app", "v2", 2000)
	for _, tag := range []string{"v1", "v2"} {
		k.flow("prefetch", target(tag))
	}
	k.up.Stop()
	stored := func(reference string) bool {
		return ask[admin.Explanation](k, "GET", "explain?repository=local/app&reference="+reference, "").Stored
	}
	remove := func(body string) {
		t.Helper()
		ask[admin.Deleted](k, "POST", "delete", body)
		k.refused(k.request("POST", "/api/v1/delete", body), http.StatusNotFound, admin.CodeNotFound, "local/app")
	}
	remove(target("v1"))
	if stored("v1") || !stored(one.Digest.String()) || !stored("v2") {
		t.Error("after the deletion of a tag: its manifest must stay, and the other tag")
	}
	remove(target(one.Digest.String()))
	if stored(one.Digest.String()) || !stored("v2") {
		t.Error("after the deletion of a digest: the other image must stay")
	}
	remove(`{"repository": "local/app", "all": true}`)
	if stored("v2") || stored(two.Digest.String()) {
		t.Error("after the deletion of the repository something is stored")
	}
	if l := ask[admin.RepositoryList](k, "GET", "repositories", ""); len(l.Repositories) != 0 {
		t.Errorf("%+v", l)
	}
	if log := k.log.String(); strings.Count(log, `"admin: delete"`) != 3 {
		t.Errorf("the log does not have three deletions:\n%s", log)
	}
}

// TestCheckOverHTTP: damage is found, and repaired when that is asked for.
func TestCheckOverHTTP(t *testing.T) {
	k := newKit(t, open())
	img := k.image("app", "v1", 1<<17)
	k.flow("prefetch", target("v1"))
	if lines := k.flow("check", `{"rate": -1}`); lines[len(lines)-1].Kind != admin.LineDone || lines[len(lines)-1].Faults != 0 {
		t.Errorf("%+v", lines)
	}
	hex := img.Layers[0].Digest.Encoded()
	if err := os.Truncate(filepath.Join(k.path, "store", "blobs", "sha256", hex[:2], hex), 10); err != nil {
		t.Fatal(err)
	}
	lines := k.flow("check", `{"rate": -1}`)
	f := lines[1].Fault
	if len(lines) != 3 || f == nil || f.Digest != img.Layers[0].Digest.String() || f.Repaired || f.Problem == "" || lines[2].Faults != 1 {
		t.Errorf("%+v", lines)
	}
	if lines := k.flow("check", `{"rate": -1, "repair": true}`); len(lines) != 3 || !lines[1].Fault.Repaired || lines[2].Faults != 1 {
		t.Errorf("%+v", lines)
	}
	if lines := k.flow("check", `{"rate": -1}`); lines[len(lines)-1].Faults != 0 {
		t.Errorf("%+v", lines)
	}
	if e := ask[admin.Evicted](k, "POST", "evict", ""); e.Images != 0 {
		t.Errorf("%+v", e)
	}
}

// TestReceiversOverHTTP: receivers and their deliveries are shown without their URLs, and events
// can be sent again.
func TestReceiversOverHTTP(t *testing.T) {
	k := newKit(t, open())
	k.image("app", "v1", 1000)
	k.flow("prefetch", target("v1"))
	k.delivered(1)
	var d admin.DeliveryList
	k.until("the delivery", func() bool {
		d = ask[admin.DeliveryList](k, "GET", "deliveries?receiver=scanner", "")
		return len(d.Deliveries) == 1
	})
	first := d.Deliveries[0]
	if first.Receiver != "scanner" || first.Action != "push" || first.Subject != "local/app:v1" || first.Status != 200 || first.Error != "" || first.Attempt != 1 {
		t.Errorf("%+v", first)
	}
	if got := ask[admin.Resent](k, "POST", "resend", `{"receiver": "scanner", "event": "`+first.Event+`"}`); got.Event != first.Event {
		t.Errorf("%+v", got)
	}
	k.delivered(2)
	if got := ask[admin.Delivery](k, "POST", "ping", `{"receiver": "scanner"}`); got.Status != 200 || got.Receiver != "scanner" || got.Action != "ping" {
		t.Errorf("%+v", got)
	}
	if got := ask[admin.Delivery](k, "POST", "ping", `{"receiver": "dead"}`); got.Status != 0 || got.Error == "" {
		t.Errorf("%+v", got)
	}
	var all admin.ReceiverList
	k.until("a failure of the dead receiver", func() bool {
		all = ask[admin.ReceiverList](k, "GET", "receivers", "")
		return len(all.Receivers) == 2 && all.Receivers[1].Failures > 0 && all.Receivers[0].Delivered >= 2
	})
	if s, dead := all.Receivers[0], all.Receivers[1]; s.Name != "scanner" || s.Scope != "local/app:v1" || !slices.Equal(s.Actions, []string{"push"}) || dead.Queued != 2 || dead.Oldest.IsZero() {
		t.Errorf("%+v", all)
	}
	one := ask[admin.ReceiverList](k, "GET", "receivers?limit=1", "")
	two := ask[admin.ReceiverList](k, "GET", "receivers?limit=1&after="+one.Next, "")
	if one.Next != "scanner" || len(two.Receivers) != 1 || two.Receivers[0].Name != "dead" || two.Next != "" {
		t.Errorf("pages: %+v, %+v", one, two)
	}
	if got := ask[admin.DeliveryList](k, "GET", "deliveries?receiver=dead&limit=1", ""); len(got.Deliveries) != 1 || got.Deliveries[0].Error == "" {
		t.Errorf("%+v", got)
	}
}

// TestStatsAreWhole: the answer has every counter of the cache, so that a new one is not forgotten.
func TestStatsAreWhole(t *testing.T) {
	have := map[string]bool{}
	for f := range reflect.TypeFor[admin.Stats]().Fields() {
		have[f.Name] = true
	}
	for f := range reflect.TypeFor[cache.Stats]().Fields() {
		if !have[f.Name] {
			t.Errorf("cache.Stats.%s is not in the answer", f.Name)
		}
	}
}
