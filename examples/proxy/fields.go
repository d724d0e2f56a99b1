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
	r.fields(root, position{line: root.Line}, map[string]read{
		"listen":      r.address(&c.listen),
		"admin":       r.address(&c.admin),
		"adminAccess": c.adminAccess.read(r),
		"debug":       c.debug.read(r),
		"id":          r.like(r.word(&c.id), `^[A-Za-z0-9._:-]{1,128}$`),
		"publicHost":  r.host(&c.publicHost),
		"tls":         c.tls.read(r),
		"store":       r.like(r.word(&c.store), `^(dir:.+|mem:?)$`),
		"far":         c.far.read(r),
		"eviction":    c.eviction.read(r),
		"freshness":   r.freshness(&c.freshness),
		"nested":      r.flag(&c.nested),
		"drain":       c.readDrain(r),
		"rules":       r.list(c.readRule(r)),
		"credentials": r.list(c.readCredential(r)),
		"upstreams":   r.list(c.readUpstream(r)),
		"tenant":      r.like(r.word(&c.tenant), guidPattern),
		"cloud":       r.among(r.word(&c.cloud), "AzureCloud", "AzureChinaCloud", "AzureUSGovernment"),
		"identities":  r.words(&c.identities),
		"webhooks":    r.list(c.readWebhook(r)),

		"access":         c.access.read(r),
		"limits":         c.limits.read(r),
		"trustedProxies": r.words(&c.trustedProxies),
		"bandwidth":      c.bandwidth.read(r),
		"prefetch":       r.list(c.readPrefetch(r)),
		"fleet":          c.fleet.read(r),
	})
}

// readDrain reads how long running responses have at the end. 0s is different from none.
func (c *config) readDrain(r reader) read {
	return func(n *yaml.Node, pos position) {
		c.drain = pos
		r.freshness(&c.drainTime)(n, pos)
	}
}

// read returns the read of a tls section.
func (t *tlsConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		t.position = pos
		r.fields(n, pos, map[string]read{"cert": r.word(&t.cert), "key": r.word(&t.key)})
		r.require(pos, "cert", t.cert)
		r.require(pos, "key", t.key)
	}
}

// readRule reads one rule and appends it.
func (c *config) readRule(r reader) read {
	return func(n *yaml.Node, pos position) {
		one := ruleConfig{position: pos}
		r.fields(n, pos, map[string]read{
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
			"maxBytes":          r.bytes(&one.maxBytes),
			"minAge":            r.minAge(&one.minAge),
			"gate":              one.gate.read(r),
		})
		r.require(pos, "name", one.name)
		r.require(pos, "source", one.source)
		r.require(pos, "target", one.target)
		one.authenticateOnce(r)
		c.rules = append(c.rules, one)
	}
}

// authenticateOnce notes a rule with more than one form of authentication, and removes all
// but one.
func (rc *ruleConfig) authenticateOnce(r reader) {
	if rc.identity.given() && rc.credentials.given() {
		r.add(rc.identity.position, "excludes credentials: a rule proves itself in one way")
		rc.identity = word{}
	}
	if !rc.federated.given() {
		return
	}
	for key, other := range map[string]word{"credentials": rc.credentials, "identity": rc.identity} {
		if other.given() { // at most one of them is left
			r.add(rc.federated.position, "excludes %s: a rule proves itself in one way", key)
			rc.federated = federatedConfig{}
		}
	}
}

// read returns the read of a federatedIdentity.
func (f *federatedConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		f.position = pos
		r.fields(n, pos, map[string]read{"tenant": r.guid(&f.tenant), "clientID": r.guid(&f.clientID)})
		if r.sketch != nil || resolve(n).Kind == yaml.MappingNode {
			r.require(pos, "tenant", f.tenant)
			r.require(pos, "clientID", f.clientID)
		}
	}
}

// read returns the read of platforms: a list, or one of the words that stand alone.
func (p *platformsConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		if r.describes(pos, r.word(nil), r.some(r.words(nil), nil)) {
			return
		}
		p.position = pos
		if n = resolve(n); n.Kind == yaml.ScalarNode && !isNull(n) {
			p.list = make([]word, 1)
			r.word(&p.list[0])(n, pos)
			return
		}
		r.some(r.words(&p.list), func() int { return len(p.list) })(n, pos)
	}
}

// readCredential reads one credential set and appends it.
func (c *config) readCredential(r reader) read {
	return func(n *yaml.Node, pos position) {
		one := credentialConfig{position: pos}
		r.fields(n, pos, map[string]read{
			"name":        r.word(&one.name),
			"loginServer": r.word(&one.loginServer),
			"username":    one.username.read(r),
			"password":    one.password.read(r),
			"identity":    r.word(&one.identity),
		})
		r.require(pos, "name", one.name)
		r.require(pos, "loginServer", one.loginServer)
		if one.identity.given() && !one.username.keyVault.given() && !one.password.keyVault.given() {
			r.add(one.identity.position, "reads nothing: neither secret is in a keyVault")
		}
		r.requireGiven(pos, "username", one.username.line != 0)
		r.requireGiven(pos, "password", one.password.line != 0)
		c.credentials = append(c.credentials, one)
	}
}

// read returns the read of a secret.
func (s *secretConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		s.choose(r, n, pos, "value, env, file and keyVault", map[string]read{
			"value":    r.word(&s.value),
			"env":      r.word(&s.env),
			"file":     r.word(&s.file),
			"keyVault": r.word(&s.keyVault),
		})
	}
}

