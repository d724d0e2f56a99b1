package acr

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Roles that let a principal pull from a registry, with the ids of Azure's
// built-in roles.
const (
	reader = "'Container Registry Repository Reader' (b93aa761-3e63-49ed-ac28-beffa264f7ac)"
	lister = "'Container Registry Repository Catalog Lister' (bfdb9389-c9a5-478a-bb2f-ba9ca092c3c7)"
	pull   = "'AcrPull' (7f951dda-4ed3-4680-a7ca-43fe172d538d)"
)

// Explain returns an explanation of a registry's refusal to let the identity who pull a
// repository: that its firewall refuses the network, that a role is missing, or that it
// is one of the two if the registry does not say. It is empty if the status is no
// refusal. Of the registry's own message, only an IP address is repeated.
func Explain(host, repository, who string, status int, message string) string {
	switch {
	case status == http.StatusForbidden && networkDenied(message):
		from := "this network"
		if ip := addressIn(message); ip != "" {
			from = "the network of client IP " + ip
		}
		return fmt.Sprintf("registry '%s' does not let %s in, whichever identity asks (here %s): allow the address in its network rules, "+
			"or reach it over a private endpoint; see https://aka.ms/acr/firewall", host, from, who)
	case status == http.StatusForbidden && message == "": // as of every response to a HEAD
		return fmt.Sprintf("registry '%s' refuses %s repository '%s' and does not say why: either this network is not let in "+
			"(see https://aka.ms/acr/firewall), or a role is missing: %s and %s with ABAC, or %s with RBAC only", host, who, repository, reader, lister, pull)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Sprintf("%s may not pull repository '%s' of registry '%s': give it, on that registry, the roles %s and %s "+
			"if its permissions mode is RBAC with ABAC (scoped to the repository if you like), or %s if it is RBAC only", who, repository, host, reader, lister, pull)
	}
	return ""
}

// networkDenied reports whether a message is the refusal of a firewall, by the words
// that ACR uses.
func networkDenied(message string) bool {
	m := strings.ToLower(message)
	return strings.Contains(m, "is not allowed access") || strings.Contains(m, "aka.ms/acr/firewall") || strings.Contains(m, "public network access")
}

// addressIn returns the IP address between single quotes in a message.
func addressIn(message string) string {
	for part := range strings.SplitSeq(message, "'") {
		if ip, err := netip.ParseAddr(part); err == nil && ip.Zone() == "" {
			return ip.String()
		}
	}
	return ""
}
