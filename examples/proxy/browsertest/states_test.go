package browsertest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/examples/proxy/page"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// TestStates opens the page in each state, in both themes, wide and narrow.
func TestStates(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	for _, one := range states(t) {
		server := httptest.NewServer(&one.page)
		for _, width := range []int64{400, 1600} {
			for _, theme := range []string{"light", "dark"} {
				b.look(width, theme)
				b.open(server.URL + one.address)
				name := fmt.Sprintf("%s-%d-%s", one.name, width, theme)
				if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > width {
					t.Errorf("%s: the page is %d wide and scrolls; the widest is %s", name, wide, eval[string](b, widest))
				}
				for _, fault := range eval[[]string](b, faults) {
					t.Errorf("%s: %s", name, fault)
				}
				b.shoot(name)
			}
		}
		b.quiet()
		b.open("about:blank")
		server.Close()
		b.quiet("about:blank")
	}
}

// widest names the element that reaches furthest to the right.
const widest = `(() => { let best = document.body; for (const e of document.querySelectorAll("body *")) {
	if (e.getBoundingClientRect().right > best.getBoundingClientRect().right) best = e; } return best.outerHTML.slice(0, 200); })()`

// faults looks for what hinders people who do not see the page, or use it without a mouse.
const faults = `(() => {
	const found = [], all = (q) => [...document.querySelectorAll(q)], named = (e) => e.getAttribute("aria-label") || e.labels?.length || e.innerText?.trim() || e.title;
	const ids = all("[id]").map((e) => e.id);
	for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push("the id " + id + " is twice there");
	for (const e of all("[aria-labelledby], [for]")) for (const id of (e.getAttribute("aria-labelledby") || e.htmlFor).split(" "))
		if (!document.getElementById(id)) found.push("nothing has the id " + id);
	for (const e of all("input:not([type=hidden]), button, a, select, progress, summary")) if (e.checkVisibility() && !named(e)) found.push("no name: " + e.outerHTML.slice(0, 150));
	for (const e of all("table")) if (!(e.caption || e.getAttribute("aria-labelledby") || e.getAttribute("aria-label"))) found.push("a table without a name");
	for (const e of all("th")) if (!e.scope) found.push("a header without a scope: " + e.innerText);
	for (const e of all("tr")) if (e.children.length !== e.closest("table").querySelector("tr").children.length) found.push("a row with other columns: " + e.innerText);
	for (const e of all("svg[role=img]")) if (!e.querySelector("title")?.textContent || !e.querySelector("desc")?.textContent) found.push("a picture without words");
	let level = 0;
	for (const e of all("h1, h2, h3, h4").filter((e) => e.checkVisibility())) { const n = +e.localName[1]; if (n > level + 1) found.push("a heading skips a level: " + e.innerText); level = n; }
	for (const q of ["header", "nav", "main", "footer", "h1", "html[lang]", "title"]) if (!document.querySelector(q)) found.push("no " + q);
	if (all("main, h1").length !== 2) found.push("one main and one h1 are wanted");
	const channels = (c) => c.match(/[\d.]+/g).map(Number), light = (c) => channels(c).slice(0, 3).map((v) => v / 255)
		.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	let texts = 0;
	for (const e of all("body *")) {
		if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility() || !e.getClientRects().length || e.closest(".quiet, thead, svg") && getComputedStyle(e).clipPath !== "none") continue;
		let back = e;
		while (back.parentElement && (channels(getComputedStyle(back).backgroundColor)[3] ?? 1) < 1) back = back.parentElement;
		const [a, b] = [light(getComputedStyle(e).color), light(getComputedStyle(back).backgroundColor)].sort((x, y) => y - x);
		texts++;
		if ((a + 0.05) / (b + 0.05) < 4.5) found.push("little contrast: " + e.outerHTML.slice(0, 150));
	}
	if (texts < 60) found.push("only " + texts + " texts");
	return found;
})()`

// scene is a page in a state.
type scene struct {
	name    string
	address string
	page    page.Page
}

// fakeCache is a cache with copies of a test.
type fakeCache struct {
	copies []cache.CopyState
	stats  cache.Stats
}

func (f *fakeCache) CopiesPage(filter cache.CopyFilter) cache.CopyPage {
	p := cache.CopyPage{Counts: map[cache.CopyStatus]cache.CopyCount{}}
	wanted := map[cache.CopyStatus]bool{}
	for _, s := range filter.States {
		wanted[s] = true
	}
	for _, c := range f.copies {
		if filter.States == nil || wanted[c.State] {
			n := p.Counts[c.State]
			n.Jobs++
			p.Counts[c.State] = n
			if len(p.Copies) < filter.Limit {
				p.Copies = append(p.Copies, c)
			}
		}
	}
	return p
}

