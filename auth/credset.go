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
	"time"

	"github.com/pullthrough/pullthrough/internal/acr"
)

// CredentialSet is a user and a password for one login server, as ACR's
// credential sets are: those of an account, of a service principal (its client id and
// secret), or of an ACR token (its name and password). Its exported fields must be set
// before first use and not change. It is safe for concurrent use.
type CredentialSet struct {
	// Name names the set in errors and in ACR's JSON.
	Name string
	// LoginServer is the only host to which the credential is sent, in canonical
	// form: lower case, no trailing dot, no ":443", and docker.io for Docker Hub.
	LoginServer string
	// Username and Password are read at each use. If either is nil, Credential fails.
	Username, Password Secret

	once sync.Once
	key  string // of version, random in each process

	mu      sync.Mutex
	health  Health
	current string // the version that was read last
	refused string // the version that was refused last
}

// version identifies a pair of secrets without revealing them: without the key, which
// never leaves the process, guesses cannot be tried against it.
func (s *CredentialSet) version(parts ...string) string {
	s.once.Do(func() { s.key = rand.Text() })
	h := hmac.New(sha256.New, []byte(s.key))
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Check returns nil if the set is for host, and otherwise an error that wraps
// [ErrHost].
func (s *CredentialSet) Check(host string) error {
	if host != s.LoginServer {
		return fmt.Errorf("%w: credential set %q is for %q, not for %q", ErrHost, s.Name, s.LoginServer, host)
	}
	return nil
}

// Credential reads both secrets. For every host but LoginServer it returns [ErrHost]. If
// a secret cannot be read, the set becomes unhealthy, and the error is a [*DeniedError],
// or an [*UnavailableError] if the error of the secret is one.
func (s *CredentialSet) Credential(ctx context.Context, r Request) (Credential, error) {
	if err := s.Check(r.Host); err != nil {
		return Credential{}, err
	}
	user, uv, err := s.read(ctx, s.Username, CodeUsername, "user name")
	if err != nil {
		return Credential{}, err
	}
	pass, pv, err := s.read(ctx, s.Password, CodePassword, "password")
	if err != nil {
		return Credential{}, err
	}
	c := Credential{
		Username: user.Reveal(),
		Password: pass,
		Version:  s.version(user.Reveal(), uv, pass.Reveal(), pv),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = c.Version
	if s.refused != c.Version {
		s.setHealth(Health{Status: Healthy})
	}
	return c, nil
}

var errNoSecret = errors.New("no secret is set")

// read reads one of the two secrets.
func (s *CredentialSet) read(ctx context.Context, secret Secret, code HealthCode, what string) (Sensitive, string, error) {
	var value Sensitive
	var version string
	err := errNoSecret
	if secret != nil {
		value, version, err = secret.Read(ctx)
	}
	if err == nil {
		return value, version, nil
	}
	if ctx.Err() != nil {
		return Sensitive{}, "", ctx.Err() // the caller gave up, which says nothing about the secret
	}
	err = fmt.Errorf("%s: %w", what, err)
	s.mu.Lock()
	s.setHealth(Health{Status: Unhealthy, Code: code, Message: err.Error()})
	s.mu.Unlock()
	reason := fmt.Sprintf("the %s of credential set %q cannot be read", what, s.Name)
	if u, ok := errors.AsType[*UnavailableError](err); ok {
		return Sensitive{}, "", &UnavailableError{Reason: reason + " for now", RetryAfter: u.RetryAfter, Err: err}
	}
	return Sensitive{}, "", &DeniedError{Reason: reason, Err: err}
}

// Invalidate makes secrets that cache their value read it again, if c is the pair that
// was read last.
func (s *CredentialSet) Invalidate(_ Request, c Credential) {
	s.mu.Lock()
	stale := c.Version != s.current
	s.mu.Unlock()
	if stale {
		return
	}
	for _, secret := range []Secret{s.Username, s.Password} {
		if i, ok := SecretAs[SecretInvalidator](secret); ok {
			i.Invalidate()
		}
	}
}

// Accepted makes the set healthy and informs secrets that cache their value that it
// worked, if c is the pair that was read last.
func (s *CredentialSet) Accepted(_ Request, c Credential) {
	s.mu.Lock()
	current := c.Version == s.current
	if current {
		s.refused = ""
		s.setHealth(Health{Status: Healthy})
	}
	s.mu.Unlock()
	if !current {
		return
	}
	for _, secret := range []Secret{s.Username, s.Password} {
		if o, ok := SecretAs[SecretObserver](secret); ok {
			o.Accepted()
		}
	}
}

// Refused makes the set unhealthy if user name and password are wrong, but not if they
// only lack a right. For a registry of Azure its error says what is missing.
func (s *CredentialSet) Refused(r Request, c Credential, f Refusal) error {
	s.mu.Lock()
	if f.Unauthenticated && c.Version == s.current {
		s.refused = c.Version
		s.setHealth(Health{Status: Unhealthy, Code: CodeRefused, Message: fmt.Sprintf("%s does not accept the user name and password: status %d", r.Host, f.Status)})
	}
	s.mu.Unlock()
	if _, ok := acr.LoginServer(r.Host); !ok {
		return nil
	}
	if f.Unauthenticated {
		return &DeniedError{Reason: fmt.Sprintf("registry '%s' does not accept the user name and password of credential set %q", r.Host, s.Name)}
	}
	if reason := acr.Explain(r.Host, r.Repository, fmt.Sprintf("the user of credential set %q", s.Name), f.Status, f.Message); reason != "" {
		return &DeniedError{Reason: reason}
	}
	return nil
}

// Health returns the health of the set as of its last use, or the zero value before its
// first use. It is safe for concurrent use and does no I/O.
func (s *CredentialSet) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health
}

// setHealth changes the health. s.mu is held.
func (s *CredentialSet) setHealth(h Health) {
	if h.Status != s.health.Status || h.Code != s.health.Code {
		h.Since = time.Now().UTC()
	} else {
		h.Since = s.health.Since
	}
	s.health = h
}
