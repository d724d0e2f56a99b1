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

// proofs holds what rules may authenticate with.
type proofs struct {
	sets       map[string]*auth.CredentialSet
	identities *azure.Identities
	sources    azure.Sources
}

// options returns the options of the rule set.
func (c *config) options(p proofs) rule.Options {
	return rule.Options{Nested: c.nested, Check: p.sources.Check}
}

// newRules returns the rule set. If the library refuses it, newRules notes the faults of each
// rule by itself, and those between it and the rules above it. That takes quadratic time, but
// only for a file with mistakes.
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
		found.add(c.rules[rule.DefaultMaxRules].position, "is one rule too many: %d are allowed", rule.DefaultMaxRules)
	}
	noted := 0 // how many faults between the rules above have been noted
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

// faults returns the faults of rules by themselves, and those between them, in their order.
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

// note notes a fault at its line. Faults of a missing or empty key were noted when the file
// was read.
func (rc ruleConfig) note(fault error, found *mistakes) {
	e, ok := fault.(*rule.Error)
	if !ok {
		found.add(rc.position, "%v", fault)
		return
	}
	words := map[string]word{"name": rc.name, "source": rc.source, "target": rc.target}
	if w, ok := words[e.Field]; ok && w.text == "" {
		return
	}
	found.add(rc.positionOf(e.Field), "%s (%s)", e.Message, e.Code)
}

// positionOf returns the position of a field of the library's rule in the file.
func (rc ruleConfig) positionOf(field string) position {
	if field == "platforms" {
		return rc.platforms.wrong()
	}
	proof := rc.credentials.position
	switch {
	case rc.identity.given():
		proof = rc.identity.position
	case rc.federated.given():
		proof = rc.federated.position
	}
	pos := map[string]position{"name": rc.name.position, "source": rc.source.position, "target": rc.target.position, "auth": proof}[field]
	if pos.line == 0 {
		return rc.position
	}
	return pos
}

// wrong returns the position of the first platform that is not valid by itself, or
// else that of the list.
func (p platformsConfig) wrong() position {
	for _, w := range p.list {
		_, err := rule.NewSet(rule.Rule{Name: "x", Source: "localhost/x", Target: "x", Platforms: []string{w.text}})
		if err != nil && w.text != "" { // an empty one was noted when it was read
			return w.position
		}
	}
	return p.position
}

// split returns the parts of joined errors. It does not split the faults of package rule,
// which wrap several errors too.
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

// rule returns the rule for the library. Every rule without a freshness of its own gets the
// general one, so that a reload can change it.
func (rc ruleConfig) rule(general time.Duration, p proofs, found *mistakes) rule.Rule {
	return rule.Rule{
		Name:          rc.name.text,
		Source:        rc.source.text,
		Target:        rc.target.text,
		Auth:          rc.proof(p, found),
		Freshness:     cmp.Or(rc.freshness, general),
		MaxStale:      rc.maxStale,
		RequireAccess: rc.requireAccess,
		Platforms:     rc.platforms.texts(),
		Referrers:     rc.referrers,
	}
}

// proof returns the authenticator of a rule, or nil for anonymous pulls. For one that does
// not exist, it notes that and returns a stand-in, so that the set does not also complain of
// a rule without credentials.
func (rc ruleConfig) proof(p proofs, found *mistakes) auth.Authenticator {
	standIn := &auth.CredentialSet{LoginServer: host(rc.source.text)}
	switch {
	case rc.identity.text != "":
		u, err := p.identities.UserAssigned(rc.identity.text)
		if err != nil {
			found.add(rc.identity.position, "%s", plain(err))
			return standIn
		}
		return u
	case rc.federated.given():
		return auth.FederatedIdentity{TenantID: rc.federated.tenant.text, ClientID: rc.federated.clientID.text}
	case rc.credentials.text != "":
		set := p.sets[rc.credentials.text]
		if set == nil {
			found.add(rc.credentials.position, "no credentials are called %q", rc.credentials.text)
			return standIn
		}
		return set
	}
	return nil
}

// host returns the canonical host of a source, or an empty string if it has none.
func host(source string) string {
	name, _, _ := strings.Cut(source, "/")
	name, err := rule.CanonicalHost(name)
	if err != nil {
		return ""
	}
	return name
}
