package main

import (
	"strings"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/rule"
)

// newRules makes the rule set. Each rule is judged alone first, then together
// with the good ones above it: so every fault has a line, and a rule with a
// fault does not cause more of them. That is quadratic, but only as long as
// something is wrong.
func newRules(list []ruleConfig, sets map[string]*auth.CredentialSet, found *mistakes) *rule.Set {
	before := found.count()
	var all []rule.Rule
	for _, rc := range list {
		all = append(all, rc.rule(sets, found))
	}
	if found.count() == before {
		if set, err := rule.NewSet(all...); err == nil {
			return set
		}
	}
	var good []rule.Rule
	for i, rc := range list {
		if !rc.complete() || !rc.judge(found, all[i]) || !rc.judge(found, append(good, all[i])...) {
			continue
		}
		good = append(good, all[i])
	}
	return nil
}

// complete reports whether there is enough of a rule to judge it. What is
// missing was noted when it was read.
func (rc ruleConfig) complete() bool {
	return rc.name.text != "" && rc.source.text != "" && rc.target.text != ""
}

// judge notes what is wrong with rules as a set, at the lines of this one.
func (rc ruleConfig) judge(found *mistakes, rules ...rule.Rule) bool {
	_, err := rule.NewSet(rules...)
	for _, fault := range split(err) {
		at, text := rc.place, fault.Error()
		if e, ok := fault.(*rule.Error); ok {
			at, text = rc.at(e.Field), e.Message+" ("+string(e.Code)+")"
		}
		found.add(at, "%s", text)
	}
	return err == nil
}

// at returns where a field of the library's rule stands in the file.
func (rc ruleConfig) at(field string) place {
	key := map[string]word{"name": rc.name, "source": rc.source, "target": rc.target, "auth": rc.credentials}[field]
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
func (rc ruleConfig) rule(sets map[string]*auth.CredentialSet, found *mistakes) rule.Rule {
	r := rule.Rule{
		Name:          rc.name.text,
		Source:        rc.source.text,
		Target:        rc.target.text,
		Freshness:     rc.freshness,
		MaxStale:      rc.maxStale,
		RequireAccess: rc.requireAccess,
	}
	if rc.credentials.text == "" {
		return r
	}
	set := sets[rc.credentials.text]
	if set == nil {
		found.add(rc.credentials.place, "no credentials are called %q", rc.credentials.text)
		// Something that fits everywhere, so that the set does not also
		// complain of a rule without credentials.
		set = &auth.CredentialSet{LoginServer: host(rc.source.text)}
	}
	r.Auth = set
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
