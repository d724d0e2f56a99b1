package page

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/watch"
)

// hostRows is how many upstreams the page shows at most.
const hostRows = 50

// hostsView is the section of upstreams.
type hostsView struct {
	Level  level
	All    int
	Filter string
	Rows   []hostRow
	Shown  string
	Hidden []parameter

	troubled []hostFacts
}

// hostRow is one upstream host.
type hostRow struct {
	Host     string
	State    state
	Since    when
	Until    when
	Success  when
	Calls    string
	Failures string
	Bytes    string
	Budgets  []budgetRow
	Rules    int
	Error    string
	ErrorAt  when
	ErrorFor string // what was asked for
}

// budgetRow is what is left of a budget at an upstream.
type budgetRow struct {
	State state
	Whose string // for whom it is counted, and in what time; ends with a comma unless empty
	Heard when
}

// hostFacts is a host and how many rules have it as their source.
type hostFacts struct {
	watch.HostState
	rules int
	state state
}

// hostWord is the word for the status of a host.
func hostWord(s watch.HostStatus) state {
	switch s {
	case watch.HostOK:
		return state{good, "Answers"}
	case watch.HostLimited:
		return state{warn, "Limits pulls"}
	case watch.HostFailing:
		return state{bad, "Fails"}
	case watch.HostUnreachable:
		return state{bad, "Unreachable"}
	}
	return state{idle, "Not asked yet"}
}

// viewHosts joins the hosts that were asked with those that rules name. Those in trouble
// come first.
func viewHosts(rules []*ruleFacts, q query, now time.Time) hostsView {
	v := hostsView{Filter: q.get(keyHosts), Hidden: q.others(keyHosts)}
	hosts := map[string]*hostFacts{}
	for _, f := range rules {
		h := hosts[f.host]
		if h == nil {
			h = &hostFacts{HostState: watch.HostState{Host: f.host, Status: watch.HostUnknown}}
			if f.up != nil {
				h.HostState = *f.up
			}
			h.state = hostWord(h.Status)
			hosts[f.host] = h
		}
		h.rules++
	}
	v.All = len(hosts)
	list := slices.SortedFunc(maps.Values(hosts), func(a, b *hostFacts) int {
		return cmp.Or(cmp.Compare(a.state.Level.rank(), b.state.Level.rank()), strings.Compare(a.Host, b.Host))
	})
	found := 0
	for _, h := range list {
		if h.state.Level.rank() < good.rank() {
			v.troubled = append(v.troubled, *h)
			if v.Level == "" {
				v.Level = h.state.Level
			}
		}
		if v.Filter != "" && !strings.Contains(strings.ToLower(h.Host), strings.ToLower(v.Filter)) {
			continue
		}
		if found++; len(v.Rows) < hostRows {
			v.Rows = append(v.Rows, h.row(now))
		}
	}
	v.Shown = shown(len(v.Rows), found)
	return v
}

// row describes a host.
func (h *hostFacts) row(now time.Time) hostRow {
	row := hostRow{
		Host: h.Host, State: h.state, Since: moment(h.Since, now), Success: moment(h.LastSuccess, now), Bytes: formatBytes(h.Bytes), Rules: h.rules,
	}
	if h.Until.After(now) {
		row.Until = moment(h.Until, now)
	}
	var all, failed int64
	for _, c := range h.Calls {
		all += c.Count
		if c.Status == "none" || strings.HasPrefix(c.Status, "5") || c.Status == "429" {
			failed += c.Count
		}
	}
	row.Calls = formatNumber(all)
	if failed > 0 {
		row.Failures = formatNumber(failed)
	}
	for _, b := range h.Budgets {
		row.Budgets = append(row.Budgets, viewBudget(b, now))
	}
	if e := h.LastError; e != nil {
		row.Error, row.ErrorAt, row.ErrorFor = short(e.Text, 300), moment(e.Time, now), e.Repository
	}
	return row
}

// viewBudget describes what is left of a budget. Less than a tenth is worth a look.
func viewBudget(b watch.Budget, now time.Time) budgetRow {
	row := budgetRow{State: state{good, formatNumber(b.Remaining) + " left"}, Heard: moment(b.Time, now)}
	if b.Limit > 0 {
		row.State.Word = formatNumber(b.Remaining) + " of " + formatNumber(b.Limit) + " left"
	}
	switch {
	case b.Remaining <= 0:
		row.State.Level = bad
	case b.Remaining < b.Limit/10:
		row.State.Level = warn
	}
	if b.Source != "" {
		row.Whose = "counted for " + b.Source + ", "
	}
	if b.Window > 0 {
		row.Whose += "in " + formatDuration(b.Window) + ", "
	}
	return row
}

// hostNotices say which upstreams are in trouble, and what that means for clients.
func hostNotices(v hostsView, now time.Time) []notice {
	const most = 3
	if n := len(v.troubled); n > most {
		return []notice{{
			Level: v.Level, Title: noun(n, "upstream") + " are in trouble", Section: "upstreams", Link: "See which",
			Text: "What is stored is served; what is not cannot be pulled from them now.",
		}}
	}
	var list []notice
	for _, h := range v.troubled {
		n := notice{Level: h.state.Level, Section: "upstreams", Link: "See the upstream"}
		since := ""
		if w := moment(h.Since, now); w.Text != "" {
			since = " since " + stamp(h.Since) + " UTC"
		}
		switch h.Status {
		case watch.HostLimited:
			n.Title = h.Host + " limits pulls"
			n.Text = "It answers that it is asked too often" + since + ". What is stored is served without asking it"
			if h.Until.After(now) {
				n.Text += " until " + stamp(h.Until) + " UTC"
			}
			n.Text += "; other images have to wait."
		case watch.HostFailing:
			n.Title = h.Host + " fails"
			n.Text = "It answers with errors" + since + ". What is stored is served unchecked; new images cannot be pulled from it."
		default:
			n.Title = h.Host + " is unreachable"
			n.Text = "It does not answer" + since + ". What is stored is served unchecked; new images cannot be pulled from it."
		}
		n.Text += " " + noun(h.rules, "rule") + " lead there."
		if h.rules == 1 {
			n.Text = strings.TrimSuffix(n.Text, "lead there.") + "leads there."
		}
		if h.LastError != nil {
			n.Detail = short(h.LastError.Text, 300)
		}
		list = append(list, n)
	}
	return list
}
