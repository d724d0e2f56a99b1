package main

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/rule"
)

// proofs is what rules may prove themselves with.
type proofs struct {
	sets       map[string]*auth.CredentialSet
	identities *azure.Identities
	sources    azure.Sources
}

// options are those of the rule set.
func (c *config) options(p proofs) rule.Options {
	return rule.Options{Nested: c.nested, Check: p.sources.Check}
}

// newRules makes the rule set. If it is refused, every fault gets a line: those
// of each rule by itself, then those between it and the rules above it. That is
// quadratic, but only as long as something is wrong.
func newRules(c *config, p proofs, found *mistakes) *rule.Set {
	o := c.options(p)
	var all []rule.Rule
	for _, rc := range c.rules {
		all = append(all, rc.rule(c.freshness, p, found))
	}
	set, err := o.NewSet(all...)
	if err == nil {
		return set
	}
	if errors.Is(err, rule.CodeRuleLimit) {
		found.add(c.rules[rule.DefaultMaxRules].place, "is one rule too many: %d are allowed", rule.DefaultMaxRules)
	}
	noted := 0 // how many faults there are between the rules above
	for i, rc := range c.rules {
		own, _ := faults(o, all[i])
		_, between := faults(o, all[:i+1]...)
		for _, one := range append(own, between[noted:]...) {
			rc.note(one, found)
		}
		noted = len(between)
	}
	return nil
}

// faults returns what is wrong with rules, each by itself, and what is wrong
// between them, in their order.
func faults(o rule.Options, rules ...rule.Rule) (own, between []error) {
	_, err := o.NewSet(rules...)
	for _, one := range split(err) {
		if errors.Is(one, rule.CodeRuleExists) || errors.Is(one, rule.CodeOverlap) {
			between = append(between, one)
		} else {
			own = append(own, one)
		}
	}
	return own, between
}

// note notes a fault at its line. What is wrong with a key that is missing or
// empty was noted when it was read.
func (rc ruleConfig) note(fault error, found *mistakes) {
	e, ok := fault.(*rule.Error)
	if !ok {
		found.add(rc.place, "%v", fault)
		return
	}
	words := map[string]word{"name": rc.name, "source": rc.source, "target": rc.target}
	if w, ok := words[e.Field]; ok && w.text == "" {
		return
	}
	found.add(rc.at(e.Field), "%s (%s)", e.Message, e.Code)
}

// at returns where a field of the library's rule stands in the file.
func (rc ruleConfig) at(field string) place {
	if field == "platforms" {
		return rc.wrongPlatform()
	}
	proof := rc.credentials.place
	switch {
	case rc.identity.given():
		proof = rc.identity.place
	case rc.federated.given():
		proof = rc.federated.place
	}
	at := map[string]place{"name": rc.name.place, "source": rc.source.place, "target": rc.target.place, "auth": proof}[field]
	if at.line == 0 {
		return rc.place
	}
	return at
}

// wrongPlatform returns where the first platform stands that is none even alone;
// else what is wrong is the list.
func (rc ruleConfig) wrongPlatform() place {
	for _, w := range rc.platforms.list {
		_, err := rule.NewSet(rule.Rule{Name: "x", Source: "localhost/x", Target: "x", Platforms: []string{w.text}})
		if err != nil && w.text != "" { // an empty one was noted when it was read
			return w.place
		}
	}
	return rc.platforms.place
}

// platformList returns the library's form; nil: what is pulled.
func (rc ruleConfig) platformList() []string {
	var list []string
	for _, w := range rc.platforms.list {
		if w.text != "" {
			list = append(list, w.text)
		}
	}
	return list
}

// split takes joined errors apart, down to the faults of package rule, which
// themselves wrap several errors.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if _, leaf := err.(*rule.Error); leaf || !ok {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, split(one)...)
	}
	return all
}

// rule returns the library's form and notes a proof that does not fit. The
// general freshness becomes that of every rule without its own, so that it may
// change while the cache serves.
func (rc ruleConfig) rule(general time.Duration, p proofs, found *mistakes) rule.Rule {
	return rule.Rule{
		Name:          rc.name.text,
		Source:        rc.source.text,
		Target:        rc.target.text,
		Auth:          rc.proof(p, found),
		Freshness:     cmp.Or(rc.freshness, general),
		MaxStale:      rc.maxStale,
		RequireAccess: rc.requireAccess,
		Platforms:     rc.platformList(),
		Referrers:     rc.referrers,
	}
}

// proof returns how a rule proves itself; nil: not at all. In place of what
// does not exist, which is noted, it is something that fits everywhere, so that
// the set does not also complain of a rule without credentials.
func (rc ruleConfig) proof(p proofs, found *mistakes) auth.Authenticator {
	standIn := &auth.CredentialSet{LoginServer: host(rc.source.text)}
	switch {
	case rc.identity.text != "":
		u, err := p.identities.UserAssigned(rc.identity.text)
		if err != nil {
			found.add(rc.identity.place, "%s", plain(err))
			return standIn
		}
		return u
	case rc.federated.given():
		return auth.FederatedIdentity{TenantID: rc.federated.tenant.text, ClientID: rc.federated.clientID.text}
	case rc.credentials.text != "":
		set := p.sets[rc.credentials.text]
		if set == nil {
			found.add(rc.credentials.place, "no credentials are called %q", rc.credentials.text)
			return standIn
		}
		return set
	}
	return nil
}

// host returns the canonical host of a source; empty if it has none.
func host(source string) string {
	name, _, _ := strings.Cut(source, "/")
	name, err := rule.CanonicalHost(name)
	if err != nil {
		return ""
	}
	return name
}
