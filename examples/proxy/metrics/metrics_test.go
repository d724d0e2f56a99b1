package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/metrics"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// pulledOnce is a scene in which an image was pulled, copied and told of, a pull went wrong, and a
// blob is on its way.
func pulledOnce(t *testing.T) (s *scene, end func()) {
	s = newScene(t)
	img := s.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	big := s.up.AddImage("team/big", "v1", upstreamtest.Layers(1, 1<<20))
	if status := s.pull("local/team/app/manifests/v1"); status != http.StatusOK {
		t.Fatal(status)
	}
	s.until("the copy and its events", func() bool {
		states := s.source.Outbox.States()
		return len(s.source.Cache.Copies()) == 0 && states[0].Queued == 0 && states[0].Delivered == 2
	})
	s.pull("local/team/app/blobs/" + img.Layers[0].Digest.String())
	s.pull("local/team/app/manifests/v1")
	s.pull("elsewhere/manifests/v1")
	s.rec.Call(upstream.Call{Source: upstream.Source{Host: "hub.example.com"}, Op: upstream.OpManifest, Status: 200, RateLimit: &upstream.RateLimit{Limit: 100, Remaining: 7}})
	s.up.Pace(1 << 10)
	ctx, cancel := context.WithCancel(t.Context())
	_, body, err := s.source.Cache.Blob(ctx, "local/team/big", big.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return s, func() { body.Close(); cancel() }
}

// TestEveryFamilyIsServed: each family of the table has figures, with the type and the labels
// that the table says, and Prometheus' own rules for names hold.
func TestEveryFamilyIsServed(t *testing.T) {
	s, end := pulledOnce(t)
	defer end()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.New(s.source))
	gathered, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*dto.MetricFamily{}
	for _, f := range gathered {
		found[f.GetName()] = f
	}
	for _, want := range metrics.Families() {
		got := found[want.Name]
		delete(found, want.Name)
		if got == nil {
			t.Errorf("%s has no figures", want.Name)
			continue
		}
		var labels []string
		for _, l := range got.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		wanted := slices.Sorted(slices.Values(want.Labels))
		if strings.ToLower(got.GetType().String()) != want.Type || got.GetHelp() != want.Help || !slices.Equal(labels, wanted) {
			t.Errorf("%s: a %s with labels %q, want a %s with %q", want.Name, got.GetType(), labels, want.Type, wanted)
		}
	}
	if len(found) > 0 {
		t.Errorf("not in the table: %q", slices.Collect(maps.Keys(found)))
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %+v", err, problems)
	}
}

// TestFigures: what a pull, a hit, a tag check, an unknown name and a download in the middle
// come to.
func TestFigures(t *testing.T) {
	s, end := pulledOnce(t)
	defer end()
	s.rec.Call(down("down.example.com"))
	lines := ours(scrape(t, s.source))
	for _, want := range []string{
		`pullthrough_requests_total{outcome="miss",rule="local"} 1`,
		`pullthrough_requests_total{outcome="hit",rule="local"} 1`,
		`pullthrough_requests_total{outcome="checked",rule="local"} 1`,
		`pullthrough_requests_total{outcome="failed",rule="local"} 0`,
		`pullthrough_requests_total{outcome="absent",rule=""} 1`,
		`pullthrough_first_byte_seconds_bucket{outcome="hit",le="+Inf"} 1`,
		`pullthrough_first_byte_seconds_count{outcome="stale"} 0`,
		`pullthrough_upstream_requests_total{host="` + s.up.Host() + `",op="resolve",status="200"} 1`,
		`pullthrough_upstream_requests_total{host="down.example.com",op="blob",status="none"} 1`,
		`pullthrough_upstream_up{host="` + s.up.Host() + `"} 1`,
		`pullthrough_upstream_up{host="down.example.com"} 0`,
		`pullthrough_upstream_limited{host="down.example.com"} 0`,
		`pullthrough_upstream_budget_remaining{host="hub.example.com"} 7`,
		`pullthrough_upstream_budget_limit{host="hub.example.com"} 100`,
		`pullthrough_downloads 1`,
		`pullthrough_download_readers 1`,
		`pullthrough_tag_checks_total 1`,
		`pullthrough_copied_total 1`,
		`pullthrough_copy_jobs{state="running"} 0`,
		`pullthrough_prefetch_images 3`,
		`pullthrough_prefetched_total 2`,
		`pullthrough_prefetch_failures_total 1`,
		`pullthrough_deliveries_total{receiver="deploy",result="delivered"} 2`,
		`pullthrough_deliveries_total{receiver="deploy",result="dropped"} 0`,
		`pullthrough_delivery_queue{receiver="deploy"} 0`,
		`pullthrough_store_up 1`,
		`pullthrough_credential_set_healthy{set="registry-set"} 1`,
		`pullthrough_fleet_members 3`,
		`pullthrough_fleet_dead_members 1`,
		`pullthrough_fleet_filled_total 1`,
		`pullthrough_fleet_followed_total 2`,
		`pullthrough_fleet_received_bytes_total 3`,
		`pullthrough_fleet_served_total 4`,
		`pullthrough_fleet_refused_total 5`,
		`pullthrough_fleet_strangers_total 6`,
		`pullthrough_fleet_questions_total 7`,
		`pullthrough_fleet_failures_total 8`,
		`pullthrough_fleet_overtaken_total 9`,
		`pullthrough_fleet_given_total 10`,
		`pullthrough_fleet_taken_total 11`,
		`pullthrough_slots{kind="downloads"} 128`,
		`pullthrough_slots_held{kind="downloads"} 1`,
		`pullthrough_slots_held_by_rule{kind="downloads",rule="local"} 1`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not in\n%s", want, strings.Join(lines, "\n"))
		}
	}
	if text := strings.Join(lines, "\n"); strings.Contains(text, password) || strings.Contains(text, s.hook.URL()) {
		t.Error("a secret is in a metric")
	}
}

