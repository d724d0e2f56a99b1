package cache_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// takesAll is a Copier that takes jobs and does none of them.
type takesAll struct{}

func (takesAll) Submit(context.Context, cache.Job) error { return nil }

// TestPagesOfCopies: pages of any size have together what Copies has, in its order, and the
// counts are those of all that is selected.
func TestPagesOfCopies(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	rules, err := rule.NewSet(rule.Rule{Name: "r", Source: up.Host() + "/*", Target: "local/*"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cache.Cache{Rules: rules, Upstream: up.Client(), Copier: takesAll{}}
	t.Cleanup(func() { _ = c.Shutdown(context.Background()) })
	const jobs = 23
	for i := range jobs {
		repo := fmt.Sprint("app-", i%3)
		layers := [][]byte{upstreamtest.Bytes(uint64(i), 100)}
		up.AddImage(repo, fmt.Sprint("v", i), layers)
		if _, _, err := c.Manifest(t.Context(), "local/"+repo, fmt.Sprint("v", i)); err != nil {
			t.Fatal(err)
		}
	}
	for begun := time.Now(); c.CopiesPage(cache.CopyFilter{}).Counts[cache.CopySubmitted].Jobs < jobs; time.Sleep(time.Millisecond) { // polls a condition
		if time.Since(begun) > time.Minute {
			t.Fatalf("the jobs are not taken: %v", c.CopiesPage(cache.CopyFilter{}).Counts)
		}
	}
	all := c.Copies()
	if len(all) != jobs {
		t.Fatalf("%d copies, want %d", len(all), jobs)
	}
	for _, limit := range []int{1, 7, 22, 23, 24, 0} {
		var got []cache.CopyState
		for f := (cache.CopyFilter{Limit: limit}); ; {
			p := c.CopiesPage(f)
			if limit > 0 && len(p.Copies) > limit {
				t.Errorf("limit %d: %d copies on a page", limit, len(p.Copies))
			}
			if n := total(p); n != jobs || !oldest(p).Equal(all[0].Created) {
				t.Errorf("limit %d: counts %v, want %d, the oldest of %v", limit, p.Counts, jobs, all[0].Created)
			}
			if got = append(got, p.Copies...); !p.More {
				break
			}
			if f.After = got[len(got)-1]; len(got) > jobs {
				t.Fatalf("limit %d: the pages have no end", limit)
			}
		}
		if !slices.EqualFunc(got, all, func(a, b cache.CopyState) bool { return a.ID == b.ID && a.Total == b.Total && a.Total > 0 }) {
			t.Errorf("limit %d: the pages have %d copies that are not those of Copies in their order", limit, len(got))
		}
	}
	if p := c.CopiesPage(cache.CopyFilter{Limit: -1}); len(p.Copies) != 0 || total(p) != jobs || !p.More {
		t.Errorf("without a list: %+v", p)
	}
	p := c.CopiesPage(cache.CopyFilter{Repository: "local/app-1"})
	if len(p.Copies) != 8 || total(p) != 8 || slices.ContainsFunc(p.Copies, func(s cache.CopyState) bool { return s.Repository != "local/app-1" }) {
		t.Errorf("of one repository: %d copies, counts %v", len(p.Copies), p.Counts)
	}
	if p := c.CopiesPage(cache.CopyFilter{ID: all[5].ID}); len(p.Copies) != 1 || p.Copies[0].ID != all[5].ID {
		t.Errorf("of one ID: %+v", p)
	}
	for _, test := range []struct {
		states []cache.CopyStatus
		want   int
	}{{[]cache.CopyStatus{cache.CopyQueued, cache.CopySubmitted}, jobs}, {[]cache.CopyStatus{cache.CopyParked}, 0}, {[]cache.CopyStatus{}, 0}} {
		if p := c.CopiesPage(cache.CopyFilter{States: test.states}); len(p.Copies) != test.want || total(p) != test.want {
			t.Errorf("states %v: %d copies, counts %v, want %d", test.states, len(p.Copies), p.Counts, test.want)
		}
	}
}

// total is how many jobs the counts of a page count.
func total(p cache.CopyPage) (n int) {
	for _, one := range p.Counts {
		n += one.Jobs
	}
	return n
}

// oldest is when the oldest job was made that the counts of a page count.
func oldest(p cache.CopyPage) (at time.Time) {
	for _, one := range p.Counts {
		if at.IsZero() || one.Oldest.Before(at) {
			at = one.Oldest
		}
	}
	return at
}
