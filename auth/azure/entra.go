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
var errTenant = errors.New("azure: the identity belongs to another tenant")

// errAudience reports a token whose audience is not that of registries.
var errAudience = errors.New("azure: the token is for another audience")

// notAssigned is the error for an identity that Azure does not know or that was not
// assigned. The sentence is ACR's.
func notAssigned(id string) error {
	return &auth.DeniedError{
		Reason: fmt.Sprintf("the specified identity '%s' does not exist or is not associated with this registry", id),
		Err:    ErrNotAssigned,
	}
}

// managedIdentity returns the SDK's credential of an identity of this machine. An empty
// id stands for the system-assigned one.
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

// coalesced merges concurrent requests of one token into one call of the SDK, which does
// not do so itself; IMDS would throttle them. Its errors are safe to show.
type coalesced struct {
	credential azcore.TokenCredential
	settings   *settings
	shared     shared[azcore.AccessToken]
}

// GetToken returns a token of the SDK, which caches it for the process.
func (c *coalesced) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return c.shared.do(ctx, fmt.Sprint(o.Scopes, o.Claims, o.TenantID), c.settings.timeout, func(ctx context.Context) (azcore.AccessToken, error) {
		t, err := c.credential.GetToken(ctx, o)
		return t, refusedToken(err)
	})
}

// tokenError reports a token request that was refused. It replaces the SDK's error, whose
// text holds the body of a response, which may be a malformed token, and which is not
// safe for concurrent use.
type tokenError struct {
	status int
	header http.Header
	code   string // such as AADSTS7000215, or empty
}

// refusedToken replaces an error of the SDK by a tokenError, which is safe to show.
func refusedToken(err error) error {
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || failed.RawResponse == nil {
		return err
	}
	return &tokenError{failed.RawResponse.StatusCode, failed.RawResponse.Header, entraCode.FindString(err.Error())}
}

// Error returns status and code.
func (e *tokenError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("azure: the token request was answered with status %d %s", e.status, e.code), " ")
}

// NonRetriable makes the SDK not retry, which it has done already.
func (*tokenError) NonRetriable() {}

// forced are claims that demand nothing. A request with any claims bypasses the SDK's
// cache.
const forced = "{}"

// token gets an Entra token for registries; with fresh, not from the SDK's cache.
func (p *principal) token(ctx context.Context, fresh bool) (string, error) {
	o := policy.TokenRequestOptions{Scopes: []string{registryScope}}
	if fresh {
		o.Claims = forced
	}
	t, err := p.credential.GetToken(ctx, o)
	if err != nil {
		return "", p.tokenFailure(ctx, err)
	}
	claims := readClaims(t.Token)
	if claims.foreign() { // a registry must not receive a token for something else
		return "", &auth.DeniedError{Reason: "the token that was issued for " + p.who + " is not for registries", Err: errAudience}
	}
	if p.sameTenant && p.settings.tenant != "" && claims.Tenant != "" && !strings.EqualFold(claims.Tenant, p.settings.tenant) {
		return "", &auth.DeniedError{
			Reason: fmt.Sprintf("%s belongs to tenant %s, the registry to %s: managed identities work in one tenant only, so use a credential set", p.who, claims.Tenant, p.settings.tenant),
			Err:    errTenant,
		}
	}
	return t.Token, nil
}

// entraCode matches the codes with which Entra's errors begin.
var entraCode = regexp.MustCompile(`AADSTS[0-9]{4,8}`)

// tokenFailure turns the error of a token request into one of package auth.
func (p *principal) tokenFailure(ctx context.Context, err error) error {
	refused, ok := errors.AsType[*tokenError](refusedToken(err))
	if !ok {
		return unreachable(ctx, "no token can be obtained for "+p.who, err)
	}
	switch status := refused.status; {
	case p.id != "" && status == http.StatusBadRequest:
		return notAssigned(p.id)
	case status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusForbidden:
		return &auth.DeniedError{Reason: "Microsoft Entra refuses a token to " + p.who, Err: refused}
	}
	return &auth.UnavailableError{Reason: "no token can be obtained for " + p.who, RetryAfter: retryAfter(refused.header), Err: refused}
}
