package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/arm"
)

// ServicePrincipal is the [auth.Authenticator] of an application that authenticates to
// Microsoft Entra with a client secret, for registries that accept Entra tokens only. It
// may belong to another tenant than this registry. For a registry that accepts user name
// and password, the client id and secret may be those of an [auth.CredentialSet] instead.
// It is safe for concurrent use.
type ServicePrincipal struct {
	settings         *settings
	tenant, clientID string
	secret           auth.Secret

	mu      sync.Mutex
	current *principal
	text    auth.Sensitive // of current
}

// NewServicePrincipal returns the service principal of the application clientID in tenant;
// both are GUIDs. The secret is read at each use; when it has changed, the refresh tokens
// that were obtained with the former one are discarded. Options.TenantID is not used.
func NewServicePrincipal(o Options, tenant, clientID string, secret auth.Secret) (*ServicePrincipal, error) {
	s, err := o.resolve()
	switch {
	case err != nil:
		return nil, err
	case !arm.IsGUID(tenant):
		return nil, fmt.Errorf("azure: tenant %q of the service principal is no GUID", tenant)
	case !arm.IsGUID(clientID):
		return nil, fmt.Errorf("azure: client id %q of the service principal is no GUID", clientID)
	case secret == nil:
		return nil, errors.New("azure: the service principal has no secret")
	}
	own := *s
	own.tenant = tenant // which the exchange names
	return &ServicePrincipal{settings: &own, tenant: tenant, clientID: clientID, secret: secret}, nil
}

func (p *ServicePrincipal) who() string {
	return fmt.Sprintf("service principal %s of tenant %s", p.clientID, p.tenant)
}

// Format writes the service principal's name for every verb.
func (p *ServicePrincipal) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.who()) }

// Check returns an error unless host is the login server of an Azure Container Registry.
func (p *ServicePrincipal) Check(host string) error { return p.settings.cloud.checkHost(host) }

// Credential returns a refresh token of the registry r.Host. Its errors are those of
// [UserAssigned.Credential]. If the secret cannot be read, the error is an
// [*auth.DeniedError], or an [*auth.UnavailableError] if the error of the secret is one.
func (p *ServicePrincipal) Credential(ctx context.Context, r auth.Request) (auth.Credential, error) {
	if err := p.Check(r.Host); err != nil {
		return auth.Credential{}, err
	}
	text, _, err := p.secret.Read(ctx)
	if err != nil {
		return auth.Credential{}, p.secretError(ctx, err)
	}
	current, err := p.principalFor(text)
	if err != nil {
		return auth.Credential{}, err
	}
	return current.get(ctx, r)
}

// secretError returns the error for a secret that cannot be read.
func (p *ServicePrincipal) secretError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	reason := "the secret of " + p.who() + " cannot be read"
	if later, ok := errors.AsType[*auth.UnavailableError](err); ok {
		return &auth.UnavailableError{Reason: reason + " for now", RetryAfter: later.RetryAfter, Err: err}
	}
	return &auth.DeniedError{Reason: reason, Err: err}
}

// principalFor returns the principal with this secret.
func (p *ServicePrincipal) principalFor(text auth.Sensitive) (*principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && p.text.Equal(text) {
		return p.current, nil
	}
	cred, err := azidentity.NewClientSecretCredential(p.tenant, p.clientID, text.Reveal(),
		&azidentity.ClientSecretCredentialOptions{ClientOptions: p.settings.sdk(p.settings.client)})
	if err != nil {
		return nil, &auth.DeniedError{Reason: p.who() + " cannot be used"} // the SDK's text may repeat the secret
	}
	p.current = &principal{settings: p.settings, credential: &coalesced{credential: cred, settings: p.settings}, who: p.who()}
	p.text = text
	return p.current, nil
}

// currentPrincipal returns the principal that was used last, or nil.
func (p *ServicePrincipal) currentPrincipal() *principal {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// Invalidate is Renew for a credential that is itself refused.
func (p *ServicePrincipal) Invalidate(r auth.Request, c auth.Credential) { p.Renew(r, c, true) }

// Renew discards the refresh token c, and makes a secret that caches its value read it
// again. It does nothing if c is not the current one.
func (p *ServicePrincipal) Renew(r auth.Request, c auth.Credential, unauthenticated bool) {
	if current := p.currentPrincipal(); current == nil || !current.renew(r, c, unauthenticated) {
		return
	}
	if i, ok := auth.SecretAs[auth.SecretInvalidator](p.secret); ok {
		i.Invalidate()
	}
}

// Accepted remembers that the refresh token c worked, and informs a secret that caches its
// value that it worked.
func (p *ServicePrincipal) Accepted(r auth.Request, c auth.Credential) {
	if current := p.currentPrincipal(); current == nil || !current.accepted(r, c) {
		return
	}
	if o, ok := auth.SecretAs[auth.SecretObserver](p.secret); ok {
		o.Accepted()
	}
}

// Refused returns an error that names the missing role, or says that the registry's
// firewall refuses the network.
func (p *ServicePrincipal) Refused(r auth.Request, c auth.Credential, f auth.Refusal) error {
	if current := p.currentPrincipal(); current != nil {
		return current.Refused(r, c, f)
	}
	return nil
}
