// Package azure proves rules to Azure Container Registries, as ACR's artifact
// cache does: with a user-assigned managed identity that is attached to the
// rule, with a service principal, or with a credential set whose user and
// password lie in a Key Vault.
//
//	identities, err := azure.NewIdentities(azure.Options{TenantID: tenant}, armID)
//	uami, err := identities.UserAssigned(armID)
//	rules, err := rule.NewSet(rule.Rule{
//		Name: "promote-api", Source: "devregistry.azurecr.io/team-a/api", Target: "promoted/team-a/api", Auth: uami,
//	})
//
// # How a rule proves itself
//
// Microsoft Entra gives a token for https://containerregistry.azure.net to the
// identity; the source registry exchanges it for a refresh token (POST
// /oauth2/exchange); with that, package upstream gets an access token for each
// repository (POST /oauth2/token). The refresh token belongs to one rule and
// one host. It is renewed in the background before it ends, fetched once
// however many wait for it, and thrown away when the registry refuses it, after
// which the question is asked once more. How long it lasts is read from the
// token as the difference of its own times, so a clock that is wrong does no
// harm.
//
// An Entra token is good for every registry where the identity has a role. So
// it goes only to hosts that are the login server of a registry in the
// configured cloud (NAME.azurecr.io), over https, without following redirects;
// this is checked before a token is asked for.
//
// The SDK keeps Entra tokens of managed identities for the whole process, by
// identity and audience. Two rules with the same identity share that token, but
// no token of a registry. An identity that was detached from the machine works
// until its Entra token ends (hours); [Identities.Unassign] works at once.
//
// # What goes wrong, and what follows
//
//   - The identity is not assigned, or the machine does not have it: 403 that
//     names it, asked again after 5 seconds. An IMDS that answers 404, 410, 429
//     or 5xx is asked again by the SDK; who waits is told 503 or 504, and gets
//     what is stored if there is something.
//   - The role was revoked at the source: access tokens that were issued work as
//     long as the registry lets them; then 403 that names the roles to give. The
//     tag table of package cache says what is served meanwhile.
//   - The registry's firewall refuses this network: 403 that says so, with the
//     address that the registry saw.
//   - Key Vault: see [KeyVaultSecret]. A rotation between the reading of user and
//     password gives a pair that the upstream refuses; both are then read again
//     at once, and the question is asked once more.
//
// # Roles
//
// The identity needs, on the source registry, 'Container Registry Repository
// Reader' and 'Container Registry Repository Catalog Lister' (with ABAC, scoped
// to repositories if you like), or 'AcrPull' where permissions are RBAC only.
// This package calls no catalog; ACR's documentation asks for both roles. Who
// reads a Key Vault needs 'Key Vault Secrets User'.
//
// # Authentication and networks
//
// [Source.Supports] is ACR's matrix of what works between tenants and networks.
// Declare your sources in [Sources] and give its Check to the options of a rule
// set, and rules that cannot work are refused when they are made. Note that a
// program of yours is no trusted service of Azure: it must reach a restricted
// source by itself, whatever is declared.
//
// # Not verified
//
// All this was run against the fakes of package azuretest, which are modelled
// on the SDK's source and on public descriptions, and not against Azure. Not
// verified are, in particular: the status and text of a registry's refusal when
// a role is missing or the network is not let in; Azure Arc and Service Fabric;
// what Entra makes of a forced refresh after a refused exchange; sovereign
// clouds; real lifetimes of tokens.
package azure
