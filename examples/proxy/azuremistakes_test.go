package main

import (
	"strings"
	"testing"
)

const (
	uami     = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Promote"
	assigned = "identities: [" + uami + "]\n"

	here      = "tenant: 11111111-2222-3333-4444-555555555555\n"
	elsewhere = "tenant: 22222222-2222-2222-2222-222222222222"

	dev = "devregistry.azurecr.io"
)

// acrRule is a rule for a host, with its authentication in line 5.
func acrRule(host, proof string) string {
	return "rules:\n  - name: promote-api\n    source: " + host + "/team-a/api\n    target: promoted/api\n    " + proof + "\n"
}

// byIdentity is a file with a rule that has an identity, and a declaration of its source.
func byIdentity(source string) string {
	return acrRule(dev, "identity: "+uami) + assigned + here + declared(source)
}

// byCredentials is byIdentity with a credential set.
func byCredentials(source string) string {
	return acrRule(dev, "credentials: hub") + secretsFor(dev, "{value: a}") + here + declared(source)
}

func declared(source string) string {
	return "upstreams:\n  - host: " + dev + "\n    azure: {" + source + "}\n"
}

// federated is a rule with a federated identity in line 5.
func federated(fields string) string { return acrRule(dev, "federatedIdentity: "+fields) }