func (f *fakeCache) Explain(_ context.Context, repository, reference string) (cache.Explanation, error) {
	source := upstream.Source{Host: "docker.io", Repository: "library/alpine"}
	return cache.Explanation{
		Repository: repository, Rule: "docker-hub", Source: source, Stored: true, Digest: digest.FromString(reference), Fresh: true,
		Text: "rule docker-hub maps " + repository + " to " + source.String() + "; a complete copy is here and is served",
	}, nil
}

func (f *fakeCache) Stats() cache.Stats { return f.stats }

// fakeRecord is a recorder with a history of a test.
type fakeRecord struct {
	watch.Recorder
	points []watch.Point
}

func (f *fakeRecord) History(bool) []watch.Point { return f.points }

// fakeOutbox is an outbox with receivers of a test.
type fakeOutbox struct {
	failing bool
	name    string // of another receiver; empty if there is none
}

func (f *fakeOutbox) States() []webhook.ReceiverState {
	now := time.Now()
	list := []webhook.ReceiverState{{Name: "deploy", Delivered: 412}, {Name: "hook-5f2a11c0de77", Delivered: 1204, Queued: 1, Oldest: now.Add(-2 * time.Second)}}
	if f.name != "" {
		list = append(list, webhook.ReceiverState{Name: f.name})
	}
	if f.failing {
		list[0].Failures, list[0].Queued, list[0].Oldest, list[0].Paused = 7, 38, now.Add(-40*time.Minute), now.Add(90*time.Second)
	}
	return list
}

func (f *fakeOutbox) Deliveries(receiver string) (list []webhook.Delivery, err error) {
	for i := range 4 {
		d := webhook.Delivery{
			Receiver: receiver, Attempt: 1, Time: time.Now().Add(time.Duration(-i*47-len(receiver)) * time.Second), Duration: 38 * time.Millisecond, Response: &webhook.Response{StatusCode: 200},
			Event: webhook.Event{ID: fmt.Sprintf("7f0c2b1e-58a4-4d1b-9c55-0%d3f6f3a%d9c", i, len(receiver)), Action: webhook.ActionPush, Target: webhook.Target{Repository: "hub/library/alpine", Tag: fmt.Sprintf("3.2%d", i)}},
		}
		if f.failing && receiver == "deploy" {
			d.Attempt, d.Response, d.Err, d.Next = 7-i, &webhook.Response{StatusCode: 503}, errors.New("deploy.example.com answered with status 503"), time.Now().Add(90*time.Second)
			d.Error = d.Err.Error()
		}
		list = append(list, d)
	}
	return list, nil
}

func (f *fakeOutbox) Resend(context.Context, string, string) error { return nil }

// newScene returns a page with rules.
func newScene(t *testing.T, name string) (*scene, *fakeCache, *fakeRecord) {
	t.Helper()
	set := &auth.CredentialSet{Name: "hub", LoginServer: "docker.io", Username: auth.Value{Text: auth.NewSensitive("reader")}, Password: auth.Value{Text: auth.NewSensitive("a secret of the test")}}
	rules, err := rule.NewSet(
		rule.Rule{Name: "docker-hub", Source: "docker.io/*", Target: "hub/*", Auth: set},
		rule.Rule{Name: "github", Source: "ghcr.io/*", Target: "gh/*"},
		rule.Rule{Name: "kubernetes", Source: "registry.k8s.io/*", Target: "k8s/*"},
		rule.Rule{Name: "promote-api", Source: "registry.example.com/team-a/api", Target: "promoted/team-a/api"},
	)
	if err != nil {
		t.Fatal(err)
	}
	c, r := &fakeCache{}, &fakeRecord{}
	s := &scene{name: name, address: "/", page: page.Page{Cache: c, Record: r, Rules: rules, Outbox: &webhook.Outbox{}, Address: "cache.example.com", Try: "hub/library/alpine", Acting: true}}
	s.size(store.Size{Content: 0, Overhead: 96 << 10, Free: 380 << 30})
	return s, c, r
}

func (s *scene) size(size store.Size) {
	s.page.Size = func(context.Context) (store.Size, error) { return size, nil }
}

