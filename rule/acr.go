package rule

import (
	"strings"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/acr"
	"github.com/pullthrough/pullthrough/internal/ociname"
)

// Policy says whether rules for an upstream must or may have an authenticator.
type Policy int

const (
	// AuthOptional allows rules with and without an authenticator.
	AuthOptional Policy = iota
	// AuthRequired refuses rules without an authenticator.
	AuthRequired
	// AuthForbidden refuses rules with an authenticator.
	AuthForbidden
)

// String returns the name that ACR's documentation gives the policy.
func (p Policy) String() string {
	switch p {
	case AuthRequired:
		return "required"
	case AuthForbidden:
		return "unauthenticated only"
	}
	return "optional"
}

// Upstream is a line of a [Table].
type Upstream struct {
	// Host is a canonical host, or "*." and a suffix. The star stands for exactly
	// one label.
	Host string
	// Auth says whether rules for the host must or may have an authenticator.
	Auth Policy
}

// Table lists upstreams that rules may name. To allow more upstreams than ACR does,
// append to the table that [ACR] returns.
type Table []Upstream

// ACR returns a new table of the upstreams that Azure Container Registry's artifact
// cache supports.
func ACR() Table {
	t := Table{
		{ociname.DockerHub, AuthRequired},
		{"dhi.io", AuthRequired},
	}
	for _, d := range acr.Domains() {
		t = append(t, Upstream{"*" + d.Suffix, AuthRequired})
	}
	return append(t, Table{
		{"mcr.microsoft.com", AuthForbidden},
		{"public.ecr.aws", AuthForbidden},
		{"ghcr.io", AuthOptional},
		{"quay.io", AuthOptional},
		{"registry.k8s.io", AuthOptional},
		{"*.pkg.dev", AuthRequired},
		{"gcr.io", AuthOptional},
		{"eu.gcr.io", AuthOptional},
		{"nvcr.io", AuthOptional},
		{"registry.redhat.io", AuthRequired},
		{"registry.access.redhat.com", AuthForbidden},
	}...)
}

// Lookup returns the line of a canonical host: the one that names it, or else the
// first one whose pattern covers it. It returns false if there is none.
func (t Table) Lookup(host string) (Upstream, bool) {
	for _, u := range t {
		if u.Host == host {
			return u, true
		}
	}
	_, suffix, ok := strings.Cut(host, ".")
	for _, u := range t {
		if pattern, wild := strings.CutPrefix(u.Host, "*."); wild && ok && pattern == suffix {
			return u, true
		}
	}
	return Upstream{}, false
}

// hosts lists the hosts of the table for an error text.
func (t Table) hosts() string {
	names := make([]string, len(t))
	for i, u := range t {
		names[i] = u.Host
	}
	return strings.Join(names, ", ")
}

// anonymous reports whether a rule with the authenticator a sends no credential.
func anonymous(a auth.Authenticator) bool {
	switch a.(type) {
	case nil, auth.Anonymous, *auth.Anonymous:
		return true
	}
	return false
}

// checkUpstream applies the table, and the one rule that holds without a table: an
// anonymous rule cannot have an ACR as its source.
func (o *Options) checkUpstream(f *faults, host string, a auth.Authenticator) {
	if t := o.table(); t != nil {
		u, ok := t.Lookup(host)
		if !ok {
			f.add(CodeUpstreamNotSupported, "source", "%s", unsupported(t, host))
			return
		}
		if u.Auth == AuthForbidden && !anonymous(a) {
			f.add(CodeAnonymousOnly, "auth",
				"Upstream '%s' supports unauthenticated pulls only. Please remove the credentials from cache rule.", host)
		}
		if u.Auth == AuthRequired && anonymous(a) {
			f.needAuth(host)
			return
		}
	}
	if _, ok := acr.DomainOf(host); ok && anonymous(a) {
		f.needAuth(host)
	}
}

func (f *faults) needAuth(host string) {
	_, registry := acr.DomainOf(host)
	switch {
	case onHub(host):
		f.add(CodeDockerAuthentication, "auth", "Cannot create cache rule pointing to Docker Hub without credentials. "+
			"Please add a credential set to cache rule. Learn more: https://aka.ms/acr/cache-auth")
	case registry:
		f.add(CodeUpstreamAuthentication, "auth", "Cannot create cache rule pointing to Azure Container Registry '%s' without credentials: "+
			"a source registry does not allow anonymous pull. Please add a managed identity or a credential set to cache rule.", host)
	default:
		f.add(CodeUpstreamAuthentication, "auth", "Cannot create cache rule pointing to '%s' without credentials. "+
			"Please add a credential set to cache rule.", host)
	}
}

// unsupported returns ACR's sentence, with a hint for hosts in an ACR's domain that are
// not login servers.
func unsupported(t Table, host string) string {
	text := "Unsupported upstream or login server '" + host + "' provided. " +
		"Supported upstreams or login servers are: " + t.hosts() + "."
	if d, ok := acr.DomainOf(host); ok {
		name, _, _ := strings.Cut(host, ".")
		text += " Data and regional endpoints are not login servers; use '" + name + d.Suffix + "'."
	}
	return text
}
