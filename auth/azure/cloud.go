package azure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/acr"
)

// Cloud is one of Azure's clouds. They share neither tenants nor tokens: a token of one
// cloud is sent to no host of another.
type Cloud string

// The clouds. The zero value of Cloud means [Public].
const (
	Public     Cloud = "AzureCloud"
	China      Cloud = "AzureChinaCloud"
	Government Cloud = "AzureUSGovernment"
	// Germany was closed in 2021.
	Germany Cloud = "AzureGermanCloud"
)

// cloudInfo describes a cloud.
type cloudInfo struct {
	cloud  Cloud
	domain acr.Domain
	sdk    cloud.Configuration
}

func clouds() []cloudInfo {
	return []cloudInfo{
		{Public, acr.Public(), cloud.AzurePublic},
		{China, acr.China(), cloud.AzureChina},
		{Government, acr.Government(), cloud.AzureGovernment},
		{Germany, acr.Germany(), cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login.microsoftonline.de/"}},
	}
}

// info returns the description of a cloud.
func (c Cloud) info() (cloudInfo, error) {
	if c == "" {
		c = Public
	}
	list := clouds()
	if i := slices.IndexFunc(list, func(i cloudInfo) bool { return i.cloud == c }); i >= 0 {
		return list[i], nil
	}
	return cloudInfo{}, fmt.Errorf("azure: %q is no cloud of Azure: %s, %s, %s and %s are", string(c), Public, China, Government, Germany)
}

// checkHost guards every Entra token: it may be sent only to the login server of a
// registry in this cloud.
func (i cloudInfo) checkHost(host string) error {
	d, ok := acr.LoginServer(host)
	switch {
	case !ok:
		hint := ""
		if d, isACR := acr.DomainOf(host); isACR {
			label, _, _ := strings.Cut(host, ".")
			hint = fmt.Sprintf("; use %q, without a port, and neither a data endpoint nor a regional endpoint", label+d.Suffix)
		}
		return fmt.Errorf("%w: %q is not the login server of an Azure Container Registry, such as NAME%s%s", auth.ErrHost, host, i.domain.Suffix, hint)
	case d != i.domain:
		return fmt.Errorf("%w: %q is a registry of another cloud than %s", auth.ErrHost, host, i.cloud)
	}
	return nil
}
