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

// ServicePrincipal is the [auth.Authenticator] of an application that proves
// itself to Microsoft Entra with a client secret, for registries that accept
// Entra tokens only. It may be of another tenant than this registry. (A
// registry that accepts user and password takes the client id and secret of a
// service principal in an [auth.CredentialSet] too.) It is safe for concurrent
// use.
type ServicePrincipal struct {
	settings         *settings
	tenant, clientID string
	secret           auth.Secret

	mu      sync.Mutex
	current *principal
	text    auth.Sensitive // of current
}

// NewServicePrincipal returns the application clientID of tenant, both GUIDs.
// The secret is read at each use; a new one throws away what the old one
// earned. Options.TenantID is not compared.
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
	own.tenant = tenant // a registry is told whose token it gets
	return &ServicePrincipal{settings: &own, tenant: tenant, clientID: clientID, secret: secret}, nil
}

func (p *ServicePrincipal) who() string {
	return fmt.Sprintf("service principal %s of tenant %s", p.clientID, p.tenant)
}

// Format writes the service principal's name, whatever the verb.
func (p *ServicePrincipal) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.who()) }

// Check reports whether the service principal may be used for host: only for
// the login servers of Azure Container Registries.
func (p *ServicePrincipal) Check(host string) error { return p.settings.cloud.checkHost(host) }

// Credential returns a refresh token of the registry r.Host. Its errors are
// those of [UserAssigned.Credential]; a secret that cannot be read is an
// [*auth.DeniedError], or an [*auth.UnavailableError] if its own error is one.
func (p *ServicePrincipal) Credential(ctx context.Context, r auth.Request) (auth.Credential, error) {
	if err := p.Check(r.Host); err != nil {
		return auth.Credential{}, err
	}
	text, _, err := p.secret.Read(ctx)
	if err != nil {
		return auth.Credential{}, p.unread(ctx, err)
	}
	now, err := p.with(text)
	if err != nil {
		return auth.Credential{}, err
	}
	return now.get(ctx, r)
}

func (p *ServicePrincipal) unread(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	reason := "the secret of " + p.who() + " cannot be read"
	if later, ok := errors.AsType[*auth.UnavailableError](err); ok {
		return &auth.UnavailableError{Reason: reason + " for now", RetryAfter: later.RetryAfter, Err: err}
	}
	return &auth.DeniedError{Reason: reason, Err: err}
}

// with returns the principal that has this secret.
func (p *ServicePrincipal) with(text auth.Sensitive) (*principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && p.text.Equal(text) {
		return p.current, nil
	}
	cred, err := azidentity.NewClientSecretCredential(p.tenant, p.clientID, text.Reveal(),
		&azidentity.ClientSecretCredentialOptions{ClientOptions: p.settings.sdk(p.settings.client)})
	if err != nil {
		return nil, &auth.DeniedError{Reason: p.who() + " cannot be used"} // the SDK's text may repeat what it got
	}
	p.current = &principal{settings: p.settings, credential: &coalesced{credential: cred, settings: p.settings}, who: p.who()}
	p.text = text
	return p.current, nil
}

func (p *ServicePrincipal) now() *principal {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// Invalidate is Renew of a credential that is itself refused.
func (p *ServicePrincipal) Invalidate(r auth.Request, c auth.Credential) { p.Renew(r, c, true) }

// Renew throws away what c came from, and makes a secret that is kept be read
// again. A refusal of an older credential changes nothing.
func (p *ServicePrincipal) Renew(r auth.Request, c auth.Credential, unauthenticated bool) {
	if now := p.now(); now == nil || !now.renew(r, c, unauthenticated) {
		return
	}
	if i, ok := auth.SecretAs[auth.SecretInvalidator](p.secret); ok {
		i.Invalidate()
	}
}

// Accepted remembers that what c came from worked: the refresh token, and a
// secret that is kept.
func (p *ServicePrincipal) Accepted(r auth.Request, c auth.Credential) {
	if now := p.now(); now == nil || !now.accepted(r, c) {
		return
	}
	if o, ok := auth.SecretAs[auth.SecretObserver](p.secret); ok {
		o.Accepted()
	}
}

// Refused says which role the service principal lacks, or that the network is
// not let in.
func (p *ServicePrincipal) Refused(r auth.Request, c auth.Credential, f auth.Refusal) error {
	if now := p.now(); now != nil {
		return now.Refused(r, c, f)
	}
	return nil
}
