package admin

import (
	"net/http"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/rule"
)

// rules answers GET rules.
func (a *API) rules(r *http.Request) (any, error) {
	q, err := parameters(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	most, err := limit(q)
	if err != nil {
		return nil, err
	}
	list := RuleList{Rules: []Rule{}}
	if a.Rules == nil {
		return list, nil
	}
	last, _ := a.look(r.Context(), 0)
	for one := range a.Rules.All() {
		if one.Name <= q.Get("after") {
			continue
		}
		if len(list.Rules) == most {
			list.Next = list.Rules[most-1].Name
			break
		}
		out := ruleOf(one)
		if last != nil && last.err == nil {
			n := last.sizes.Rules[one.Name]
			out.Bytes = &n
		}
		list.Rules = append(list.Rules, out)
	}
	return list, nil
}

// ruleOf is a rule in JSON, without what may be secret.
func ruleOf(r rule.Rule) Rule {
	return Rule{
		Name: r.Name, Source: r.Source, Target: r.Target, Authentication: authenticationOf(r.Auth),
		Freshness: durationOf(r.Freshness), MaxStale: durationOf(r.MaxStale), RequireAccess: r.RequireAccess,
		Platforms: r.Platforms, Referrers: r.Referrers,
	}
}

// durationOf writes a duration of a rule: empty if it is the general one or there is none,
// and 0s if it is negative.
func durationOf(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return max(d, 0).String()
}

// authenticationOf describes an authenticator. It returns nil for anonymous pulls.
func authenticationOf(a auth.Authenticator) *Authentication {
	switch a := a.(type) {
	case nil:
		return nil
	case *auth.CredentialSet:
		h := a.Health()
		return &Authentication{Kind: "credentials", Name: a.Name, Health: string(h.Status), HealthMessage: bound(h.Message, maxText), Since: h.Since}
	case *azure.UserAssigned:
		return &Authentication{Kind: "identity", Name: a.ResourceID()}
	case auth.FederatedIdentity:
		return &Authentication{Kind: "federatedIdentity", Name: a.ClientID}
	}
	return &Authentication{Kind: "other"}
}
