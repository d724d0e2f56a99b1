package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
)

// CredentialSet is a user and a password for one login server, as ACR's
// credential sets are. Its exported fields must not change after first use; it
// is then safe for concurrent use.
type CredentialSet struct {
	// Name names the set in errors and in ACR's JSON.
	Name string
	// LoginServer is the only host that may see the credential, in canonical
	// form: lower case, no trailing dot, no ":443"; docker.io for Docker Hub.
	LoginServer string
	// Username and Password are read at each use. Either nil is an error.
	Username, Password Secret

	once sync.Once
	key  string // of this process only
}

// version names a pair of secrets without telling them: without the key, which
// nobody has, guesses cannot be tried against it.
func (s *CredentialSet) version(parts ...string) string {
	s.once.Do(func() { s.key = rand.Text() })
	h := hmac.New(sha256.New, []byte(s.key))
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Check reports whether the set is for host.
func (s *CredentialSet) Check(host string) error {
	if host != s.LoginServer {
		return fmt.Errorf("%w: credential set %q is for %q, not for %q", ErrHost, s.Name, s.LoginServer, host)
	}
	return nil
}

// Credential reads both secrets. It refuses every host but LoginServer with
// [ErrHost].
func (s *CredentialSet) Credential(ctx context.Context, r Request) (Credential, error) {
	if err := s.Check(r.Host); err != nil {
		return Credential{}, err
	}
	if s.Username == nil || s.Password == nil {
		return Credential{}, fmt.Errorf("auth: credential set %q lacks a user name or a password", s.Name)
	}
	user, uv, err := s.Username.Read(ctx)
	if err != nil {
		return Credential{}, fmt.Errorf("auth: credential set %q: user name: %w", s.Name, err)
	}
	pass, pv, err := s.Password.Read(ctx)
	if err != nil {
		return Credential{}, fmt.Errorf("auth: credential set %q: password: %w", s.Name, err)
	}
	return Credential{
		Username: user.Reveal(),
		Password: pass,
		Version:  s.version(user.Reveal(), uv, pass.Reveal(), pv),
	}, nil
}

// ErrFederatedIdentity reports that a rule uses a federated identity, which is
// accepted in the model and refused at use.
var ErrFederatedIdentity = errors.New("auth: federated identity is not supported yet")

// FederatedIdentity is the shape of ACR's announced cross-tenant form. It can
// be stored, listed and written like every other authenticator, and refuses to
// be used.
type FederatedIdentity struct {
	TenantID string // the tenant of the source registry
	ClientID string // the application in that tenant
}

// Credential always fails with a [*DeniedError] that wraps
// [ErrFederatedIdentity].
func (f FederatedIdentity) Credential(_ context.Context, r Request) (Credential, error) {
	return Credential{}, &DeniedError{
		Reason: fmt.Sprintf("rule %q uses a federated identity (tenant %q, client %q), which is not supported yet", r.Rule, f.TenantID, f.ClientID),
		Err:    ErrFederatedIdentity,
	}
}