// TestAzureMistakes is [TestMistakes] for the keys of Azure.
func TestAzureMistakes(t *testing.T) {
	const tenant, client = "tenant: 22222222-2222-2222-2222-222222222222", "clientID: 33333333-3333-3333-3333-333333333333"
	const both = "{" + tenant + ", " + client + "}"
	const refused = "the specified identity '%' does not exist or is not associated with this registry"
	notAssigned := strings.Replace(refused, "%", strings.ToLower(uami), 1)
	for _, test := range []struct{ name, file, want string }{
		{"tenant", "tenant: contoso\n", "1: tenant: tenant \"contoso\" is no GUID"},
		{"cloud", "cloud: AWS\n", "1: cloud: \"AWS\" is no cloud"},
		{"malformed assigned identity", "identities: [x]\n", "1: identities[0]: invalid user-assigned managed identity resource ID"},
		{"identity twice", "identities:\n  - " + uami + "\n  - " + strings.ToUpper(uami) + "\n", "3: identities[1]: is given in line 2 already"},

		{"identity that is not assigned", acrRule(dev, "identity: "+uami), "5: rules[0].identity: " + notAssigned},
		{"malformed identity", acrRule(dev, "identity: /subscriptions/x"), "5: rules[0].identity: invalid user-assigned managed identity resource ID"},
		{"id of another resource", acrRule(dev, "identity: "+strings.Replace(uami, "userAssignedIdentities", "systemIdentities", 1)) + assigned, "5: rules[0].identity: invalid user-assigned managed identity resource ID"},
		{"identity and credentials", acrRule(dev, "identity: "+uami+"\n    credentials: hub") + assigned + secretsFor(dev, "{value: a}"), "5: rules[0].identity: excludes credentials"},
		{"identity for another registry", acrRule("quay.io", "identity: "+uami) + assigned, `5: rules[0].identity: `},
		{"identity for a custom domain", acrRule("registry.contoso.com", "identity: "+uami) + assigned, `5: rules[0].identity: auth: the credential is not for this host: "registry.contoso.com" is not the login server of an Azure Container Registry, such as NAME.azurecr.io`},
		{"identity for a data endpoint", acrRule("devregistry.eastus.data.azurecr.io", "identity: "+uami) + assigned, `use "devregistry.azurecr.io"`},
		{"identity of another cloud", "cloud: AzureChinaCloud\n" + acrRule(dev, "identity: "+uami) + assigned, "6: rules[0].identity: "},
		{"anonymous", "rules:\n  - {name: promote-api, source: quay.io/x, target: x}\n  - {name: anonymous, source: " + dev + "/x, target: y}\n", "3: rules[1]: Cannot create cache rule pointing to Azure Container Registry 'devregistry.azurecr.io' without credentials"},
		{"anonymous at a data endpoint", "rules:\n  - {name: anonymous, source: devregistry.eastus.data.azurecr.io/x, target: y}\n", "2: rules[0]: Cannot create cache rule pointing to Azure Container Registry"},

		{"federated and identity", acrRule(dev, "identity: "+uami+"\n    federatedIdentity: "+both) + assigned, "6: rules[0].federatedIdentity: excludes identity"},
		{"federated and credentials", acrRule(dev, "federatedIdentity: "+both+"\n    credentials: hub") + secretsFor(dev, "{value: a}"), "5: rules[0].federatedIdentity: excludes credentials"},
		{"federated without client", federated("{" + tenant + "}"), "5: rules[0].federatedIdentity: clientID is missing"},
		{"federated without tenant", federated("{" + client + "}"), "5: rules[0].federatedIdentity: tenant is missing"},
		{"federated tenant", federated("\n      tenant: contoso\n      " + client), `6: rules[0].federatedIdentity.tenant: "contoso" is no GUID`},
		{"federated client", federated("\n      " + tenant + "\n      clientID: 33333333333333333333333333333333"), `7: rules[0].federatedIdentity.clientID: "33333333333333333333333333333333" is no GUID`},
		{"federated client in braces", federated("\n      " + tenant + "\n      clientID: '{33333333-3333-3333-3333-333333333333}'"), `7: rules[0].federatedIdentity.clientID: `},
		{"empty federated tenant", federated("\n      tenant:\n      " + client), "6: rules[0].federatedIdentity.tenant: is empty"},
		{"unknown key of federated", federated("{" + tenant + ", " + client + ", audience: x}"), "5: rules[0].federatedIdentity.audience: unknown key; known here: clientID, tenant"},
		{"federated as a text", federated("33333333-3333-3333-3333-333333333333"), "5: rules[0].federatedIdentity: wants keys with values, not a single value"},

		{"tenant of a source", declared("tenant: contoso"), "3: upstreams[0].azure.tenant: "},
		{"network of a source", declared("network: vpn"), `3: upstreams[0].azure.network: this authentication is not supported for this source: network "vpn" is none of public, selected, privateLink`},
		{"trusted services", declared("trustedServices: maybe"), "3: upstreams[0].azure.trustedServices: wants true or false"},
		{"identity across tenants", byIdentity(elsewhere), "5: rules[0].identity: devregistry.azurecr.io with user-assigned managed identity: "},
		{"identity across tenants, network open to services", byIdentity(elsewhere + ", network: selected, trustedServices: true"), "a managed identity works in one tenant only"},
		{"identity, selected networks", byIdentity("network: selected"), "only if trusted services are let in"},
		{"identity, private link", byIdentity("network: privateLink"), "only if trusted services are let in"},
		{"identity, private link across tenants", byIdentity(elsewhere + ", network: privateLink, trustedServices: true"), "by private link cannot be used"},
		{"credentials, selected networks across tenants", byCredentials(elsewhere + ", network: selected"), "5: rules[0].credentials: devregistry.azurecr.io with credentials: "},
		{"credentials, private link across tenants", byCredentials(elsewhere + ", network: privateLink, trustedServices: true"), "5: rules[0].credentials: "},

		{"identity that reads nothing", secrets("{value: a}") + "    identity: " + uami + "\n" + assigned, "6: credentials[0].identity: reads nothing"},
		{"identity of credentials", vaulted("https://v.vault.azure.net/secrets/user") + "    identity: " + uami + "\n", "6: credentials[0].identity: " + notAssigned},
		{"malformed identity of credentials", vaulted("https://v.vault.azure.net/secrets/user") + "    identity: reader\n", "6: credentials[0].identity: invalid user-assigned managed identity resource ID: reader"},
		{"key vault with http", vaulted("http://v.vault.azure.net/secrets/user"), "4: credentials[0].username.keyVault: \"http://v.vault.azure.net/secrets/user\" is no identifier of a Key Vault secret (https://VAULT.vault.azure.net/secrets/NAME or with /VERSION): it is not https"},
		{"key vault of another cloud", vaulted("https://v.vault.azure.cn/secrets/user"), "the host is not VAULT.vault.azure.net"},
		{"key vault with a foreign suffix", vaulted("https://v.vault.azure.net.evil.example/secrets/user"), "the host is not VAULT.vault.azure.net"},
		{"key vault with a port", vaulted("https://v.vault.azure.net:8443/secrets/user"), "the host is not VAULT.vault.azure.net"},
		{"key of a vault", vaulted("https://v.vault.azure.net/keys/user"), "the path is not /secrets/NAME or /secrets/NAME/VERSION"},
		{"key vault without a name", vaulted("https://v.vault.azure.net/secrets/"), "4: credentials[0].username.keyVault: "},
		{"key vault with a query", vaulted("https://v.vault.azure.net/secrets/user?api-version=7.5"), "it has more than host and path"},
	} {
		t.Run(test.name, func(t *testing.T) { wantMistake(t, test.file, test.want) })
	}
}

// vaulted is a credential set whose user name, in line 4, lies in a vault.
func vaulted(identifier string) string { return secrets("{keyVault: '" + identifier + "'}") }

// TestMatrix: combinations that ACR supports are accepted.
func TestMatrix(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, file := range []string{
		byIdentity(""), byIdentity("network: public"), byIdentity(strings.TrimSpace(here)),
		byIdentity("network: selected, trustedServices: true"), byIdentity("network: privateLink, trustedServices: true"),
		byCredentials(""), byCredentials("network: selected"), byCredentials("network: privateLink"),
		byCredentials(elsewhere), byCredentials(elsewhere + ", network: selected, trustedServices: true"),
	} {
		built(t, file)
	}
}