// TestTroubleShows: a store that does not tell its size, a host that limits, and a credential set
// that is refused.
func TestTroubleShows(t *testing.T) {
	s := newScene(t)
	s.source.Size = func(context.Context) (store.Size, error) { return store.Size{}, errors.New("the disk is gone") }
	s.up.AddImage("team/app", "v1", nil)
	s.up.RequireLogin(map[string]string{"alice": "another-password"}, nil)
	if status := s.pull("local/team/app/manifests/v1"); status != http.StatusForbidden {
		t.Errorf("status %d, want 403", status)
	}
	s.rec.Call(upstream.Call{Source: upstream.Source{Host: "busy.example.com"}, Op: upstream.OpManifest, Status: 429, Err: &upstream.Error{Class: upstream.Limited, Status: 429}})
	odd := down("odd.example.com")
	odd.Err = errors.New("nobody knows")
	s.rec.Call(odd)
	text := scrape(t, s.source)
	if strings.Contains(text, `pullthrough_upstream_up{host="odd.example.com"}`) {
		t.Error("a host is up or down of which nobody knows")
	}
	for _, want := range []string{
		"pullthrough_store_up 0\n", `pullthrough_upstream_limited{host="busy.example.com"} 1` + "\n", `pullthrough_upstream_up{host="busy.example.com"} 1` + "\n",
		`pullthrough_credential_set_healthy{set="registry-set"} 0` + "\n", `pullthrough_requests_total{outcome="refused",rule="local"} 1` + "\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "pullthrough_store_content_bytes") {
		t.Error("the size of a store that does not tell it is there")
	}
	s.source.Size, s.source.Outbox, s.source.Credentials, s.source.Fleet = nil, nil, nil, nil
	if text := scrape(t, s.source); strings.Contains(text, "pullthrough_store_up") || strings.Contains(text, "pullthrough_fleet") || strings.Contains(text, "receiver=") || strings.Contains(text, "set=") {
		t.Errorf("there are figures of what is not there:\n%s", text)
	}
}

// TestNamesAreBounded: very many receivers and credential sets, and ones with odd names, cost
// no more series than so many, and no figure is lost.
func TestNamesAreBounded(t *testing.T) {
	s := newScene(t)
	var sets []*auth.CredentialSet
	for i := range 3000 {
		set := &auth.CredentialSet{Name: fmt.Sprintf("%04d%s\xff\"\n", i, strings.Repeat("x", 500)), LoginServer: "h", Username: auth.Env("NO_SUCH_VARIABLE"), Password: auth.Env("NO_SUCH_VARIABLE")}
		_, _ = set.Credential(t.Context(), auth.Request{Host: "h"})
		sets = append(sets, set)
	}
	s.source.Credentials = func() []*auth.CredentialSet { return sets }
	n := 0
	for _, line := range ours(scrape(t, s.source)) {
		if strings.HasPrefix(line, "pullthrough_credential_set_healthy") {
			n++
			if len(line) > 300 {
				t.Fatalf("a line of %d bytes: %.300s", len(line), line)
			}
		}
	}
	if n != 1025 {
		t.Errorf("%d series of credential sets, want 1025", n)
	}
}

