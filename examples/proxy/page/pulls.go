package page

import (
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
)

// pullRows is how many pulls the page shows at most.
const pullRows = 30

// pullsView is the section of recent pulls.
type pullsView struct {
	Level   level
	None    bool // nothing at all was pulled
	Filters []choice
	Rows    []pullRow
	Shown   string
}

// pullRow is one pull.
type pullRow struct {
	Key      string
	When     when
	What     string // repository with tag or digest
	Digest   bool   // What ends with a digest
	Kind     string
	Rule     string
	Client   string
	Outcome  state
	Why      string
	Error    string
	Bytes    string
	Duration string
}

// pullFilters are the filters of pulls by the value of their parameter.
func pullFilters() []struct {
	key, name string
	filter    watch.Filter
} {
	all := []watch.Kind{watch.Images, watch.Blobs, watch.Strangers}
	return []struct {
		key, name string
		filter    watch.Filter
	}{
		{"", "Images", watch.Filter{}},
		{"blobs", "Layers", watch.Filter{Kinds: []watch.Kind{watch.Blobs}}},
		{"trouble", "Trouble", watch.Filter{Kinds: all, Trouble: true}},
		{"strangers", "Refused or without a rule", watch.Filter{Kinds: []watch.Kind{watch.Strangers}}},
	}
}

// viewPulls gathers the recent pulls.
func (p *Page) viewPulls(q query, now time.Time) pullsView {
	v := pullsView{None: true}
	selected := 0
	for i, f := range pullFilters() {
		if f.key == q.get(keyPulls) {
			selected = i
		}
	}
	for i, f := range pullFilters() {
		list := p.Record.Pulls(f.filter)
		v.None = v.None && len(list) == 0
		v.Filters = append(v.Filters, choice{
			Name: f.name, Count: formatNumber(len(list)), Selected: i == selected, Link: q.link("pulls", keyPulls, f.key),
		})
		if f.key == "trouble" && len(list) > 0 && now.Sub(list[0].Time) < troubleAge {
			v.Level = warn
		}
		if i != selected {
			continue
		}
		for _, one := range list[:min(len(list), pullRows)] {
			v.Rows = append(v.Rows, viewPull(one, now))
		}
		v.Shown = shown(len(v.Rows), len(list))
	}
	return v
}

// viewPull describes one pull.
func viewPull(p watch.Pull, now time.Time) pullRow {
	row := pullRow{
		When: moment(p.Time, now), Kind: string(p.Kind), Rule: p.Rule, Client: p.Client, Outcome: outcomeWord(p.Outcome), Why: p.Why,
		Error: p.Error, Bytes: formatBytes(p.Bytes), Duration: formatDuration(p.Duration), What: p.Repository,
	}
	row.Key = p.Time.Format(time.RFC3339Nano) + p.Reference
	switch {
	case p.Kind == cache.AccessTags:
		row.What += ", list of tags"
	case p.Kind == cache.AccessCatalog:
		row.What = "list of repositories"
	case isDigest(p.Reference):
		row.What += "@" + shortDigest(p.Reference)
	case p.Reference != "":
		row.What += ":" + p.Reference
	}
	if p.Outcome == watch.Hit || p.Outcome == watch.Checked {
		row.Error = "" // what the log has beside a good answer is no news here
	}
	return row
}

// isDigest reports whether a reference has the form of a digest.
func isDigest(reference string) bool { return shortDigest(reference) != reference }

// outcomeWord is the word for an outcome.
func outcomeWord(o watch.Outcome) state {
	switch o {
	case watch.Hit:
		return state{good, "From here"}
	case watch.Checked:
		return state{good, "From here, checked"}
	case watch.Stale:
		return state{warn, "From here, unchecked"}
	case watch.Miss:
		return state{idle, "From upstream"}
	case watch.Absent:
		return state{idle, "Not found"}
	case watch.Refused:
		return state{warn, "Refused"}
	case watch.Failed:
		return state{bad, "Failed"}
	case watch.Left:
		return state{idle, "Client left"}
	}
	return state{idle, "Answered"}
}
