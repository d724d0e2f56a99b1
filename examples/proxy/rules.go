package main

import (
	"strings"

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
func newRules(list []ruleConfig, p proofs, found *mistakes) *rule.Set {
	before := found.count()
	var all []rule.Rule
	for _, rc := range list {
		all = append(all, rc.rule(p, found))
	}
	if found.count() == before {
		if set, err := p.options().NewSet(all...); err == nil {
			return set
		}
	}
	var above []rule.Rule
	for i, rc := range list {
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
	proof := rc.credentials
	if rc.identity.given() {
		proof = rc.identity
	}
	key := map[string]word{"name": rc.name, "source": rc.source, "target": rc.target, "auth": proof}[field]
	if key.given() {
		return key.place
	}
	return rc.place
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

// rule returns the library's form and notes credentials that do not fit.
func (rc ruleConfig) rule(p proofs, found *mistakes) rule.Rule {
	r := rule.Rule{
		Name:          rc.name.text,
		Source:        rc.source.text,
		Target:        rc.target.text,
		Freshness:     rc.freshness,
		MaxStale:      rc.maxStale,
		RequireAccess: rc.requireAccess,
	}
	// Something that fits everywhere, in place of what does not exist, so that
	// the set does not also complain of a rule without credentials.
	standIn := &auth.CredentialSet{LoginServer: host(rc.source.text)}
	if rc.identity.text != "" {
		u, err := p.identities.UserAssigned(rc.identity.text)
		if r.Auth = u; err != nil {
			found.add(rc.identity.place, "%s", plain(err))
			r.Auth = standIn
		}
		return r
	}
	if rc.credentials.text == "" {
		return r
	}
	r.Auth = standIn
	if set := p.sets[rc.credentials.text]; set != nil {
		r.Auth = set
	} else {
		found.add(rc.credentials.place, "no credentials are called %q", rc.credentials.text)
	}
	return r
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
