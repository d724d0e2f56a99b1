package main

import (
	"cmp"
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

func (p proofs) options() rule.Options { return rule.Options{Check: p.sources.Check} }

// newRules makes the rule set. Each rule is judged alone first, then together
// with the good ones above it: so every fault has a line, and a rule with a
// fault does not cause more of them. That is quadratic, but only as long as
// something is wrong.
func newRules(c *config, p proofs, found *mistakes) *rule.Set {
	before := found.count()
	var all []rule.Rule
	for _, rc := range c.rules {
		all = append(all, rc.rule(c.freshness, p, found))
	}
	if found.count() == before {
		if set, err := p.options().NewSet(all...); err == nil {
			return set
		}
	}
	var above []rule.Rule
	for i, rc := range c.rules {
		if !rc.complete() || !rc.judge(p.options(), found, all[i]) {
			continue
		}
		// Alone it is right, but for credentials perhaps: they are noted, and
		// say nothing about what the rule covers.
		one := all[i]
		one.Auth = &auth.CredentialSet{LoginServer: host(one.Source)}
		if rc.judge(rule.Options{}, found, append(above, one)...) {
			above = append(above, one)
		}
	}
	return nil
}

// complete reports whether there is enough of a rule to judge it. What is
// missing was noted when it was read.
func (rc ruleConfig) complete() bool {
	return rc.name.text != "" && rc.source.text != "" && rc.target.text != ""
}

// judge notes what is wrong with rules as a set, at the lines of this one. It
// reports whether nothing but the proof to the upstream is wrong.
func (rc ruleConfig) judge(o rule.Options, found *mistakes, rules ...rule.Rule) bool {
	_, err := o.NewSet(rules...)
	good := true
	for _, fault := range split(err) {
		at, text := rc.place, fault.Error()
		e, ok := fault.(*rule.Error)
		if ok {
			at, text = rc.at(e.Field), e.Message+" ("+string(e.Code)+")"
		}
		good = good && ok && aboutAuth(e.Code)
		found.add(at, "%s", text)
	}
	return good
}

// aboutAuth reports whether a code is about how a rule proves itself.
func aboutAuth(c rule.Code) bool {
	return c == rule.CodeAuthenticator || c == rule.CodeUpstreamAuthentication || c == rule.CodeAuthenticationUnsupported
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
