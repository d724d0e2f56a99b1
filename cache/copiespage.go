package cache

import (
	"time"

	"github.com/pullthrough/pullthrough/internal/ledger"
)

// CopyFilter selects copy jobs for [Cache.CopiesPage]. The zero value selects all.
type CopyFilter struct {
	// ID selects one job. If empty, jobs are not selected by their ID.
	ID string
	// Repository selects the jobs of a repository by its canonical local name. If empty, the
	// jobs of all repositories are selected.
	Repository string
	// States selects by state. If nil, all states are selected.
	States []CopyStatus
	// After is the last job of the former page, of which Created and ID count. If zero, the page
	// begins with the oldest job.
	After CopyState
	// Limit is how many jobs the page has at most. If zero, it has 100. If negative, it has
	// none: the counts remain.
	Limit int
}

// CopyPage is a page of copy jobs.
type CopyPage struct {
	// Copies are the jobs, the oldest first.
	Copies []CopyState
	// More says that there are more selected jobs after the last of Copies.
	More bool
	// Counts counts the selected jobs by state, whether they are on this page or not. States
	// without any are left out.
	Counts map[CopyStatus]CopyCount
}

// CopyCount is how many copy jobs are in one state, and when the oldest of them was made.
type CopyCount struct {
	Jobs   int
	Oldest time.Time
}

// CopiesPage returns a page of the copy jobs that are not finished. It costs little with
// many jobs, since it looks only for those on the page how far they are: [Cache.Copies] does that
// for all, which takes a second for ten thousand.
func (c *Cache) CopiesPage(f CopyFilter) CopyPage {
	e := c.engine()
	s := ledger.Selection{Repository: f.Repository, ID: f.ID, AfterTime: f.After.Created, AfterID: f.After.ID, Limit: max(0, f.Limit)}
	if f.Limit == 0 {
		s.Limit = 100
	}
	if f.States != nil {
		s.States = []ledger.State{}
		for _, state := range f.States {
			s.States = append(s.States, ledger.State(state))
		}
	}
	found := e.ledger.Page(s)
	p := CopyPage{More: found.More, Counts: map[CopyStatus]CopyCount{}}
	for state, t := range found.Counts {
		p.Counts[CopyStatus(state)] = CopyCount(t)
	}
	for _, one := range found.Copies {
		p.Copies = append(p.Copies, e.copyState(one))
	}
	return p
}
