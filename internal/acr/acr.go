// Package acr knows the hosts of Azure Container Registry, what they end in in each
// of Azure's clouds, and what the refusals of a registry mean. It links no SDK.
package acr

import (
	"net"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// Domain is what the hosts of one cloud end in. Each suffix begins with its dot.
type Domain struct {
	// Suffix is what login servers end in.
	Suffix string
	// Data is what dedicated data endpoints end in.
	Data string
	// Storage is what storage accounts end in, where blobs lie otherwise.
	Storage string
	// Vault is what Key Vaults end in.
	Vault string
}

// Public returns the domain of the cloud that everybody may use.
func Public() Domain {
	return Domain{".azurecr.io", ".data.azurecr.io", ".blob.core.windows.net", ".vault.azure.net"}
}

// China returns the domain of the cloud that 21Vianet runs in China.
func China() Domain {
	return Domain{".azurecr.cn", ".data.azurecr.cn", ".blob.core.chinacloudapi.cn", ".vault.azure.cn"}
}

// Government returns the domain of the cloud for the US government.
func Government() Domain {
	return Domain{".azurecr.us", ".data.azurecr.us", ".blob.core.usgovcloudapi.net", ".vault.usgovcloudapi.net"}
}

// Germany returns the domain of the cloud in Germany, which was closed in 2021.
func Germany() Domain {
	return Domain{".azurecr.de", ".data.azurecr.de", ".blob.core.cloudapi.de", ".vault.microsoftazure.de"}
}

// Domains returns the domains of all clouds. No suffix of one is a suffix of
// another.
func Domains() [4]Domain { return [4]Domain{Public(), China(), Government(), Germany()} }

// DomainOf returns the domain that a canonical host lies in, on any port, and
// whether there is one.
func DomainOf(host string) (Domain, bool) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	for _, d := range Domains() {
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
	if !ok || !found || !ociname.ValidLabel(label) || label != strings.ToLower(label) {
		return Domain{}, false
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
