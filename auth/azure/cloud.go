package azure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/acr"
)

// Cloud is one of Azure's clouds. They share no tenants and no tokens: what was
// issued in one is shown to no host of another.
type Cloud string

// The clouds. The zero value of Cloud means [Public].
const (
	Public     Cloud = "AzureCloud"
	China      Cloud = "AzureChinaCloud"
	Government Cloud = "AzureUSGovernment"
	// Germany was closed in 2021. Its suffix is known, its authority is not.
	Germany Cloud = "AzureGermanCloud"
)

// cloudInfo is what differs between clouds.
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

// info returns what is known of a cloud.
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

// checkHost is the guard in front of every Entra token: only the login server
// of a registry of this cloud may see one.
func (i cloudInfo) checkHost(host string) error {
	d, ok := acr.LoginServer(host)
	switch {
	case !ok:
		hint := ""
		if d, in := acr.DomainOf(host); in {
			label, _, _ := strings.Cut(host, ".")
			hint = fmt.Sprintf("; ports, data and regional endpoints are not for this: use %q", label+d.Suffix)
		}
		return fmt.Errorf("%w: %q is not the login server of an Azure Container Registry, such as NAME%s%s", auth.ErrHost, host, i.domain.Suffix, hint)
	case d != i.domain:
		return fmt.Errorf("%w: %q lies in another cloud than %s", auth.ErrHost, host, i.cloud)
	}
	return nil
}
