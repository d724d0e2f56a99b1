package main

import (
	"net"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/rule"
)

// read fills c from the top of the document.
func (c *config) read(r reader, root *yaml.Node) {
	r.fields(root, place{line: root.Line}, map[string]read{
		"listen":      r.address(&c.listen),
		"admin":       r.address(&c.admin),
		"publicHost":  r.host(&c.publicHost),
		"tls":         c.tls.read(r),
		"store":       r.word(&c.store),
		"freshness":   r.freshness(&c.freshness),
		"nested":      r.flag(&c.nested),
		"rules":       r.list(c.readRule(r)),
		"credentials": r.list(c.readCredential(r)),
		"upstreams":   r.list(c.readUpstream(r)),
		"tenant":      r.word(&c.tenant),
		"cloud":       r.word(&c.cloud),
		"identities":  r.words(&c.identities),
		"webhooks":    r.list(c.readWebhook(r)),
	})
}

// read returns how a tls section is read.
func (t *tlsConfig) read(r reader) read {
	return func(n *yaml.Node, at place) {
		t.place = at
		r.fields(n, at, map[string]read{"cert": r.word(&t.cert), "key": r.word(&t.key)})
		r.require(at, "cert", t.cert)
		r.require(at, "key", t.key)
	}
}

// readRule reads one rule and appends it.
func (c *config) readRule(r reader) read {
	return func(n *yaml.Node, at place) {
		one := ruleConfig{place: at}
		r.fields(n, at, map[string]read{
			"name":              r.word(&one.name),
			"source":            r.word(&one.source),
			"target":            r.word(&one.target),
			"credentials":       r.word(&one.credentials),
			"identity":          r.word(&one.identity),
			"federatedIdentity": one.federated.read(r),
			"freshness":         r.zeroIsNever(&one.freshness),
			"maxStale":          r.zeroIsNever(&one.maxStale),
			"requireAccess":     r.flag(&one.requireAccess),
			"platforms":         one.platforms.read(r),
			"referrers":         r.flag(&one.referrers),
		})
		r.require(at, "name", one.name)
		r.require(at, "source", one.source)
		r.require(at, "target", one.target)
		one.proveOnce(r)
		c.rules = append(c.rules, one)
	}
}

// proveOnce notes a rule with more than one proof and leaves it one.
func (rc *ruleConfig) proveOnce(r reader) {
	if rc.identity.given() && rc.credentials.given() {
		r.add(rc.identity.place, "excludes credentials: a rule proves itself in one way")
		rc.identity = word{}
	}
	if !rc.federated.given() {
		return
	}
	for key, other := range map[string]word{"credentials": rc.credentials, "identity": rc.identity} {
		if other.given() { // one at most, after the above
			r.add(rc.federated.place, "excludes %s: a rule proves itself in one way", key)
			rc.federated = federatedConfig{}
		}
	}
}

// read returns how a federatedIdentity is read.
func (f *federatedConfig) read(r reader) read {
	return func(n *yaml.Node, at place) {
		f.place = at
		r.fields(n, at, map[string]read{"tenant": r.guid(&f.tenant), "clientID": r.guid(&f.clientID)})
		if resolve(n).Kind == yaml.MappingNode {
			r.require(at, "tenant", f.tenant)
			r.require(at, "clientID", f.clientID)
		}
	}
}

// read returns how platforms are read: a list, or one of the words that stand
// alone.
func (p *platformsConfig) read(r reader) read {
	return func(n *yaml.Node, at place) {
		p.place = at
		if n = resolve(n); n.Kind == yaml.ScalarNode && !isNull(n) {
			p.list = make([]word, 1)
			r.word(&p.list[0])(n, at)
			return
		}
		r.some(r.words(&p.list), func() int { return len(p.list) })(n, at)
	}
}

// readCredential reads one credential set and appends it.
func (c *config) readCredential(r reader) read {
	return func(n *yaml.Node, at place) {
		one := credentialConfig{place: at}
		r.fields(n, at, map[string]read{
			"name":        r.word(&one.name),
			"loginServer": r.word(&one.loginServer),
			"username":    one.username.read(r),
			"password":    one.password.read(r),
			"identity":    r.word(&one.identity),
		})
		r.require(at, "name", one.name)
		r.require(at, "loginServer", one.loginServer)
		if one.identity.given() && !one.username.keyVault.given() && !one.password.keyVault.given() {
			r.add(one.identity.place, "reads nothing: neither secret is in a keyVault")
		}
		for key, s := range map[string]secretConfig{"username": one.username, "password": one.password} {
			if s.line == 0 {
				r.add(at, "%s is missing", key)
			}
		}
		c.credentials = append(c.credentials, one)
	}
}

