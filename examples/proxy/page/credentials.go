package page

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/auth"
)

// credentialRows is how many credential sets the page shows at most.
const credentialRows = 50

// credentialsView is the section of credential sets.
type credentialsView struct {
	Level level
	All   int
	Rows  []credentialRow
	Shown string

	troubled []credentialRow
}

// credentialRow is one credential set. It never has a secret, nor a user name.
type credentialRow struct {
	Name, LoginServer string
	State             state
	Since             when
	Why               string
	Code              string
	Rules             int
}

// viewCredentials gathers the credential sets. Those in trouble come first.
func (p *Page) viewCredentials(rules []*ruleFacts, now time.Time) credentialsView {
	uses := map[*auth.CredentialSet]int{}
	if p.Credentials != nil {
		for _, set := range p.Credentials() {
			uses[set] = 0
		}
	}
	for _, f := range rules {
		if f.set != nil {
			uses[f.set]++
		}
	}
	v := credentialsView{All: len(uses)}
	rows := make([]credentialRow, 0, len(uses))
	for set, n := range maps.All(uses) {
		h := set.Health()
		row := credentialRow{Name: set.Name, LoginServer: set.LoginServer, Rules: n, Since: moment(h.Since, now), Why: short(h.Message, 300), Code: string(h.Code)}
		switch h.Status {
		case auth.Healthy:
			row.State = state{good, "Healthy"}
		case auth.Unhealthy:
			row.State, v.Level = state{bad, credentialWord(h.Code)}, bad
			v.troubled = append(v.troubled, row)
		default:
			row.State = state{idle, "Not used yet"}
		}
		rows = append(rows, row)
	}
	byTrouble := func(a, b credentialRow) int {
		return cmp.Or(cmp.Compare(a.State.Level.rank(), b.State.Level.rank()), strings.Compare(a.Name, b.Name))
	}
	slices.SortFunc(rows, byTrouble)
	slices.SortFunc(v.troubled, byTrouble)
	v.Rows = rows[:min(len(rows), credentialRows)]
	v.Shown = shown(len(v.Rows), len(rows))
	return v
}

// credentialWord is the word for what is wrong with a credential set.
func credentialWord(code auth.HealthCode) string {
	switch code {
	case auth.CodeUsername:
		return "User name unreadable"
	case auth.CodePassword:
		return "Password unreadable"
	case auth.CodeRefused:
		return "Refused"
	}
	return "Unhealthy"
}

// credentialNotices say which credential sets do not work.
func credentialNotices(v credentialsView) []notice {
	const most = 3
	if n := len(v.troubled); n > most {
		return []notice{{
			Level: bad, Title: noun(n, "credential set") + " do not work", Section: "credentials", Link: "See which",
			Text: "Pulls by the rules that use them fail or are answered from the store.",
		}}
	}
	var list []notice
	for _, row := range v.troubled {
		list = append(list, notice{
			Level: bad, Title: "Credentials " + row.Name + " do not work", Detail: row.Why, Section: "credentials", Link: "See the set",
			Text: "Pulls by " + noun(row.Rules, "rule") + " need them. A new secret takes effect at its next use, or after SIGHUP.",
		})
	}
	return list
}
