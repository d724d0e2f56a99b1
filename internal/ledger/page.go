package ledger

import (
	"slices"
	"strings"
	"time"
)

// Selection selects copy jobs. The zero value selects all of them, and lists none.
type Selection struct {
	Repository string // if empty, those of all repositories
	ID         string // of one job; if empty, all
	States     []State
	// AfterTime and AfterID are Created and ID of a job: only younger ones are listed. If zero,
	// the list begins with the oldest.
	AfterTime time.Time
	AfterID   string
	Limit     int // of the list
}

// Page is a list of selected jobs, the oldest first.
type Page struct {
	Copies []Copy
	More   bool            // there are more after the last of Copies
	Counts map[State]Tally // of all selected jobs, listed or not; states of none are left out
}

// Tally is how many jobs are in one state, and when the oldest of them was made.
type Tally struct {
	Jobs   int
	Oldest time.Time
}

// Page lists selected copy jobs. It looks at every job, and at the blobs of those that it
// lists only.
func (l *Ledger) Page(s Selection) Page {
	l.mu.Lock()
	defer l.unlock()
	all := l.entries
	if s.Repository != "" {
		all = l.repos[s.Repository]
	}
	p := Page{Counts: map[State]Tally{}}
	var first []*entry // the oldest of what can be listed, and one more if there are more
	for _, e := range all {
		if s.ID != "" && e.job.ID != s.ID || s.States != nil && !slices.Contains(s.States, e.state) {
			continue
		}
		t := p.Counts[e.state]
		if t.Jobs++; t.Jobs == 1 || e.job.Created.Before(t.Oldest) {
			t.Oldest = e.job.Created
		}
		p.Counts[e.state] = t
		if compareAge(e.job.Created, e.job.ID, s.AfterTime, s.AfterID) > 0 {
			first = insertOldest(first, e, s.Limit+1)
		}
	}
	if p.More = len(first) > s.Limit; p.More {
		first = first[:s.Limit]
	}
	for _, e := range first {
		c := e.copy()
		c.Blobs = l.blobs(e)
		p.Copies = append(p.Copies, c)
	}
	return p
}

// insertOldest inserts an entry in the order of age, and keeps the oldest ones.
func insertOldest(list []*entry, e *entry, most int) []*entry {
	i, _ := slices.BinarySearchFunc(list, e, func(a, b *entry) int {
		return compareAge(a.job.Created, a.job.ID, b.job.Created, b.job.ID)
	})
	if i == most {
		return list
	}
	if len(list) == most {
		list = list[:most-1]
	}
	return slices.Insert(list, i, e)
}

// compareAge orders jobs by age, the oldest first.
func compareAge(created time.Time, id string, otherCreated time.Time, otherID string) int {
	if n := created.Compare(otherCreated); n != 0 {
		return n
	}
	return strings.Compare(id, otherID)
}
