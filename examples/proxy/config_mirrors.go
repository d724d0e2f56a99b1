package main

import (
	"log/slog"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/examples/proxy/bandwidth"
	"github.com/pullthrough/pullthrough/examples/proxy/mirror"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// maxMirrors is how many mirrors a host may have: each may cost a client mirror.Patience.
const maxMirrors = 4

// mirrorConfig is one element of mirrors.
type mirrorConfig struct {
	position
	host, credentials word
	tags              bool
}

// readMirror reads one mirror, which may be a text, and appends it.
func (u *upstreamConfig) readMirror(r reader) read {
	return func(n *yaml.Node, pos position) {
		one := mirrorConfig{position: pos}
		keys := one.readKeys(r)
		if r.describes(pos, r.word(nil), keys) {
			return
		}
		if resolve(n).Kind == yaml.ScalarNode {
			r.word(&one.host)(n, pos)
		} else {
			keys(n, pos)
		}
		u.mirrors = append(u.mirrors, one)
	}
}

// readKeys returns the read of a mirror with keys.
func (m *mirrorConfig) readKeys(r reader) read {
	return func(n *yaml.Node, pos position) {
		r.fields(n, pos, map[string]read{
			"host":        r.word(&m.host),
			"credentials": r.word(&m.credentials),
			"tags":        r.flag(&m.tags),
		})
		if r.sketch != nil || resolve(n).Kind == yaml.MappingNode {
			r.require(pos, "host", m.host)
		}
	}
}

// newMirrors returns the mirrors by the hosts that they are of.
func newMirrors(list []upstreamConfig, sets map[string]*auth.CredentialSet, found *mistakes) map[string][]mirror.Mirror {
	all := map[string][]mirror.Mirror{}
	for _, u := range list {
		of := host(u.host.text)
		lines := map[string]int{}
		for i, one := range u.mirrors {
			m, ok := one.mirror(sets, found)
			if !ok {
				continue
			}
			name := m.Host + "/" + m.Prefix
			switch line := lines[name]; {
			case m.Host == of:
				found.add(one.host.position, "is the host itself, which is asked last anyway")
			case line != 0:
				found.add(one.host.position, "is given in line %d already", line)
			case i == maxMirrors:
				found.add(one.position, "is one mirror too many: %d are allowed, since each may keep a client waiting", maxMirrors)
			}
			lines[name] = one.line
			all[of] = append(all[of], m)
		}
	}
	return all
}

// mirror returns a mirror for the library, and false if it has a mistake.
func (m mirrorConfig) mirror(sets map[string]*auth.CredentialSet, found *mistakes) (mirror.Mirror, bool) {
	if m.host.text == "" {
		return mirror.Mirror{}, false // noted when it was read
	}
	name, prefix, _ := strings.Cut(m.host.text, "/")
	name, err := rule.CanonicalHost(name)
	if err == nil && strings.Contains(m.host.text, "/") {
		_, err = new(upstream.Client).Open(upstream.Source{Host: name, Repository: prefix}, nil)
	}
	if err != nil {
		found.add(m.host.position, "%q is neither HOST nor HOST/PREFIX, such as mirror.example.com/hub", m.host.text)
		return mirror.Mirror{}, false
	}
	one := mirror.Mirror{Host: name, Prefix: prefix, Tags: m.tags}
	if m.credentials.text == "" {
		return one, true
	}
	switch set := sets[m.credentials.text]; {
	case set == nil:
		found.add(m.credentials.position, "no credentials are called %q", m.credentials.text)
		return mirror.Mirror{}, false
	case set.LoginServer != name:
		found.add(m.credentials.position, "are for %s, and not for %s", set.LoginServer, name)
		return mirror.Mirror{}, false
	default:
		one.Auth = set
	}
	return one, true
}

// opener returns what opens upstream repositories for the cache: within the limits, and from
// mirrors first.
func (l *live) opener(c *upstream.Client, log *slog.Logger) upstream.Opener {
	l.mirrors.Opener, l.mirrors.Log = &bandwidth.Upstream{Opener: c, All: &l.rates.upstream, Hosts: &l.rates.hosts}, log
	return &l.mirrors
}
