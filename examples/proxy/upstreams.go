package main

import (
	"crypto/x509"
	"os"

	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
)

// newClient returns the client for upstreams.
func newClient(list []upstreamConfig, found *mistakes) *upstream.Client {
	hosts, lines := map[string]upstream.Host{}, map[string]int{}
	for _, one := range list {
		name, ok := canonical(one.host, found)
		if !ok {
			continue
		}
		if line := lines[name]; line != 0 {
			found.add(one.host.position, "%q has an entry in line %d already", name, line)
			continue
		}
		lines[name] = one.line
		hosts[name] = upstream.Host{
			PlainHTTP:         one.plainHTTP,
			RootCAs:           roots(one.ca, found),
			ClientCertificate: one.clientCertificate(found),
			Realms:            canonicals(one.realms, found),
			Redirects:         canonicals(one.redirects, found),
			AnyUpstream:       one.anyUpstream,
		}
	}
	return &upstream.Client{Hosts: hosts}
}

// canonical returns the canonical form of a host, and notes a host that is not valid. An
// empty one was noted when it was read.
func canonical(w word, found *mistakes) (string, bool) {
	if w.text == "" {
		return "", false
	}
	name, err := rule.CanonicalHost(w.text)
	if err != nil {
		found.add(w.position, "%v", err)
	}
	return name, err == nil
}

// canonicals returns the canonical forms of hosts.
func canonicals(list []word, found *mistakes) (names []string) {
	for _, w := range list {
		if name, ok := canonical(w, found); ok {
			names = append(names, name)
		}
	}
	return names
}

// roots adds the certificates of a file to those of the system, since a registry with a
// certificate of its own may redirect to a storage with a public one.
func roots(ca word, found *mistakes) *x509.CertPool {
	if ca.text == "" {
		return nil
	}
	data, err := os.ReadFile(ca.text)
	if err != nil {
		found.add(ca.position, "%v", err)
		return nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		found.add(ca.position, "%s has no certificate in PEM form", ca.text)
	}
	return pool
}
