package main

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/examples/proxy/gate"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
	"github.com/pullthrough/pullthrough/examples/proxy/mirror"
	"github.com/pullthrough/pullthrough/examples/proxy/prefetch"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// settings is a valid file, in the terms of the library.
type settings struct {
	config        *config // the file
	listen, admin string  // admin is empty if there is none
	certificate   *tls.Certificate
	access        admin.Access // to the admin address
	adminTLS      *tls.Config  // of the admin address; nil for plain HTTP
	storeKind     string       // dir or mem
	storePath     string       // of dir
	far           *bucket      // nil without a bucket
	rules         *rule.Set
	client        *upstream.Client
	sources       azure.Sources
	credentials   map[string]*auth.CredentialSet
	receivers     []webhook.Receiver
	prefetch      []prefetch.Task
	mirrors       map[string][]mirror.Mirror
	gates         map[string]gate.Rule // by rule
	fleet         *fleetSettings       // nil without a fleet
	ruleCount     int
	identityCount int
	example       string // a name that the first rule covers; empty without rules

	policy    *inbound.Policy // nil if everybody may pull everything
	keys      *inbound.Keys   // of the token service; nil if the file names none
	proxies   inbound.Proxies
	clientCAs *x509.CertPool // nil if there are no client certificates
}

// build reads a file. Its error lists all mistakes in it.
func build(file string) (*settings, error) {
	c, found := load(file)
	s := &settings{config: c, listen: c.listen.text, admin: c.admin.text}
	if !c.listen.given() {
		s.listen = "127.0.0.1:5000"
	}
	s.loadCertificate(c, found)
	s.readAdmin(c, found)
	s.checkDebug(c, found)
	p := proofs{identities: newIdentities(c, found)}
	s.readStore(c, p.identities, found)
	s.readFleet(c, found)
	s.client = newClient(c.upstreams, found)
	s.sources = newSources(c, found)
	p.sources = s.sources
	p.sets = newCredentials(c.credentials, p.identities, found)
	s.credentials = p.sets
	s.mirrors = newMirrors(c.upstreams, p.sets, found)
	s.identityCount = len(p.identities.List())
	s.rules = newRules(c, p, found)
	s.ruleCount = len(c.rules)
	s.receivers = newReceivers(c.webhooks, found)
	s.gates = newGates(c.rules, found)
	s.readAccess(c, found)
	s.prefetch = newPrefetch(c.prefetch, s.rules, found)
	if s.ruleCount > 0 {
		s.example = example(c.rules[0].source.text, c.rules[0].target.text)
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// loadCertificate reads the files that tls names.
func (s *settings) loadCertificate(c *config, found *mistakes) {
	if c.tls.cert.text == "" || c.tls.key.text == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(c.tls.cert.text, c.tls.key.text)
	if err != nil {
		found.add(c.tls.position, "%v", err)
		return
	}
	s.certificate = &pair
}