// read returns how a secret is read.
func (s *secretConfig) read(r reader) read {
	return func(n *yaml.Node, at place) {
		s.choose(r, n, at, "value, env, file and keyVault", map[string]read{
			"value":    r.word(&s.value),
			"env":      r.word(&s.env),
			"file":     r.word(&s.file),
			"keyVault": r.word(&s.keyVault),
		})
	}
}

// choose reads one of the known keys, which are called so.
func (s *secretConfig) choose(r reader, n *yaml.Node, at place, called string, known map[string]read) {
	s.place = at
	before := r.count()
	r.fields(n, at, known)
	given := 0
	for _, w := range []word{s.value, s.env, s.file, s.keyVault} {
		if w.given() {
			given++
		}
	}
	if given > 1 || given == 0 && r.count() == before {
		r.add(at, "wants exactly one of %s", called)
	}
}

// readUpstream reads one upstream host and appends it.
func (c *config) readUpstream(r reader) read {
	return func(n *yaml.Node, at place) {
		one := upstreamConfig{place: at}
		r.fields(n, at, map[string]read{
			"host":        r.word(&one.host),
			"plainHTTP":   r.flag(&one.plainHTTP),
			"ca":          r.word(&one.ca),
			"realms":      r.words(&one.realms),
			"redirects":   r.words(&one.redirects),
			"anyUpstream": r.flag(&one.anyUpstream),
			"azure":       one.azure.read(r),
		})
		r.require(at, "host", one.host)
		if one.plainHTTP && one.ca.given() {
			r.add(one.ca.place, "makes no sense with plainHTTP: there is no certificate to check")
			one.ca.text = ""
		}
		c.upstreams = append(c.upstreams, one)
	}
}

// read returns how an azure section is read.
func (a *azureConfig) read(r reader) read {
	return func(n *yaml.Node, at place) {
		a.place = at
		r.fields(n, at, map[string]read{
			"tenant":          r.word(&a.tenant),
			"network":         r.word(&a.network),
			"trustedServices": r.flag(&a.trustedServices),
		})
	}
}

// guid reads a GUID.
func (r reader) guid(to *word) read {
	return func(n *yaml.Node, at place) {
		r.word(to)(n, at)
		if ok, _ := regexp.MatchString(guidPattern, to.text); to.text != "" && !ok {
			r.add(at, "%q is no GUID", to.text)
		}
	}
}

const guidPattern = `^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`

// words reads a list of texts.
func (r reader) words(to *[]word) read {
	return r.list(func(n *yaml.Node, at place) {
		var w word
		r.word(&w)(n, at)
		*to = append(*to, w)
	})
}

// some reads a list that must not be empty.
func (r reader) some(list read, length func() int) read {
	return func(n *yaml.Node, at place) {
		before := r.count()
		list(n, at)
		if length() == 0 && r.count() == before {
			r.add(at, "is empty")
		}
	}
}

// require notes a mandatory key that is not there.
func (r reader) require(at place, key string, w word) {
	if !w.given() {
		r.add(at, "%s is missing", key)
	}
}

// address reads host:port.
func (r reader) address(to *word) read {
	return func(n *yaml.Node, at place) {
		r.word(to)(n, at)
		if to.text == "" {
			return
		}
		_, port, err := net.SplitHostPort(to.text)
		if err != nil {
			r.add(at, "%q is not an address such as 127.0.0.1:5000", to.text)
			return
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			r.add(at, "%q is not a port", port)
		}
	}
}

// host reads a host, with a port or without, in its canonical form.
func (r reader) host(to *word) read {
	return func(n *yaml.Node, at place) {
		r.word(to)(n, at)
		if to.text == "" {
			return
		}
		name, err := rule.CanonicalHost(to.text)
		if err != nil {
			r.add(at, "%q is neither HOST nor HOST:PORT, such as cache.example.com or cache.example.com:5000", to.text)
		}
		to.text = name
	}
}

// freshness reads a duration that must not be negative.
func (r reader) freshness(to *time.Duration) read {
	return func(n *yaml.Node, at place) {
		r.duration(to)(n, at)
		if *to < 0 {
			r.add(at, "must not be negative")
		}
	}
}

// zeroIsNever reads a duration of a rule. There an absent key means the
// general setting, while somebody who writes 0s means "not a moment", which
// the library spells as a negative duration.
func (r reader) zeroIsNever(to *time.Duration) read {
	return func(n *yaml.Node, at place) {
		before := r.count()
		r.freshness(to)(n, at)
		if *to == 0 && r.count() == before {
			*to = -1
		}
	}
}
