package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/rule"
)

// ruleRows is how many rules the page shows at most.
const ruleRows = 50

// troubleAge is how long trouble of a pull shows as the health of its rule.
const troubleAge = 10 * time.Minute

// rulesView is the section of rules.
type rulesView struct {
	Level      level
	All        int
	Filter     string
	Rows       []ruleRow
	Shown      string
	Prev, Next string // addresses of other pages of the list; empty if there are none
	Hidden     []parameter
}

// ruleRow is one rule.
type ruleRow struct {
	Name, Source, Target string
	Auth                 string
	State                state
	Why                  string
	Pulls                string
	Ratio                string
	LastPull             when
}

// ruleFacts are a rule and what is known of it.
type ruleFacts struct {
	rule.Rule
	host  string // of the source, in canonical form
	watch watch.RuleState
	up    *watch.HostState    // nil if the host was not asked yet
	set   *auth.CredentialSet // nil if the rule has none
}

// gatherRules joins rules with what is known of them.
func (p *Page) gatherRules() (list []*ruleFacts) {
	if p.Rules == nil {
		return nil
	}
	states := map[string]watch.RuleState{}
	for _, s := range p.Record.Rules() {
		states[s.Rule] = s
	}
	hosts := map[string]*watch.HostState{}
	for _, h := range p.Record.Hosts() {
		hosts[h.Host] = &h
	}
	for r := range p.Rules.All() {
		f := &ruleFacts{Rule: r, host: sourceHost(r.Source), watch: states[r.Name]}
		f.up = hosts[f.host]
		f.set, _ = auth.As[*auth.CredentialSet](r.Auth)
		list = append(list, f)
	}
	return list
}

// sourceHost returns the canonical host of a source.
func sourceHost(source string) string {
	name, _, _ := strings.Cut(source, "/")
	if host, err := rule.CanonicalHost(name); err == nil {
		return host
	}
	return name
}

// health says how a rule is: by its credentials, its upstream, and its last pulls.
func (f *ruleFacts) health(now time.Time) (s state, why string) {
	if f.set != nil && f.set.Health().Status == auth.Unhealthy {
		return state{bad, "Credentials"}, f.set.Health().Message
	}
	if f.up != nil {
		if s := hostWord(f.up.Status); s.Level.rank() < good.rank() {
			return state{s.Level, "Upstream " + strings.ToLower(s.Word)}, ""
		}
	}
	if t := f.watch.Trouble; t != nil && now.Sub(t.Time) < troubleAge {
		return state{warn, "Trouble"}, t.Why
	}
	if f.watch.LastPull.IsZero() {
		return state{idle, "Not pulled yet"}, ""
	}
	return state{good, "Works"}, ""
}

// authText says how a rule authenticates. It has names only, and never a secret.
func (f *ruleFacts) authText() string {
	switch {
	case f.Auth == nil:
		return "Anonymous"
	case f.set != nil:
		return "Credentials " + cmp.Or(f.set.Name, "without a name")
	}
	if id, ok := auth.As[interface {
		auth.Authenticator
		ResourceID() string
	}](f.Auth); ok {
		name := id.ResourceID()
		return "Identity " + name[strings.LastIndexByte(name, '/')+1:]
	}
	if _, ok := f.Auth.(auth.FederatedIdentity); ok {
		return "Federated identity"
	}
	if _, ok := f.Auth.(auth.Anonymous); ok {
		return "Anonymous"
	}
	return "Of its own"
}

// contains reports whether a rule has a text in what the page shows of it.
func (f *ruleFacts) contains(text string) bool {
	for _, field := range []string{f.Name, f.Source, f.Target, f.authText()} {
		if strings.Contains(strings.ToLower(field), text) {
			return true
		}
	}
	return false
}

// viewRules selects the rules of a page. Those in trouble come first.
func viewRules(rules []*ruleFacts, q query, now time.Time) rulesView {
	v := rulesView{All: len(rules), Filter: q.get(keyRules), Hidden: q.others(keyRules)}
	type judged struct {
		*ruleFacts
		state state
		why   string
	}
	var found []judged
	for _, f := range rules {
		s, why := f.health(now)
		if s.Level.rank() < good.rank() && (v.Level == "" || s.Level.rank() < v.Level.rank()) {
			v.Level = s.Level
		}
		if v.Filter == "" || f.contains(strings.ToLower(v.Filter)) {
			found = append(found, judged{f, s, why})
		}
	}
	slices.SortFunc(found, func(a, b judged) int {
		return cmp.Or(cmp.Compare(a.state.Level.rank(), b.state.Level.rank()), strings.Compare(a.Name, b.Name))
	})
	first := min(q.number(keyRulePage)-1, max(0, len(found)-1)/ruleRows)
	from, to := first*ruleRows, min(len(found), (first+1)*ruleRows)
	if first > 0 {
		v.Prev = q.link("rules", keyRulePage, formatPage(first))
	}
	if to < len(found) {
		v.Next = q.link("rules", keyRulePage, formatPage(first+2))
	}
	for _, f := range found[from:to] {
		row := ruleRow{Name: f.Name, Source: f.Source, Target: f.Target, Auth: f.authText(), State: f.state, Why: short(f.why, 300), LastPull: moment(f.watch.LastPull, now)}
		row.Pulls = formatNumber(f.watch.Requests())
		if r, ok := f.watch.HitRatio(); ok {
			row.Ratio = formatPercent(r)
		}
		v.Rows = append(v.Rows, row)
	}
	if len(v.Rows) < len(found) {
		v.Shown = "Showing " + formatNumber(from+1) + " to " + formatNumber(to) + " of " + formatNumber(len(found))
	}
	return v
}

// formatPage writes the number of a page, of which the first is not written.
func formatPage(n int) string {
	if n <= 1 {
		return ""
	}
	return formatNumber(n)
}
