package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// copyRows is how many copies the page shows at most.
const copyRows = 50

// copiesView is the section of copy jobs.
type copiesView struct {
	Level                  level
	Total, Running, Parked int
	Filters                []choice
	Rows                   []copyRow
	Shown                  string // such as "50 of 10,000"
	Next, First            string // addresses of other pages of the list; empty if there are none
	Selected               string // the state that is selected, in words; empty for all
}

// choice is one of several links, of which one is selected.
type choice struct {
	Name, Count, Link string
	Selected          bool
}

// copyRow is one copy job.
type copyRow struct {
	Key        string
	Repository string
	Tags       string
	Digest     string
	Source     string
	State      state
	Meaning    string // of the state
	Done       int64
	Total      int64
	Percent    string
	Bytes      string
	Begun      when
	Next       when // when it is tried again
	Attempts   int
	Error      string
}

// copyWords are the states in the order of the page.
func copyWords() []struct {
	status  cache.CopyStatus
	state   state
	meaning string
} {
	return []struct {
		status  cache.CopyStatus
		state   state
		meaning string
	}{
		{cache.CopyRunning, state{good, "Running"}, "It is being copied."},
		{cache.CopySubmitted, state{good, "Submitted"}, "Another process was given it."},
		{cache.CopyPaused, state{warn, "Failed, again soon"}, "It failed and is tried again."},
		{cache.CopyParked, state{bad, "Gave up"}, "It failed too often, and is tried when it is pulled or retried."},
		{cache.CopyQueued, state{idle, "Queued"}, "It waits for its turn."},
		{cache.CopyWaiting, state{idle, "Waits for a platform"}, "An index is complete when one of its platforms is stored."},
		{cache.CopyWatching, state{idle, "Only looked at"}, "It begins when a client asks for one of its layers."},
	}
}

// elsewhereWords are what other replicas do with the copies that they were given.
func elsewhereWords() map[cache.JobState]struct {
	state   state
	meaning string
} {
	return map[cache.JobState]struct {
		state   state
		meaning string
	}{
		cache.JobComing:  {state{good, "Copied elsewhere"}, "Another replica copies it."},
		cache.JobParked:  {state{bad, "Gave up elsewhere"}, "It failed too often at another replica, which tries it when it is pulled or retried."},
		cache.JobSending: {state{good, "Events wait elsewhere"}, "Another replica has copied it; the events wait there for their receivers."},
	}
}

// viewCopies gathers the copy jobs.
func (p *Page) viewCopies(q query, now time.Time) copiesView {
	counts := p.Cache.CopiesPage(cache.CopyFilter{Limit: -1}).Counts
	v := copiesView{Running: counts[cache.CopyRunning].Jobs, Parked: counts[cache.CopyParked].Jobs}
	for _, n := range counts {
		v.Total += n.Jobs
	}
	switch {
	case v.Parked > 0:
		v.Level = warn
	case counts[cache.CopyPaused].Jobs > 0:
		v.Level = warn
	}
	selected := cache.CopyStatus(q.get(keyCopies))
	v.Filters = []choice{{Name: "All", Count: formatNumber(v.Total), Link: q.link("copies", keyCopies, "", keyAfter, "")}}
	known := false
	for _, w := range copyWords() {
		if counts[w.status].Jobs == 0 && w.status != selected {
			continue
		}
		v.Filters = append(v.Filters, choice{
			Name: w.state.Word, Count: formatNumber(counts[w.status].Jobs), Selected: w.status == selected,
			Link: q.link("copies", keyCopies, string(w.status), keyAfter, ""),
		})
		known = known || w.status == selected
	}
	of := v.Total
	var list []cache.CopyState
	if known {
		page := p.Cache.CopiesPage(cache.CopyFilter{States: []cache.CopyStatus{selected}, After: q.after(), Limit: copyRows})
		list, of = page.Copies, counts[selected].Jobs
		if page.More {
			v.Next = q.link("copies", keyAfter, cursor(list[len(list)-1]))
		}
		if q.get(keyAfter) != "" {
			v.First = q.link("copies", keyAfter, "")
		}
		v.Selected = string(selected)
	} else {
		v.Filters[0].Selected = true
		list = p.firstCopies()
	}
	for _, c := range list {
		v.Rows = append(v.Rows, viewCopy(c, now))
	}
	v.Shown = shown(len(v.Rows), of)
	return v
}

// firstCopies returns those that are under way, and then the oldest of the others.
func (p *Page) firstCopies() []cache.CopyState {
	var order []cache.CopyStatus
	for _, w := range copyWords() {
		order = append(order, w.status)
	}
	list := p.Cache.CopiesPage(cache.CopyFilter{States: order[:2], Limit: copyRows}).Copies
	if room := copyRows - len(list); room > 0 {
		list = append(list, p.Cache.CopiesPage(cache.CopyFilter{States: order[2:], Limit: room}).Copies...)
	}
	slices.SortStableFunc(list, func(a, b cache.CopyState) int {
		return cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State))
	})
	return list
}

// viewCopy describes one copy job.
func viewCopy(c cache.CopyState, now time.Time) copyRow {
	row := copyRow{
		Key: c.ID, Repository: c.Repository, Tags: short(strings.Join(c.Tags, ", "), 120), Digest: c.Digest.String(), Source: c.Source.String(),
		Done: min(c.Done, c.Total), Total: c.Total, Begun: moment(c.Created, now), Attempts: c.Attempts, State: state{idle, string(c.State)},
	}
	for _, w := range copyWords() {
		if w.status == c.State {
			row.State, row.Meaning = w.state, w.meaning
		}
	}
	if words, ok := elsewhereWords()[c.Elsewhere]; ok {
		row.State, row.Meaning = words.state, words.meaning
	}
	if c.Total > 0 {
		row.Percent = formatPercent(float64(row.Done) / float64(c.Total))
		row.Bytes = formatBytes(row.Done) + " of " + formatBytes(c.Total)
	}
	if c.State == cache.CopyPaused {
		row.Next = moment(c.Next, now)
	}
	if c.Err != nil {
		row.Error = short(c.Err.Error(), 300)
	}
	return row
}

// shown says how much of a list is on the page. It is empty if that is all of it.
func shown(rows, of int) string {
	if rows >= of {
		return ""
	}
	return "Showing " + formatNumber(rows) + " of " + formatNumber(of)
}
