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
// A refresh token or a secret of a vault that worked and is then itself refused is
// renewed at once, however young it is; one that never worked, or whose renewal
// was in vain, or that may only not do what was asked for, is not renewed before it
// is 10 seconds old. So a registry that refuses everything causes no exchange at
// every pull, and neither does one that accepts a token for one repository and
// refuses it for another.
//
// An Entra token is good for every registry where the identity has a role. So
// it goes only to hosts that are the login server of a registry in the
// configured cloud (NAME.azurecr.io), over https, without following redirects;
// this is checked before a token is asked for. A token that says that it is for
// something else than registries goes nowhere.
//
// The SDK keeps Entra tokens of managed identities for the whole process, by
// identity and audience. Two rules with the same identity share that token, but
// no token of a registry. An identity that was detached from the machine works
// until its Entra token ends (hours); [Identities.Unassign] works at once.
//
// A rule's authenticator may be exchanged at any time. Requests that begin
// afterwards use the new one; a download that runs keeps its connection, and a
// connection that takes it up again is opened with the new one.
//
// # What goes wrong, and what follows
//
// If nothing is stored, the client gets the status below; otherwise it gets the
// stored copy, as package cache says. Trouble is remembered for a moment, so that a crowd of
// pulls is no crowd of questions.
//
//   - The identity is not assigned, or the machine does not have it, or it
//     belongs to another tenant: 403 that names it, asked again after 5 seconds.
//   - IMDS is throttled (429), does not have the identity yet (404, 410: it is
//     being attached) or is broken (5xx): the SDK asks again, and a pull waits.
//     What lasts longer than the answer may take is 504, and what the SDK gives up
//     503 with Retry-After; with something stored nobody waits for more than 2 s.
//   - The role was revoked at the source: access tokens that were issued work as
//     long as the registry lets them; then 403 that names the identity and the
//     roles to give. A role that is given again works with the next pull.
//   - Something expired: access tokens, the refresh token and the Entra token are
//     had anew, in this order and as far as needed, without an error, after any
//     time of silence. A registry that forgot its tokens early is the same.
//   - A clock is wrong, ours or Azure's, by hours: nothing, see above.
//   - The registry's firewall refuses this network: 403 that says so, with the
//     address that the registry saw.
//   - Key Vault is down (no answer, 429, 5xx): the value that was read last serves
//     for an hour, then 503.
//   - A secret was rotated: it is seen within 5 minutes, or when the upstream
//     refuses the former one: at once if that is known to have worked
//     ([KeyVaultSecret.Accepted]), otherwise if it is 10 seconds old. A rotation
//     between the reading of user and password gives a torn pair, which the upstream
//     refuses; both are then read again in the same way, and the question is asked
//     once more.
//   - A secret is disabled or deleted, or the vault refuses us: 403, within 5
//     minutes. Neither the value that was read nor a former version is used. A
//     version that is named works on while it is enabled itself.
//
// No error, log or answer holds a secret or words of Azure's refusals, which may
// repeat what was sent: codes, statuses and addresses are passed on. That goes
// for the SDK's own log too, unless [Options] bring a client that logs.
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
// what Entra makes of a forced refresh after a refused exchange; the spelling of
// audiences in tokens; sovereign clouds; real lifetimes of tokens.
package azure
