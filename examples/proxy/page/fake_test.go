package page_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/page"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// fakeCache is a cache of which a test says everything.
type fakeCache struct {
	copies  []cache.CopyState
	explain func(repository, reference string) (cache.Explanation, error)
	stats   cache.Stats
}

// CopiesPage does what that of cache.Cache does.
func (f *fakeCache) CopiesPage(filter cache.CopyFilter) cache.CopyPage {
	p := cache.CopyPage{Counts: map[cache.CopyStatus]cache.CopyCount{}}
	for _, c := range f.copies {
		if filter.States != nil && !slices.Contains(filter.States, c.State) {
			continue
		}
		n := p.Counts[c.State]
		n.Jobs++
		p.Counts[c.State] = n
		after := filter.After
		if !after.Created.IsZero() && (c.Created.Before(after.Created) || c.Created.Equal(after.Created) && c.ID <= after.ID) {
			continue
		}
		if len(p.Copies) >= max(0, filter.Limit) {
			p.More = true
			continue
		}
		p.Copies = append(p.Copies, c)
	}
	return p
}

func (f *fakeCache) Explain(_ context.Context, repository, reference string) (cache.Explanation, error) {
	if f.explain == nil {
		return cache.Explanation{}, errors.New("nobody expected a question")
	}
	return f.explain(repository, reference)
}

func (f *fakeCache) Stats() cache.Stats { return f.stats }

// fakeRecord is a recorder with a history of the test.
type fakeRecord struct {
	watch.Recorder
	points []watch.Point
}

func (f *fakeRecord) History(bool) []watch.Point { return f.points }

// pull records a request.
func (f *fakeRecord) pull(o cache.Outcome) {
	req := httptest.NewRequest("GET", "/v2/", nil)
	req.RemoteAddr = "192.0.2.7:4711"
	if o.Access.Kind == "" {
		o.Access.Kind = cache.AccessManifest
	}
	o.Method = "GET"
	f.Request(req, o)
}

// call records a call of an upstream.
func (f *fakeRecord) call(host string, err error) {
	c := upstream.Call{Source: upstream.Source{Rule: "r", Host: host, Repository: "team/app"}, Op: upstream.OpManifest, Status: 200, Err: err}
	if err != nil {
		c.Status = 0
	}
	f.Call(c)
}

// fakeOutbox is an outbox of which a test says everything.
type fakeOutbox struct {
	states     []webhook.ReceiverState
	deliveries map[string][]webhook.Delivery
	resent     []string
	err        error
}

func (f *fakeOutbox) States() []webhook.ReceiverState { return f.states }

func (f *fakeOutbox) Deliveries(receiver string) ([]webhook.Delivery, error) {
	return f.deliveries[receiver], nil
}

func (f *fakeOutbox) Resend(_ context.Context, receiver, event string) error {
	if f.err != nil {
		return f.err
	}
	f.resent = append(f.resent, receiver+" "+event)
	return nil
}

// stage is a page with all that it shows.
type stage struct {
	page.Page
	cache  fakeCache
	record fakeRecord
	outbox fakeOutbox
	size   store.Size
}

// newStage returns a page with rules, and nothing that happened.
func newStage(t testing.TB, rules ...rule.Rule) *stage {
	t.Helper()
	set, err := rule.NewSet(rules...)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{size: store.Size{Content: 3 << 30, Overhead: 1 << 20, Free: 90 << 30}}
	s.Page.Cache, s.Page.Record, s.Page.Outbox, s.Page.Rules = &s.cache, &s.record, &s.outbox, set
	s.Page.Size = func(context.Context) (store.Size, error) { return s.size, nil }
	s.Page.Address, s.Page.Try, s.Page.Acting = "127.0.0.1:5000", "hub/library/alpine", true
	return s
}

// hub is a rule for Docker Hub.
func hub() rule.Rule {
	return rule.Rule{Name: "docker-hub", Source: "docker.io/*", Target: "hub/*"}
}

// get asks for the page with parameters: key, value, key, value.
func (s *stage) get(t testing.TB, pairs ...string) string {
	t.Helper()
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/?"+q.Encode(), nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// has fails unless a page has all of these texts.
func has(t *testing.T, body string, texts ...string) {
	t.Helper()
	plain := strings.Join(strings.Fields(tags.ReplaceAllString(body, " ")), " ")
	for _, text := range texts {
		if !strings.Contains(body, text) && !strings.Contains(plain, text) {
			t.Errorf("the page does not have %q", text)
		}
	}
}

// hasNot fails if a page has one of these texts.
func hasNot(t *testing.T, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(body, text) {
			t.Errorf("the page has %q", text)
		}
	}
}

// copyOf returns a copy job.
func copyOf(i int, s cache.CopyStatus) cache.CopyState {
	id := fmt.Sprintf("job-%05d", i)
	return cache.CopyState{
		ID: id, Repository: fmt.Sprintf("hub/team-%d/app", i), Digest: digest.FromString(id), Tags: []string{"v1"}, State: s, Done: 40 << 20, Total: 160 << 20,
		Source: upstream.Source{Rule: "docker-hub", Host: "docker.io", Repository: fmt.Sprintf("team-%d/app", i)}, Created: time.Now().Add(time.Duration(i-20000) * time.Second),
	}
}
