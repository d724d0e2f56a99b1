// Package azure authenticates rules to Azure Container Registries, as ACR's artifact
// cache does: with a user-assigned managed identity that is attached to the rule, with a
// service principal, or with a credential set whose user name and password lie in a Key
// Vault.
//
//	identities, err := azure.NewIdentities(azure.Options{TenantID: tenant}, armID)
//	uami, err := identities.UserAssigned(armID)
//	rules, err := rule.NewSet(rule.Rule{
//		Name: "promote-api", Source: "devregistry.azurecr.io/team-a/api", Target: "promoted/team-a/api", Auth: uami,
//	})
//
// # How a rule authenticates
//
// Microsoft Entra issues the identity a token for https://containerregistry.azure.net.
// The source registry exchanges it for a refresh token (POST /oauth2/exchange), with
// which package upstream gets an access token for each repository (POST /oauth2/token).
// A refresh token belongs to one rule and one host. It is renewed in the background
// before it expires, and requested once however many requests wait for it. When the
// registry refuses it, it is discarded, and the request is repeated once. Its lifetime is
// the difference of the two times in the token, so a wrong clock does no harm.
//
// A refresh token, or a secret of a vault, that worked and is then itself refused, is
// renewed at once, however new it is. One that never worked, whose renewal did not help,
// or that lacks only a right, is not renewed before it is 10 seconds old. A registry that
// refuses everything thus does not cause an exchange at every pull, and neither does one
// that accepts a token for one repository and refuses it for another.
//
// An Entra token is valid at every registry where the identity has a role. It is
// therefore sent only to hosts that are the login server of a registry in the configured
// cloud (NAME.azurecr.io), over https, without following redirects; this is checked
// before the token is requested. A token whose audience is not that of registries is not
// sent at all.
//
// The SDK caches Entra tokens of managed identities for the whole process, by identity
// and audience. Two rules with one identity share that token, but no token of a registry.
// An identity that was detached from the machine works until its Entra token expires,
// which takes hours; [Identities.Unassign] takes effect at once.
//
// The authenticator of a rule may be replaced at any time. Requests that begin afterwards
// use the new one. A download that is under way keeps its connection; a connection that
// resumes it is opened with the new one.
//
// # Failures
//
// With nothing stored, the client receives the status below; otherwise it receives the
// stored image, as package cache says. Failures are remembered for a moment, so that many
// pulls do not cause many requests to Azure.
//
//   - The identity is not assigned, the machine does not have it, or it belongs to
//     another tenant: 403 that names it. The next attempt comes after 5 seconds.
//   - IMDS is throttled (429), does not have the identity yet (404, 410, while it is
//     being attached) or fails (5xx): the SDK retries, and a pull waits. If this takes
//     longer than the pull may wait, the status is 504; if the SDK gives up, it is 503
//     with Retry-After. With something stored, a pull waits for 2 s at most.
//   - The role was revoked at the source: issued access tokens work as long as the
//     registry accepts them; then 403 that names the identity and the missing roles. When
//     the role is assigned again, the next pull works.
//   - Something expired: the access token, the refresh token and the Entra token are
//     renewed, in this order and as far as needed, without an error, however long nothing
//     was pulled. A registry that forgot its tokens early is treated likewise.
//   - The clock of this machine or of Azure is wrong by hours: this has no effect, see
//     above.
//   - The registry's firewall refuses this network: 403 that says so, with the address
//     that the registry saw.
//   - Key Vault is down (no response, 429, 5xx): the last value is used for an hour; then
//     503.
//   - A secret was rotated: the new value is read within 5 minutes, or when the upstream
//     refuses the former one: at once if that is known to have worked
//     ([KeyVaultSecret.Accepted]), otherwise if it is 10 seconds old. A rotation between
//     the reads of user name and password gives a mismatched pair, which the upstream
//     refuses. Both are then read again in the same way, and the request is repeated once.
//   - A secret is disabled or deleted, or the vault denies access: 403, within 5 minutes.
//     Neither the cached value nor a former version is used. A version that the
//     identifier names is used while it is enabled itself.
//
// No error, log line or response holds a secret, or the texts of Azure's refusals, which
// may repeat what was sent: only codes, statuses and addresses are passed on. This holds
// for the SDK's own log too, unless [Options] have a client that logs.
//
// # Roles
//
// The identity needs, on the source registry, 'Container Registry Repository Reader' and
// 'Container Registry Repository Catalog Lister' (with ABAC, and scoped to repositories if
// you like), or 'AcrPull' where permissions are RBAC only. This package calls no catalog,
// but ACR's documentation asks for both roles. An identity that reads a Key Vault needs
// 'Key Vault Secrets User'.
//
// # Authentication and networks
//
// [Source.Supports] is ACR's matrix of what works between tenants and networks. Declare
// your sources in [Sources] and set its Check in the options of a rule set; rules that
// cannot work are then refused when they are made. Note that your program is not a
// trusted service of Azure: it must be able to reach a restricted source itself, whatever
// is declared.
//
// # Not verified
//
// All this was run against the fakes of package azuretest, which are modelled on the
// SDK's source and on public descriptions, and not against Azure. Not verified are, in
// particular: the status and text of a registry's refusal when a role is missing or the
// network is refused; Azure Arc and Service Fabric; what Entra does at a forced refresh
// after a refused exchange; the spelling of audiences in tokens; sovereign clouds; and
// the real lifetimes of tokens.
package azure