// choose reads a mapping that must have exactly one of the known keys. called names these
// keys in the mistake.
func (s *secretConfig) choose(r reader, n *yaml.Node, pos position, called string, known map[string]read) {
	s.position = pos
	before := r.count()
	r.fields(n, pos, known)
	if r.sketch != nil {
		r.describeChoice(pos)
		return
	}
	given := 0
	for _, w := range []word{s.value, s.env, s.file, s.keyVault} {
		if w.given() {
			given++
		}
	}
	if given > 1 || given == 0 && r.count() == before {
		r.add(pos, "wants exactly one of %s", called)
	}
}

// readUpstream reads one upstream host and appends it.
func (c *config) readUpstream(r reader) read {
	return func(n *yaml.Node, pos position) {
		one := upstreamConfig{position: pos}
		r.fields(n, pos, map[string]read{
			"host":        r.word(&one.host),
			"plainHTTP":   r.flag(&one.plainHTTP),
			"ca":          r.word(&one.ca),
			"realms":      r.words(&one.realms),
			"redirects":   r.words(&one.redirects),
			"anyUpstream": r.flag(&one.anyUpstream),
			"azure":       one.azure.read(r),
			"clientCert":  one.clientCert.read(r),
			"bandwidth":   r.bandwidth(&one.bandwidth),
			"mirrors":     r.list(one.readMirror(r)),
			"keepBudget":  r.number(&one.keepBudget),
		})
		r.require(pos, "host", one.host)
		if one.plainHTTP && one.ca.given() {
			r.add(one.ca.position, "makes no sense with plainHTTP: there is no certificate to check")
			one.ca.text = ""
		}
		c.upstreams = append(c.upstreams, one)
	}
}

// read returns the read of an azure section.
func (a *azureConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		a.position = pos
		r.fields(n, pos, map[string]read{
			"tenant":          r.like(r.word(&a.tenant), guidPattern),
			"network":         r.among(r.word(&a.network), "public", "selected", "privateLink"),
			"trustedServices": r.flag(&a.trustedServices),
		})
	}
}

// guid reads a GUID.
func (r reader) guid(to *word) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, guidPattern, "string")
			return
		}
		r.word(to)(n, pos)
		if ok, _ := regexp.MatchString(guidPattern, to.text); to.text != "" && !ok {
			r.add(pos, "%q is no GUID", to.text)
		}
	}
}

const guidPattern = `^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`

// words reads a list of texts.
func (r reader) words(to *[]word) read { return r.list(r.appended(to)) }

// appended reads a text and appends it.
func (r reader) appended(to *[]word) read {
	return func(n *yaml.Node, pos position) {
		var w word
		if r.word(&w)(n, pos); r.sketch == nil {
			*to = append(*to, w)
		}
	}
}

// some reads a list that must not be empty.
func (r reader) some(list read, length func() int) read {
	return func(n *yaml.Node, pos position) {
		before := r.count()
		list(n, pos)
		if r.sketch != nil {
			s := r.sketch.at(pos.key)
			s.Type, s.MinItems = []string{"array"}, 1
			return
		}
		if length() == 0 && r.count() == before {
			r.add(pos, "is empty")
		}
	}
}

// require notes a missing mandatory key.
func (r reader) require(pos position, key string, w word) { r.requireGiven(pos, key, w.given()) }

// requireGiven notes a mandatory key that is not given.
func (r reader) requireGiven(pos position, key string, given bool) {
	switch {
	case r.sketch != nil:
		r.describeRequired(pos, key)
	case !given:
		r.add(pos, "%s is missing", key)
	}
}

// address reads host:port.
func (r reader) address(to *word) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, `:`+portPattern+`$`, "string")
			return
		}
		r.word(to)(n, pos)
		if to.text == "" {
			return
		}
		_, port, err := net.SplitHostPort(to.text)
		if err != nil {
			r.add(pos, "%q is not an address such as 127.0.0.1:5000", to.text)
			return
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			r.add(pos, "%q is not a port", port)
		}
	}
}

// portPattern matches the numbers of ports.
const portPattern = `0*([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`

// host reads a host, with a port or without, in its canonical form.
func (r reader) host(to *word) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, `^(\[[0-9A-Fa-f:.]+\]|[^/\s:\[\]]+)(:`+portPattern+`)?$`, "string")
			return
		}
		r.word(to)(n, pos)
		if to.text == "" {
			return
		}
		name, err := rule.CanonicalHost(to.text)
		if err != nil {
			r.add(pos, "%q is neither HOST nor HOST:PORT, such as cache.example.com or cache.example.com:5000", to.text)
		}
		to.text = name
	}
}

// freshness reads a duration that must not be negative.
func (r reader) freshness(to *time.Duration) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, `^\+?`+durationPattern+"$", "string")
			return
		}
		r.duration(to)(n, pos)
		if *to < 0 {
			r.add(pos, "must not be negative")
		}
	}
}

// zeroIsNever reads a duration of a rule. A missing key means the general setting, and 0s
// means no time at all, for which the library has a negative duration.
func (r reader) zeroIsNever(to *time.Duration) read {
	return func(n *yaml.Node, pos position) {
		before := r.count()
		r.freshness(to)(n, pos)
		if *to == 0 && r.count() == before {
			*to = -1
		}
	}
}
