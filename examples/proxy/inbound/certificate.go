package inbound

import (
	"crypto/x509"
	"slices"
	"strings"
)

// certificate returns the subject of a client certificate: the first of its names that the policy
// knows, or its common name if every certificate may pull something. It returns an empty subject if
// the policy does not know the certificate.
func (p *rights) certificate(c *x509.Certificate) (subject string, pull Patterns) {
	names := slices.Concat([]string{c.Subject.CommonName}, c.DNSNames, c.EmailAddresses)
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	for _, name := range names {
		if all, ok := p.patterns[kindCertificate+name]; ok {
			return kindCertificate + name, all
		}
	}
	if all, ok := p.patterns[kindCertificate+Anyone]; ok {
		return kindCertificate + strings.ToValidUTF8(strings.Join(names[:min(1, len(names))], ""), "?"), all
	}
	return "", nil
}
