package rule

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// meddler changes the set from within a Check: code of the embedder runs without a lock,
// and a rule that changed meanwhile is checked again.
type meddler struct {
	password
	meddle func()
}

func (m meddler) Check(string) error { m.meddle(); return nil }

func TestChecksRunWithoutLock(t *testing.T) {
	s := newSet(t, Options{}, "one quay.io/a -> a")
	calls := 0
	err := s.SetAuth("one", meddler{meddle: func() {
		if calls++; calls == 1 {
			if err := s.Replace(rules(t, "one ghcr.io/moved -> a")[0]); err != nil {
				t.Error(err)
			}
		}
	}})
	if err != nil || calls != 2 {
		t.Fatalf("%d checks, %v", calls, err)
	}
	wantMatch(t, s, "a", "one a = ghcr.io/moved")
	if r, _ := s.Get("one"); r.Auth == nil {
		t.Error("the authenticator is lost")
	} else if _, ok := r.Auth.(meddler); !ok {
		t.Errorf("the authenticator is %T", r.Auth)
	}
	err = s.SetAuth("one", meddler{meddle: func() { _ = s.Delete("one") }})
	wantFaults(t, err, "CacheRuleNotFound")
}

// TestWritersTogether: no change of concurrent writers is lost.
func TestWritersTogether(t *testing.T) {
	var s Set
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("r%d-%d", w, i)
				if err := s.Create(Rule{Name: name, Source: "quay.io/" + name, Target: name}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	seen := map[uint64]bool{}
	for r := range s.All() {
		seen[generation(t, &s, r.Target)] = true
	}
	if len(seen) != 200 {
		t.Errorf("%d rules with generations of their own, want 200", len(seen))
	}
}

// TestReadersAndWriters: readers see the rules of one moment: source and target of a rule
// belong together, and generations never decrease.
func TestReadersAndWriters(t *testing.T) {
	s := newSet(t, Options{}, "flip a.example.com/a/* -> x/*", "still quay.io/* -> still/*")
	ctx := context.Background()
	var stop atomic.Bool
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var last uint64
			for i := 0; !stop.Load(); i++ {
				m, err := s.Match(ctx, fmt.Sprintf("x/app%d", i%100))
				if err != nil {
					continue // between Delete and Create
				}
				if m.Rule.Source != m.Source.Host+"/"+m.Source.Host[:1]+"/*" {
					t.Errorf("%s of rule %+v", show(m, nil), m.Rule)
					return
				}
				if m.Generation < last {
					t.Errorf("generation %d after %d", m.Generation, last)
					return
				}
				last = m.Generation
				if m, err := s.MatchSource(ctx, m.Source.Host, m.Source.Repository); err == nil && m.Generation < last {
					t.Errorf("generation %d after %d", m.Generation, last)
					return
				}
				for r := range s.All() {
					_, _ = s.Get(r.Name)
				}
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for i := range 100 {
				host := string(rune('a'+(i+w)%3)) + ".example.com"
				r := Rule{Name: "flip", Source: host + "/" + host[:1] + "/*", Target: "x/*"}
				switch i % 4 {
				case 0:
					_ = s.Delete("flip")
				case 1:
					_ = s.Create(r)
				case 2:
					_ = s.Replace(r)
				case 3:
					_ = s.SetAuth("flip", password{})
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	wantMatch(t, s, "still/a", "still still/a = quay.io/a")
}
