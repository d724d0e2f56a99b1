package main

import (
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// accessConfig is the access section: who may pull what.
type accessConfig struct {
	position
	htpasswd, challenge         word
	users, tokens, certificates []grantConfig
	anonymous                   []word
	tokenService                tokenServiceConfig
}

// given reports whether the section is in the file.
func (a accessConfig) given() bool { return a.line != 0 }

// listenTLSConfig is the tls section: the certificate that clients receive, and how theirs are checked.
type listenTLSConfig struct {
	tlsConfig
	clientCA, clientAuth word
}

// read returns the read of the tls section.
func (t *listenTLSConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		t.position = pos
		r.fields(n, pos, map[string]read{
			"cert": r.word(&t.cert), "key": r.word(&t.key), "clientCA": r.word(&t.clientCA),
			"clientAuth": r.among(r.word(&t.clientAuth), "require", "request"),
		})
		r.require(pos, "cert", t.cert)
		r.require(pos, "key", t.key)
	}
}

// grantConfig is one user, token or certificate.
type grantConfig struct {
	position
	name   word
	secret secretConfig // of a token
	pull   []word
}

// tokenServiceConfig holds the settings of the token service.
type tokenServiceConfig struct {
	position
	service, realm, key       word
	lifetime, refreshLifetime time.Duration
}

// limitsConfig is the limits section.
type limitsConfig struct {
	connections, connectionsPerAddress                int64
	requestsPerAddress, requestsPerUser, failedLogins inbound.Rate
	headerBytes, bodyBytes                            int64
}

// read returns the read of the access section.
func (a *accessConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		a.position = pos
		secret := func(g *grantConfig) read {
			return func(n *yaml.Node, pos position) {
				g.secret.choose(r, n, pos, "value, env and file", map[string]read{
					"value": r.word(&g.secret.value), "env": r.word(&g.secret.env), "file": r.word(&g.secret.file),
				})
			}
		}
		r.fields(n, pos, map[string]read{
			"htpasswd":     r.word(&a.htpasswd),
			"users":        r.list(r.grant(&a.users, nil)),
			"tokens":       r.list(r.grant(&a.tokens, secret)),
			"certificates": r.list(r.grant(&a.certificates, nil)),
			"anonymous":    r.patterns(&a.anonymous),
			"challenge":    r.among(r.word(&a.challenge), "bearer", "basic"),
			"tokenService": a.tokenService.read(r),
		})
	}
}

// grant returns the read of one element of a list of grants, which it appends. If secret is nil, they
// have no secret.
func (r reader) grant(to *[]grantConfig, secret func(*grantConfig) read) read {
	return func(n *yaml.Node, pos position) {
		one := grantConfig{position: pos}
		known := map[string]read{"name": r.word(&one.name), "pull": r.patterns(&one.pull)}
		if secret != nil {
			known["token"] = secret(&one)
		}
		r.fields(n, pos, known)
		if r.sketch != nil || resolve(n).Kind == yaml.MappingNode {
			r.require(pos, "name", one.name)
			if secret != nil {
				r.requireGiven(pos, "token", one.secret.line != 0)
			}
			for _, before := range *to {
				if one.name.text != "" && before.name.text == one.name.text {
					r.add(one.name.position, "%q is the name in line %d too", one.name.text, before.line)
				}
			}
		}
		*to = append(*to, one)
	}
}

// patterns reads a list of patterns of repositories.
func (r reader) patterns(to *[]word) read {
	return func(n *yaml.Node, pos position) {
		r.some(r.words(to), func() int { return len(*to) })(n, pos)
		for _, w := range *to {
			if w.text == "" {
				continue // noted when it was read
			}
			if err := inbound.CheckPattern(w.text); err != nil {
				r.add(w.position, "%v", err)
			}
		}
	}
}

// read returns the read of the tokenService section.
func (t *tokenServiceConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		t.position = pos
		r.fields(n, pos, map[string]read{
			"service":         r.word(&t.service),
			"realm":           r.word(&t.realm),
			"key":             r.word(&t.key),
			"lifetime":        r.between(&t.lifetime, time.Minute, 24*time.Hour),
			"refreshLifetime": r.between(&t.refreshLifetime, time.Hour, 366*24*time.Hour),
		})
	}
}

// read returns the read of the limits section.
func (l *limitsConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		r.fields(n, pos, map[string]read{
			"connections":           r.number(&l.connections),
			"connectionsPerAddress": r.number(&l.connectionsPerAddress),
			"requestsPerAddress":    r.rate(&l.requestsPerAddress),
			"requestsPerUser":       r.rate(&l.requestsPerUser),
			"failedLogins":          r.rate(&l.failedLogins),
			"headerBytes":           r.size(&l.headerBytes),
			"bodyBytes":             r.size(&l.bodyBytes),
		})
	}
}

// number reads a whole number above zero.
func (r reader) number(to *int64) read {
	return func(n *yaml.Node, pos position) {
		if r.sketch != nil {
			r.describeScalar(pos, "^[1-9][0-9]*$", "string", "integer")
			return
		}
		var w word
		r.word(&w)(n, pos)
		if w.text == "" {
			return
		}
		count, err := strconv.ParseInt(w.text, 10, 32)
		if err != nil || count <= 0 {
			r.add(pos, "%q is not a number such as 1000", w.text)
			return
		}
		*to = count
	}
}

// size reads a number of bytes that a request may have: at least a KiB, at most 64 MiB.
func (r reader) size(to *int64) read {
	return func(n *yaml.Node, pos position) {
		before := r.count()
		if r.bytes(to)(n, pos); r.sketch == nil && r.count() == before && (*to < 1<<10 || *to > 64<<20) {
			r.add(pos, "must lie between 1KiB and 64MiB")
		}
	}
}

// rate reads a rate.
func (r reader) rate(to *inbound.Rate) read {
	return r.like(func(n *yaml.Node, pos position) {
		var w word
		if r.word(&w)(n, pos); w.text == "" {
			return
		}
		rate, err := inbound.ParseRate(w.text)
		if err != nil {
			r.add(pos, "%v", err)
		}
		*to = rate
	}, "^[1-9][0-9]*/[smh]$")
}

// between reads a duration with bounds.
func (r reader) between(to *time.Duration, least, most time.Duration) read {
	return func(n *yaml.Node, pos position) {
		before := r.count()
		if r.duration(to)(n, pos); r.sketch == nil && r.count() == before && (*to < least || *to > most) {
			r.add(pos, "must lie between %v and %v", least, most)
		}
	}
}
