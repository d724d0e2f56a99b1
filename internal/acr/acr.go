// Package acr knows the host names of Azure Container Registry in each of Azure's
// clouds, and explains the refusals of a registry. It uses no SDK.
package acr

import (
	"net"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// Domain holds the suffixes of the host names of one cloud. Each begins with its dot.
type Domain struct {
	// Suffix is that of login servers.
	Suffix string
	// Data is that of dedicated data endpoints.
	Data string
	// Storage is that of storage accounts, from which blobs come if the registry has no
	// dedicated data endpoints.
	Storage string
	// Vault is that of Key Vaults.
	Vault string
}

// Public returns the domain of the public cloud.
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

// LoginServer reports whether a canonical host is the login server of a registry, and
// returns its domain. A login server is one label and a suffix, without a port. The
// label may have a hyphen, as that of a registry with a domain name label does. Data
// endpoints and regional endpoints are not login servers.
func LoginServer(host string) (Domain, bool) {
	d, ok := DomainOf(host)
	label, found := strings.CutSuffix(host, d.Suffix)
	if !ok || !found || !ociname.ValidLabel(label) || label != strings.ToLower(label) {
		return Domain{}, false
	}
	return d, true
}

// Companion reports whether target, a data endpoint or storage account of the same
// cloud, may serve the blobs of the registry host. With Private Link it may have a
// private address though the registry has a public one.
func Companion(host, target string) bool {
	d, ok := DomainOf(host)
	target = strings.TrimSuffix(strings.ToLower(target), ".")
	return ok && (strings.HasSuffix(target, d.Data) || strings.HasSuffix(target, d.Storage))
}
