package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/pullthrough/pullthrough/auth"
)

// issued is an Authenticator that gets its passwords from a service, and keeps one until
// the registry refuses it.
type issued struct {
	host string
	ask  func(ctx context.Context) (password string, err error)

	mu      sync.Mutex
	current auth.Credential
	version int
}

// Credential implements auth.Authenticator.
func (i *issued) Credential(ctx context.Context, r auth.Request) (auth.Credential, error) {
	// The host comes from a rule, whose author may not own the credential.
	if err := i.Check(r.Host); err != nil {
		return auth.Credential{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.current.Anonymous() {
		return i.current, nil
	}
	password, err := i.ask(ctx)
	if err != nil {
		return auth.Credential{}, &auth.UnavailableError{Reason: "the password service does not answer", Err: err}
	}
	i.version++
	i.current = auth.Credential{Username: "robot", Password: auth.NewSensitive(password), Version: strconv.Itoa(i.version)}
	return i.current, nil
}

// Check implements auth.Checker: a rule for another host is refused when it is made.
func (i *issued) Check(host string) error {
	if host != i.host {
		return fmt.Errorf("%w: it is for %s", auth.ErrHost, i.host)
	}
	return nil
}

// Invalidate implements auth.Invalidator: the registry refused c.
func (i *issued) Invalidate(_ auth.Request, c auth.Credential) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.Version == i.current.Version { // otherwise c has been replaced already
		i.current = auth.Credential{}
	}
}

// A program may have an Authenticator of its own, and set it as the Auth of a rule.
func ExampleAuthenticator() {
	a := &issued{host: "registry.example.com", ask: func(context.Context) (string, error) { return "hunter2", nil }}
	ctx, r := context.Background(), auth.Request{Rule: "team", Host: "registry.example.com", Repository: "team/app"}

	c, err := a.Credential(ctx, r)
	fmt.Println(c.Username, c.Password, c.Version, err) // a password does not print

	a.Invalidate(r, c)
	c, err = a.Credential(ctx, r)
	fmt.Println(c.Username, c.Password, c.Version, err)

	r.Host = "evil.example.com"
	_, err = a.Credential(ctx, r)
	fmt.Println(errors.Is(err, auth.ErrHost))
	// Output:
	// robot REDACTED 1 <nil>
	// robot REDACTED 2 <nil>
	// true
}