// TestHostileClientsMakeNoSeries: nothing that a client or an upstream makes up becomes a label.
func TestHostileClientsMakeNoSeries(t *testing.T) {
	s := newScene(t)
	s.pull("local/team/app/manifests/v1")
	before := len(ours(scrape(t, s.source)))
	for i := range 2000 {
		evil := fmt.Sprintf("evil-%d", i)
		for _, path := range []string{evil + "/app/manifests/v1", "local/" + evil + "/manifests/" + evil, evil} {
			req, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(evil), "http://"+evil+".example.com/v2/"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("User-Agent", evil)
			resp, err := s.source.Cache.Transport().RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		s.rec.Call(upstream.Call{Source: upstream.Source{Host: s.up.Host(), Repository: evil, Rule: "local"}, Reference: evil, Op: upstream.Op(evil), Status: i, Err: errors.New(evil)})
	}
	text := scrape(t, s.source)
	if strings.Contains(text, "evil") || strings.Contains(text, "EVIL") {
		t.Error("a client's word is in a metric")
	}
	if after := len(ours(text)); after > before+40 {
		t.Errorf("%d series before, %d after", before, after)
	}
}

// crowd is a source of figures as large as they get.
func crowd(tb testing.TB, rules, copies int) metrics.Source {
	rec := &watch.Recorder{}
	for i := range rules {
		for _, r := range []cache.Result{cache.ResultHit, cache.ResultMiss, cache.ResultChecked} {
			rec.Request(nil, cache.Outcome{Access: cache.Access{Kind: cache.AccessPing}, Rule: fmt.Sprintf("rule-%04d", i), Status: 200, Result: r})
		}
		for _, op := range []upstream.Op{upstream.OpBlob, upstream.OpManifest, upstream.OpResolve} {
			for _, status := range []int{200, 401, 404, 429, 503} {
				rec.Call(upstream.Call{Source: upstream.Source{Host: fmt.Sprintf("registry-%04d.example.com", i)}, Op: op, Status: status})
			}
		}
	}
	up := upstreamtest.NewHandler()
	c := &cache.Cache{Rules: all{}, Upstream: &upstream.Client{Transport: inMemory{up}}, Copier: taker{}}
	tb.Cleanup(func() { _ = c.Shutdown(context.Background()) })
	layers := upstreamtest.Layers(5, 100)
	for i := range copies {
		layers[0] = upstreamtest.Bytes(uint64(i), 100)
		name := fmt.Sprintf("team/app-%04d", i%5000)
		up.AddImage(name, fmt.Sprint("v", i), layers)
		if _, _, err := c.Manifest(tb.Context(), name, fmt.Sprint("v", i)); err != nil {
			tb.Fatal(err)
		}
	}
	mem := &store.Mem{}
	return metrics.Source{Cache: c, Recorder: rec, Size: mem.Size}
}

// TestOutputIsBounded: with as many rules and hosts as there may be, and many copy jobs.
func TestOutputIsBounded(t *testing.T) {
	s := crowd(t, 3000, 200)
	text := scrape(t, s)
	lines := ours(text)
	perRule, perHost := len(watch.Outcomes())+1, 15+5
	if most := (watch.DefaultRules+2)*perRule + (watch.DefaultHosts+1)*perHost + 400; len(lines) > most {
		t.Errorf("%d series, want at most %d", len(lines), most)
	}
	if len(text) > 6<<20 {
		t.Errorf("%d bytes", len(text))
	}
	if !strings.Contains(text, `rule="(other)"`) || !strings.Contains(text, `host="(other)"`) || !strings.Contains(text, `pullthrough_copy_jobs{state="submitted"} 200`) {
		t.Error("what is not told apart is missing")
	}
}

// BenchmarkScrape is a scrape with 1,000 rules, 1,000 hosts and 10,000 copy jobs in 5,000 repositories.
func BenchmarkScrape(b *testing.B) {
	s := crowd(b, 1000, 10000)
	if n := s.Cache.Stats().Jobs; n != 10000 {
		b.Fatal(n)
	}
	h := metrics.Handler(s)
	size, scrapes, before := 0, 0, cpu(b)
	for b.Loop() {
		size = serve(b, h)
		scrapes++
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(scrapes)/1e6, "cpu-ms/op") // what a busy machine does not change
	b.ReportMetric(float64(size), "bytes")
}

// TestHeldTags: a tag that is not admitted counts once, however often it is pulled.
func TestHeldTags(t *testing.T) {
	s := newScene(t)
	s.up.AddImage("team/app", "new", upstreamtest.Layers(1, 1000))
	for _, want := range []string{"0", "1", "1"} {
		if lines := ours(scrape(t, s.source)); !slices.Contains(lines, "pullthrough_held_tags "+want) {
			t.Errorf("pullthrough_held_tags is not %s in\n%s", want, strings.Join(lines, "\n"))
		}
		if status := s.pull("local/team/app/manifests/new"); status != http.StatusForbidden {
			t.Errorf("status %d", status)
		}
	}
}
