package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/pullthrough/pullthrough/auth"
)

// ErrNotAssigned reports a managed identity that does not exist or is not
// associated with this registry.
var ErrNotAssigned = errors.New("azure: the identity is not assigned")

// errTenant reports an identity of another tenant than the registry's.
var errTenant = errors.New("azure: another tenant")

// errAudience reports a token that is for something else than registries.
var errAudience = errors.New("azure: another audience")

// notAssigned is the error for an identity that Azure or the embedder does not
// know. The sentence is ACR's.
func notAssigned(id string) error {
	return &auth.DeniedError{
		Reason: fmt.Sprintf("the specified identity '%s' does not exist or is not associated with this registry", id),
		Err:    ErrNotAssigned,
	}
}

// managedIdentity makes the SDK's credential of an identity of this machine; an
// empty id is the system-assigned one.
func (s *settings) managedIdentity(id string) (azcore.TokenCredential, error) {
	o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: s.sdk(s.identity)}
	if id != "" {
		o.ID = azidentity.ResourceID(id)
	}
	cred, err := azidentity.NewManagedIdentityCredential(o)
	if err != nil {
		return nil, fmt.Errorf("azure: this machine's managed-identity endpoint cannot be used for '%s': %w", id, err)
	}
	return &coalesced{credential: cred, settings: s}, nil
}

// coalesced asks the SDK once for all who want the same token at the same
// time, which the SDK does not do and IMDS throttles. Its errors are safe to
// show.
type coalesced struct {
	credential azcore.TokenCredential
	settings   *settings
	shared     shared[azcore.AccessToken]
}

// GetToken returns a token of the SDK, which keeps it for the process.
func (c *coalesced) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return c.shared.do(ctx, fmt.Sprint(o.Scopes, o.Claims, o.TenantID), c.settings.timeout, func(ctx context.Context) (azcore.AccessToken, error) {
		t, err := c.credential.GetToken(ctx, o)
		return t, refusedToken(err)
	})
}

// tokenError is a token request that was refused. It takes the place of the SDK's
// error, whose text holds the body of an answer, which may be a token that could
// not be read, and which those who share it may not even print at once.
type tokenError struct {
	status int
	header http.Header
	code   string // such as AADSTS7000215; empty: none
}

// refusedToken keeps of an error of the SDK what is safe to show.
func refusedToken(err error) error {
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || failed.RawResponse == nil {
		return err
	}
	return &tokenError{failed.RawResponse.StatusCode, failed.RawResponse.Header, entraCode.FindString(err.Error())}
}

// Error tells status and code.
func (e *tokenError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("azure: the token request was answered with status %d %s", e.status, e.code), " ")
}

// NonRetriable tells the SDK that it asked often enough.
func (*tokenError) NonRetriable() {}

// forced are claims that demand nothing. The SDK does not look into its cache
// when there are some.
const forced = "{}"

// token gets an Entra token for registries.
func (p *principal) token(ctx context.Context, fresh bool) (string, error) {
	o := policy.TokenRequestOptions{Scopes: []string{registryScope}}
	if fresh {
		o.Claims = forced
	}
	t, err := p.credential.GetToken(ctx, o)
	if err != nil {
		return "", p.tokenFailure(ctx, err)
	}
	said := readClaims(t.Token)
	if said.foreign() { // a registry must not get what opens something else
		return "", &auth.DeniedError{Reason: "the token that was given for " + p.who + " is not for registries", Err: errAudience}
	}
	if p.sameTenant && p.settings.tenant != "" && said.Tenant != "" && !strings.EqualFold(said.Tenant, p.settings.tenant) {
		return "", &auth.DeniedError{
			Reason: fmt.Sprintf("%s belongs to tenant %s, the registry to %s: managed identities work in one tenant only, use a credential set", p.who, said.Tenant, p.settings.tenant),
			Err:    errTenant,
		}
	}
	return t.Token, nil
}

// entraCode is the kind of code that Entra's errors begin with.
var entraCode = regexp.MustCompile(`AADSTS[0-9]{4,8}`)

// tokenFailure tells what the lack of a token means.
func (p *principal) tokenFailure(ctx context.Context, err error) error {
	refused, ok := errors.AsType[*tokenError](refusedToken(err))
	if !ok {
		return unreachable(ctx, "no token can be had for "+p.who, err)
	}
	switch status := refused.status; {
	case p.id != "" && status == http.StatusBadRequest:
		return notAssigned(p.id)
	case status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusForbidden:
		return &auth.DeniedError{Reason: "Microsoft Entra refuses a token to " + p.who, Err: refused}
	}
	return &auth.UnavailableError{Reason: "no token can be had for " + p.who, RetryAfter: retryAfter(refused.header), Err: refused}
}