// busy makes a scene look as if many people pulled.
func busy(s *scene, c *fakeCache, r *fakeRecord) {
	s.page.Outbox = &fakeOutbox{}
	now := time.Now()
	c.stats = cache.Stats{Copied: 1873, BytesFetched: 212 << 30}
	for i := range 360 {
		p := watch.Point{Time: now.Add(time.Duration(i-360) * 10 * time.Second), Used: (180 + int64(i)/9) << 30, Free: (220 - int64(i)/9) << 30}
		wave := int64(i*i%97 + i%13)
		p.Requests, p.Stored, p.Missed = 40+wave, 34+wave, 6-int64(i%5)
		if i > 140 && i < 165 {
			p.Missed, p.Stored = 40+wave/2, wave/2
		}
		p.Served, p.Fetched = (p.Stored+p.Missed)*(9<<20), p.Missed*(9<<20)
		r.points = append(r.points, p)
	}
	s.size(store.Size{Content: 219 << 30, Overhead: 1 << 30, Free: 180 << 30})
	for i, one := range []struct {
		repository, tag string
		state           cache.CopyStatus
		done, total     int64
	}{
		{"hub/library/postgres", "17.2", cache.CopyRunning, 118 << 20, 154 << 20}, {"gh/acme/model-runner", "2.8.0-cuda12", cache.CopyRunning, 1900 << 20, 6200 << 20},
		{"k8s/kube-proxy", "v1.34.1", cache.CopyRunning, 3 << 20, 38 << 20}, {"hub/library/node", "22-bookworm", cache.CopyPaused, 200 << 20, 390 << 20},
		{"gh/acme/worker", "main", cache.CopyQueued, 0, 88 << 20}, {"hub/library/golang", "1.26", cache.CopyWaiting, 0, 0},
	} {
		state := cache.CopyState{
			ID: fmt.Sprint("job-", i), Repository: one.repository, Tags: []string{one.tag}, Digest: digest.FromString(one.repository), State: one.state, Done: one.done, Total: one.total,
			Source: upstream.Source{Host: "docker.io", Repository: "library/" + one.tag}, Created: now.Add(time.Duration(i-80) * time.Second),
		}
		if one.state == cache.CopyPaused {
			state.Attempts, state.Next, state.Err = 2, now.Add(20*time.Second), errors.New("docker.io: GET blob sha256:9f3c…: the connection ended after 209715200 of 408944640 bytes")
		}
		c.copies = append(c.copies, state)
	}
	s.page.Held = func() []cache.HeldTag {
		return held("hub/library/redis", "8.2", "it was first seen here at 2026-11-27T08:00:00Z, and rule 'docker-hub' wants images that were seen for 72h0m0s")
	}
	s.page.Fleet = fakeFleet{"10.244.1.7:5443", "10.244.2.9:5443", "10.244.3.4:5443"}
	s.calls(r, nil, "docker.io", "ghcr.io", "registry.k8s.io")
	s.pulls(r)
}

// fakeFleet has the addresses of replicas, of which the first is this one and the last does not answer.
type fakeFleet []string

func (f fakeFleet) Members(context.Context) (list []fleet.Member) {
	for i, address := range f {
		list = append(list, fleet.Member{Address: address, Self: i == 0, Dead: i > 0 && i == len(f)-1})
	}
	return list
}

func (f fakeFleet) Blobs() []fleet.Blob {
	source := upstream.Source{Rule: "docker-hub", Host: "docker.io", Repository: "library/postgres"}
	return []fleet.Blob{{Source: source, Digest: digest.FromString("a"), Upstream: 2, Served: 1}, {Source: source, Digest: digest.FromString("b"), From: f[len(f)-1]}}
}

func (f fakeFleet) Stats() fleet.Stats {
	return fleet.Stats{Filled: 812, Followed: 1641, BytesReceived: 96 << 30, Served: 1590, Questions: 2301, Failures: 3, Strangers: 1}
}

// held are a tag with a former image and one without, with a name and a reason.
func held(repository, tag, reason string) (list []cache.HeldTag) {
	for i, former := range []digest.Digest{digest.FromString("former"), ""} {
		until := time.Now().Add(time.Duration(41+i) * time.Hour)
		list = append(list, cache.HeldTag{
			Repository: repository, Tag: fmt.Sprint(tag, ".", i), Digest: digest.FromString(repository), Former: former, Source: upstream.Source{Rule: "docker-hub"},
			Since: time.Now().Add(-31 * time.Hour), Until: until, Err: &cache.Hold{Until: until, Reason: reason},
		})
	}
	return list
}

