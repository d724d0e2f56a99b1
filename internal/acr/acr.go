// Package acr knows what is special about the hosts of Azure Container
// Registry, and what its refusals mean. It links no SDK.
package acr

import (
	"net"
	"strings"
)

// Domain is the part of the network that the registries of one cloud have.
type Domain struct {
	// Suffix is what login servers end in, with its dot.
	Suffix string
	// Data is what dedicated data endpoints end in.
	Data string
	// Storage is what storage accounts end in, where blobs lie otherwise.
	Storage string
}

var domains = []Domain{
	{".azurecr.io", ".data.azurecr.io", ".blob.core.windows.net"},
	{".azurecr.us", ".data.azurecr.us", ".blob.core.usgovcloudapi.net"},
	{".azurecr.cn", ".data.azurecr.cn", ".blob.core.chinacloudapi.cn"},
	{".azurecr.de", ".data.azurecr.de", ".blob.core.cloudapi.de"},
}

// DomainOf returns the domain that a canonical host lies in, on any port, and
// whether there is one.
func DomainOf(host string) (Domain, bool) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	for _, d := range domains {
		if strings.HasSuffix(name, d.Suffix) {
			return d, true
		}
	}
	return Domain{}, false
}

// LoginServer reports whether a canonical host is the login server of a
// registry: one label and a suffix, no port. Registries with a domain name
// label have a hyphen in it. Data and regional endpoints are none.
func LoginServer(host string) (Domain, bool) {
	d, ok := DomainOf(host)
	label, found := strings.CutSuffix(host, d.Suffix)
	if !ok || !found || label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return Domain{}, false
	}
	for i := range len(label) {
		if c := label[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return Domain{}, false
		}
	}
	return d, true
}

// Companion reports whether target serves the blobs of the registry host. With
// Private Link it may lie in a private network though the registry does not.
func Companion(host, target string) bool {
	d, ok := DomainOf(host)
	target = strings.TrimSuffix(strings.ToLower(target), ".")
	return ok && (strings.HasSuffix(target, d.Data) || strings.HasSuffix(target, d.Storage))
}
