package page_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/webhook"
)

// TestBounds: the page stays small whatever there is.
func TestBounds(t *testing.T) {
	s := crowd(t)
	body := s.get(t)
	if len(body) > 400<<10 {
		t.Errorf("the page has %d KiB", len(body)>>10)
	}
	has(t, body, "Showing 50 of 10,000", "Showing 1 to 50 of 1,000", "Showing 50 of 1,000", "Showing 25 of 200", "10,000", "Showing 30 of 256")
	for section, most := range map[string]int{"copies": 50, "pulls": 30, "rules": 50, "upstreams": 50, "credentials": 50, "deliveries": 50} {
		part := body[strings.Index(body, `<section id="`+section):]
		part = part[:strings.Index(part, "</section>")]
		if n := strings.Count(part, "<tr role=\"row\" data-key="); n == 0 || n > most {
			t.Errorf("%s: %d rows, want at most %d", section, n, most)
		}
	}
	for i := range s.cache.copies[:300] {
		s.cache.copies[i].State = cache.CopyRunning
	}
	if n := strings.Count(s.get(t), `<tr role="row" data-key="job-`); n != 50 {
		t.Errorf("%d copies show where 300 run, want 50", n)
	}
	long := strings.Repeat("x", 1<<20)
	if n := len(s.get(t, "explain", long, "rules", long, "done", long)); n > 400<<10 {
		t.Errorf("a long question makes a page of %d KiB", n>>10)
	}
}

// TestEverythingCanBeReached: the pages of a list have all of it, each once.
func TestEverythingCanBeReached(t *testing.T) {
	s := crowdOf(t, 180, 480)
	for _, test := range []struct {
		start, section string
		want           int
	}{{"/?copies=queued", "copies", 120}, {"/", "rules", 180}} {
		seen := map[string]bool{}
		for next := test.start; next != ""; {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("GET", next, nil))
			part := w.Body.String()
			part = part[strings.Index(part, `<section id="`+test.section):]
			part = part[:strings.Index(part, "</section>")]
			for _, m := range regexp.MustCompile(`<tr role="row" data-key="([^"]*)"`).FindAllStringSubmatch(part, -1) {
				if seen[m[1]] {
					t.Fatalf("%s is twice in the list", m[1])
				}
				seen[m[1]] = true
			}
			next = ""
			if m := regexp.MustCompile(`<a href="([^"#]*)[^"]*">Next</a>`).FindStringSubmatch(part); m != nil {
				next = strings.ReplaceAll(m[1], "&amp;", "&")
			}
		}
		if len(seen) != test.want {
			t.Errorf("%s: %d can be reached, want %d", test.section, len(seen), test.want)
		}
	}
	has(t, s.get(t, "rules", "RULE-0077"), "rule-0077")
	hasNot(t, s.get(t, "rules", "rule-0077"), `data-key="rule-0078"`)
	has(t, s.get(t, "hosts", "r0077"), "r0077.example.com")
	has(t, s.get(t, "rules", "no such"), "No rule has that")
}

// crowd is a page with as much as a proxy may have.
func crowd(t testing.TB) *stage { return crowdOf(t, 1000, 10000) }

// crowdOf is a page with so many rules and copies.
func crowdOf(t testing.TB, all, copies int) *stage {
	var rules []rule.Rule
	for i := range all {
		host := fmt.Sprintf("r%04d.example.com", i)
		rules = append(rules, rule.Rule{
			Name: fmt.Sprintf("rule-%04d", i), Source: host + "/*", Target: fmt.Sprintf("t%04d/*", i),
			Auth: &auth.CredentialSet{Name: fmt.Sprintf("set-%04d", i), LoginServer: host, Username: auth.Value{Text: auth.NewSensitive("u")}, Password: auth.Value{Text: auth.NewSensitive("p")}},
		})
	}
	s := newStage(t, rules...)
	states := []cache.CopyStatus{cache.CopyQueued, cache.CopyPaused, cache.CopyWatching, cache.CopyParked}
	for i := range copies {
		c := copyOf(i, states[i%len(states)])
		c.Err = errors.New(strings.Repeat("a long error ", 100))
		s.cache.copies = append(s.cache.copies, c)
	}
	s.cache.copies[copies-1].State = cache.CopyRunning
	for i := range 5000 {
		s.record.pull(cache.Outcome{Status: 200, Rule: fmt.Sprintf("rule-%04d", i%1000), Result: cache.ResultHit, Reference: "v1", Access: cache.Access{Repository: fmt.Sprintf("t%04d/app-%d", i%1000, i)}})
		s.record.call(fmt.Sprintf("r%04d.example.com", i%1000), nil)
	}
	s.outbox.deliveries = map[string][]webhook.Delivery{}
	for i := range 200 {
		name := fmt.Sprintf("receiver-%d", i)
		s.outbox.states = append(s.outbox.states, webhook.ReceiverState{Name: name, Delivered: 1})
		for j := range 100 {
			s.outbox.deliveries[name] = append(s.outbox.deliveries[name], webhook.Delivery{Receiver: name, Event: webhook.Event{ID: fmt.Sprint(i, "-", j), Action: "push"}, Time: time.Now()})
		}
	}
	for i := range 360 {
		s.record.points = append(s.record.points, watch.Point{Time: time.Now().Add(time.Duration(i-360) * 10 * time.Second), Requests: 10, Stored: int64(i % 9), Missed: 1, Served: 1 << 20, Fetched: 1 << 10, Used: 1 << 30, Free: 1 << 33})
	}
	return s
}

// BenchmarkPage makes the page with as much as a proxy may have.
func BenchmarkPage(b *testing.B) {
	s := crowd(b)
	for b.Loop() {
		s.get(b)
	}
}