func (s *scene) calls(r *fakeRecord, err error, hosts ...string) {
	for _, host := range hosts {
		for range 12 {
			call := upstream.Call{Source: upstream.Source{Rule: "docker-hub", Host: host, Repository: "library/alpine"}, Op: upstream.OpManifest, Status: 200, Bytes: 40 << 20, Err: err}
			if host == "docker.io" {
				call.RateLimit = &upstream.RateLimit{Limit: 200, Remaining: 143, Window: 6 * time.Hour, Source: "4b3f1c0e-77aa"}
			}
			if err != nil {
				call.Status, call.Bytes, call.RateLimit = 0, 0, nil
			}
			r.Call(call)
		}
	}
}

func (s *scene) pulls(r *fakeRecord) {
	for i, o := range []cache.Outcome{
		{Status: 200, Rule: "docker-hub", Result: cache.ResultHit, Reference: "3.21", Bytes: 1853, Duration: 800 * time.Microsecond},
		{Status: 200, Rule: "docker-hub", Result: cache.ResultChecked, Detail: "unchanged", Reference: "3.20", Bytes: 1853, Duration: 84 * time.Millisecond},
		{Status: 404, Rule: "github", UpstreamStatus: 404, Reference: "sha256-4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1.sig", Duration: 120 * time.Millisecond},
		{Status: 200, Rule: "kubernetes", Result: cache.ResultMiss, Reference: "v1.34.1", Bytes: 2841, Duration: 412 * time.Millisecond},
		{Status: 200, Rule: "docker-hub", Result: cache.ResultHit, Reference: digest.FromString("x").String(), Bytes: 10 << 10, Duration: 600 * time.Microsecond},
		{Status: 502, Rule: "promote-api", Detail: "timeout", Reference: "1.4.2", Duration: 30 * time.Second, Err: errors.New("registry.example.com: HEAD manifest 1.4.2: no answer within 30s")},
	} {
		o.Method, o.Access = "GET", cache.Access{Kind: cache.AccessManifest, Repository: []string{"hub/library/alpine", "hub/library/alpine", "gh/acme/worker", "k8s/kube-proxy", "hub/library/redis", "promoted/team-a/api"}[i]}
		req := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		req.RemoteAddr = fmt.Sprintf("10.20.3.%d:40000", 11+i*7)
		r.Request(req, o)
	}
}

// hostile is a page of strangers with long names and scripts in them.
func hostile(t *testing.T) *scene {
	evil := "<script>alert(1)</script><img src=//evil.example.com/x onerror=alert(1)>" + strings.Repeat("x", 180)
	s, c, r := newScene(t, "hostile")
	busy(s, c, r)
	for i := range c.copies {
		c.copies[i].Repository, c.copies[i].Tags, c.copies[i].Err, c.copies[i].Source.Repository = evil, []string{evil}, errors.New(evil), evil
	}
	r.Client = func(*http.Request) string { return evil }
	r.Request(httptest.NewRequest(http.MethodGet, "/v2/", nil), cache.Outcome{
		Method: "GET", Status: 502, Rule: "docker-hub", Reference: evil, Err: errors.New(evil), Access: cache.Access{Kind: cache.AccessManifest, Repository: evil},
	})
	s.calls(r, &upstream.Error{Class: upstream.Unreachable, Owner: upstream.Home, Op: evil, Err: errors.New(evil)}, "ghcr.io")
	s.page.Held = func() []cache.HeldTag { return held(evil, evil, evil) }
	s.page.Fleet = fakeFleet{evil, evil + "2"}
	s.page.Address, s.page.Try = evil, evil
	s.page.Outbox = &fakeOutbox{name: evil}
	s.address = "/?explain=" + url.QueryEscape(evil) + "&rules=" + url.QueryEscape(evil)
	return s
}

// states are the scenes.
func states(t *testing.T) []*scene {
	empty, _, _ := newScene(t, "empty")

	full, c, r := newScene(t, "busy")
	busy(full, c, r)
	full.address = "/?explain=hub/library/alpine:3.21"

	down, c, r := newScene(t, "down")
	busy(down, c, r)
	down.calls(r, &upstream.Error{Class: upstream.Unreachable, Owner: upstream.Home, Op: "HEAD manifest", Connect: true, Err: errors.New("dial tcp 198.51.100.7:443: connection refused")}, "docker.io")
	down.page.Outbox = &fakeOutbox{failing: true}

	disk, c, r := newScene(t, "disk")
	busy(disk, c, r)
	disk.size(store.Size{Content: 398 << 30, Overhead: 2 << 30})
	for i := range r.points {
		r.points[i].Used, r.points[i].Free = min(400, 300+int64(i)/3)<<30, max(0, 100-int64(i)/3)<<30
	}

	none, _, _ := newScene(t, "norules")
	none.page.Rules = nil
	return []*scene{empty, full, down, disk, none, hostile(t)}
}
