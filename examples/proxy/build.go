package main

import (
	"crypto/tls"
	"os"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// settings is a file that is right, in the library's terms.
type settings struct {
	config        *config // what it was made of
	listen, admin string  // admin is empty: none
	certificate   *tls.Certificate
	storeKind     string // dir or mem
	storePath     string
	rules         *rule.Set
	client        *upstream.Client
	sources       azure.Sources
	credentials   map[string]*auth.CredentialSet
	receivers     []webhook.Receiver
	ruleCount     int
	identityCount int
	example       string // a name that the first rule covers; empty: no rule
}

// build reads a file and says everything that is wrong in it at once.
func build(file string) (*settings, error) {
	c, found := load(file)
	s := &settings{config: c, listen: c.listen.text, admin: c.admin.text}
	if !c.listen.given() {
		s.listen = "127.0.0.1:5000"
	}
	s.loadCertificate(c, found)
	s.readStore(c, found)
	s.client = newClient(c.upstreams, found)
	s.sources = newSources(c, found)
	p := proofs{identities: newIdentities(c, found), sources: s.sources}
	p.sets = newCredentials(c.credentials, p.identities, found)
	s.credentials = p.sets
	s.identityCount = len(p.identities.List())
	s.rules = newRules(c, p, found)
	s.ruleCount = len(c.rules)
	s.receivers = newReceivers(c.webhooks, found)
	if s.ruleCount > 0 {
		s.example = example(c.rules[0].source.text, c.rules[0].target.text)
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// loadCertificate reads what tls names.
func (s *settings) loadCertificate(c *config, found *mistakes) {
	if c.tls.cert.text == "" || c.tls.key.text == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(c.tls.cert.text, c.tls.key.text)
	if err != nil {
		found.add(c.tls.place, "%v", err)
		return
	}
	s.certificate = &pair
}

// readStore takes dir:PATH or mem: apart; the latter also without its colon,
// which YAML wants quoted at the end of a line. It does not open the store: -check
// must work beside a proxy that runs.
func (s *settings) readStore(c *config, found *mistakes) {
	s.storeKind = "mem"
	if c.store.text == "" {
		return
	}
	kind, path, ok := strings.Cut(c.store.text, ":")
	switch {
	case ok && kind == "dir" && path != "":
		s.storeKind, s.storePath = kind, path
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			found.add(c.store.place, "%s is not a folder", path)
		}
	case kind == "mem" && path == "":
	case ok && (kind == "s3" || kind == "azblob"):
		found.add(c.store.place, "%s: is not supported yet", kind)
	default:
		found.add(c.store.place, "%q is neither dir:PATH nor mem", c.store.text)
	}
}
