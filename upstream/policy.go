package upstream

import (
	"crypto/x509"
	"net/url"
	"slices"

	"github.com/pullthrough/pullthrough/internal/acr"
	"github.com/pullthrough/pullthrough/internal/netdepth"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

// hostPolicy says where the host of a rule may lead, as far as that is known before
// anything is sent: from [Client.Hosts], and from what is known about registries. It
// does not change.
type hostPolicy struct {
	host  string          // the rule's host, in canonical form
	home  origin          // where requests for that host are sent
	hosts map[string]Host // Client.Hosts
}

// newHostPolicy returns the policy of a canonical host.
func newHostPolicy(host string, hosts map[string]Host) *hostPolicy {
	scheme := "https"
	if hosts[host].PlainHTTP {
		scheme = "http"
	}
	return &hostPolicy{host: host, home: origin{scheme, ociname.RegistryHost(host)}, hosts: hosts}
}

// isHome reports whether u is at the origin of the rule's host.
func (p *hostPolicy) isHome(u *url.URL) bool { return originOf(u) == p.home }

// lists reports whether the embedder lists the host of u as one to which the rule's
// host may lead. An entry of its own in Client.Hosts does not list a host: that is
// about rules for that host.
func (p *hostPolicy) lists(u *url.URL) bool {
	host, entry := hostOf(u), p.hosts[p.host]
	return host == p.host || slices.Contains(entry.Realms, host) || slices.Contains(entry.Redirects, host) || p.hosts[host].AnyUpstream
}

// limit returns the greatest depth that the host of u may have if the least deep of
// the servers that led to it has the depth leader. An unknown leader counts as public.
func (p *hostPolicy) limit(u *url.URL, leader netdepth.Depth) netdepth.Depth {
	if p.isHome(u) || p.lists(u) {
		return netdepth.Loopback
	}
	leader = max(leader, netdepth.Public)
	if acr.Companion(p.host, u.Hostname()) {
		return max(leader, netdepth.Private)
	}
	return leader
}

// mayIssueTokens reports whether host, in canonical form, is known or listed to issue
// tokens for the rule's host, and so may see its credential.
func (p *hostPolicy) mayIssueTokens(host string) bool {
	return slices.Contains(p.hosts[p.host].Realms, host) || isTokenServer(host, p.host)
}

// isTokenServer reports whether server is known to issue tokens for a registry that is
// another host. The table is short on purpose, since a credential is sent there.
func isTokenServer(server, registry string) bool {
	switch registry {
	case ociname.DockerHub:
		return server == "auth.docker.io"
	case "registry.gitlab.com":
		return server == "gitlab.com"
	case "docker.elastic.co":
		return server == "docker-auth.elastic.co"
	}
	return false
}

// namesItself reports whether challenges of the rule's host must name that host as
// their service. The login server of an Azure registry does, and the refresh token
// that it takes is good for no other service.
func (p *hostPolicy) namesItself() bool {
	_, registry := acr.LoginServer(p.host)
	return registry
}

// roots returns the authorities that are trusted for host, in canonical form. Those of
// the rule's host hold for its token servers too, unless they have an entry of their
// own. If roots returns nil, the system's authorities are trusted.
func (p *hostPolicy) roots(host string) *x509.CertPool {
	entry, ok := p.hosts[host]
	if !ok && p.mayIssueTokens(host) {
		entry = p.hosts[p.host]
	}
	return entry.RootCAs
}
