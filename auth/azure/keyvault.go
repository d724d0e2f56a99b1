package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/pullthrough/pullthrough/auth"
)

const (
	// vaultFresh is how long a value is used before it is read again, and so how late
	// a rotation is noticed if the former value still works.
	vaultFresh = 5 * time.Minute
	// vaultEarly is the least time between two early reads of an unchanged value, and
	// how old a value that never worked must be for the first early read.
	vaultEarly = 10 * time.Second
	// vaultStale is how long the last value is used while the vault fails.
	vaultStale = time.Hour
	// vaultPatience is how long a reader waits for the vault if there is a value that
	// may be used.
	vaultPatience = 2 * time.Second
	// vaultRetry is how long after a failure the vault is not asked again.
	vaultRetry = 5 * time.Second
)

// KeyVaultSecret is an [auth.Secret] in a Key Vault. A value is cached for 5 minutes. When
// an upstream refuses it, it is read again: at once if it worked before, otherwise when it
// is 10 seconds old, and an unchanged value at most every 10 seconds. While the vault
// cannot be reached, is throttled or fails (timeouts, 429, 5xx), the last value is used for
// up to an hour. When the vault refuses the secret (401, 403: no access, or disabled) or
// does not have it (404), its value is not used any longer, and the error is an
// [*auth.DeniedError]. It is safe for concurrent use.
type KeyVaultSecret struct {
	settings   *settings
	client     *azsecrets.Client
	identifier string
	name       string
	version    string // empty for the latest one

	shared shared[vaultValue]

	mu     sync.Mutex
	last   vaultValue
	worked bool      // an upstream accepted last
	read   time.Time // when last was read; zero if there is no value that may be used
	next   time.Time // when to read again
	early  time.Time // when a refusal last caused an early read of last
	err    error     // what Read returns until next if there is no value
}

// vaultValue is a value of a secret.
type vaultValue struct {
	text    auth.Sensitive
	version string
}

// KeyVaultSecret returns the secret with that identifier. It is read as the identity with
// that resource id, which must be assigned, or as the machine's system-assigned identity if
// the id is empty. The identity needs the role Key Vault Secrets User. As with credential
// sets of ACR, it is not the identity of a rule.
func (i *Identities) KeyVaultSecret(identifier, identity string) (*KeyVaultSecret, error) {
	if identity == "" {
		cred, err := i.credential("")
		if err != nil {
			return nil, err
		}
		return newKeyVaultSecret(i.settings, identifier, cred)
	}
	u, err := i.UserAssigned(identity)
	if err != nil {
		return nil, err
	}
	return newKeyVaultSecret(i.settings, identifier, u.credential)
}

// NewKeyVaultSecret returns the secret with that identifier, which is
// https://VAULT.vault.azure.net/secrets/NAME, or with /VERSION behind it. Without a version
// it is the latest one. It is read with any credential of the SDK.
func NewKeyVaultSecret(o Options, identifier string, credential azcore.TokenCredential) (*KeyVaultSecret, error) {
	s, err := o.resolve()
	if err != nil {
		return nil, err
	}
	if credential == nil {
		return nil, errors.New("azure: no credential for Key Vault")
	}
	return newKeyVaultSecret(s, identifier, &coalesced{credential: credential, settings: s})
}

func newKeyVaultSecret(s *settings, identifier string, cred azcore.TokenCredential) (*KeyVaultSecret, error) {
	vault, name, version, err := parseSecretID(identifier, s.cloud.domain.Vault)
	if err != nil {
		return nil, err
	}
	client, err := azsecrets.NewClient(vault, cred, &azsecrets.ClientOptions{ClientOptions: s.sdk(s.client)})
	if err != nil {
		return nil, fmt.Errorf("azure: Key Vault secret %q: %w", identifier, err)
	}
	return &KeyVaultSecret{settings: s, client: client, identifier: identifier, name: name, version: version}, nil
}

// parseSecretID parses https://VAULT.SUFFIX/secrets/NAME[/VERSION].
func parseSecretID(identifier, suffix string) (vault, name, version string, err error) {
	fail := func(why string) (string, string, string, error) {
		return "", "", "", fmt.Errorf("azure: %.300q is no identifier of a Key Vault secret (https://VAULT%s/secrets/NAME or with /VERSION): %s", identifier, suffix, why)
	}
	u, err := url.Parse(identifier)
	switch {
	case err != nil:
		return fail("it is no URL")
	case u.Scheme != "https":
		return fail("it is not https")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fail("it has more than host and path")
	}
	label, ok := strings.CutSuffix(u.Host, suffix)
	if !ok || !plainName(label) {
		return fail(fmt.Sprintf("the host is not VAULT%s", suffix))
	}
	parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "secrets" {
		return fail("the path is not /secrets/NAME or /secrets/NAME/VERSION")
	}
	for _, part := range parts[1:] {
		if !plainName(part) {
			return fail("a name may have letters, digits and hyphens")
		}
	}
	vault = "https://" + u.Host
	if vault+"/"+strings.Join(parts, "/") != identifier { // such as an empty fragment
		return fail("it has more than host and path, or another spelling")
	}
	if len(parts) == 3 {
		version = parts[2]
	}
	return vault, parts[1], version, nil
}

func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != "" && len(s) <= 127
}

// Read returns the value and its version in the vault. If the last value may still be
// used, Read waits for at most two seconds for a newer one.
func (k *KeyVaultSecret) Read(ctx context.Context) (auth.Sensitive, string, error) {
	k.mu.Lock()
	now := time.Now()
	last, err, fresh := k.last, k.err, now.Before(k.next)
	usable := !k.read.IsZero() && now.Sub(k.read) < vaultStale
	k.mu.Unlock()
	if fresh {
		return last.text, last.version, err
	}
	wait := ctx
	if usable {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, vaultPatience)
		defer cancel()
	}
	value, err := k.shared.do(wait, "", k.settings.timeout, k.fetch)
	if usable && wait.Err() != nil && ctx.Err() == nil {
		value, err = last, nil
	}
	return value.text, value.version, err
}

// Format writes the secret's identifier for every verb.
func (k *KeyVaultSecret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.identifier) }

// Accepted notes that an upstream accepted the value. If the value is refused later, it
// was probably rotated.
func (k *KeyVaultSecret) Accepted() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.worked = true
}

// Invalidate makes the next Read read the secret from the vault, if the value worked or is
// 10 seconds old. An early read that finds the value unchanged is not repeated for 10
// seconds in any case.
func (k *KeyVaultSecret) Invalidate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if now.Sub(k.early) >= vaultEarly && (k.worked || now.Sub(k.read) >= vaultEarly) {
		k.early, k.next = now, time.Time{}
	}
}

// fetch reads the vault and decides what Read returns from now on.
func (k *KeyVaultSecret) fetch(ctx context.Context) (vaultValue, error) {
	got, err := k.client.GetSecret(ctx, k.name, k.version, nil)
	var value vaultValue
	switch {
	case err != nil:
		err = k.failure(ctx, err)
	case got.Value == nil || *got.Value == "":
		err = &auth.DeniedError{Reason: fmt.Sprintf("Key Vault secret %q is empty", k.identifier)}
	default:
		value.text = auth.NewSensitive(*got.Value)
		if got.ID != nil {
			value.version = got.ID.Version()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	unavailable, temporary := errors.AsType[*auth.UnavailableError](err)
	if err == nil && !value.text.Equal(k.last.text) { // a new value, which nothing has accepted yet
		k.worked, k.early = false, time.Time{}
	}
	switch {
	case err == nil:
		k.last, k.read, k.next, k.err = value, now, now.Add(vaultFresh), nil
	case temporary && !k.read.IsZero() && now.Sub(k.read) < vaultStale:
		k.next = now.Add(max(vaultRetry, unavailable.RetryAfter))
	default:
		k.last, k.read, k.next, k.err = vaultValue{}, time.Time{}, now.Add(rememberDenied), err
	}
	return k.last, k.err
}

// failure turns an error of the SDK into one of package auth.
func (k *KeyVaultSecret) failure(ctx context.Context, err error) error {
	what, fromVault := fmt.Sprintf("Key Vault secret %q", k.identifier), true
	status, code, header := 0, "", http.Header{}
	if r, ok := errors.AsType[*azcore.ResponseError](err); ok {
		status, code = r.StatusCode, r.ErrorCode
		if r.RawResponse != nil {
			header = r.RawResponse.Header
		}
	} else if refused, ok := errors.AsType[*tokenError](refusedToken(err)); ok {
		what, fromVault = "a token for "+what, false
		status, header = refused.status, refused.header
	}
	detail := fmt.Errorf("azure: status %d %s", status, plainCode(code))
	switch {
	case status == 0:
		return unreachable(ctx, what+" cannot be reached", err)
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusBadRequest:
		return &auth.DeniedError{Reason: what + " is refused: the identity that reads it needs the role 'Key Vault Secrets User', and the secret must be enabled", Err: detail}
	case status == http.StatusNotFound && fromVault: // a 404 of IMDS means that the identity is being attached
		return &auth.DeniedError{Reason: what + " does not exist", Err: detail}
	}
	return &auth.UnavailableError{Reason: what + " cannot be read", RetryAfter: retryAfter(header), Err: detail}
}

// plainCode returns code if it has the form of an error code, and otherwise an empty
// string.
func plainCode(code string) string {
	if !plainName(strings.ReplaceAll(code, "_", "-")) || len(code) > 64 {
		return ""
	}
	return code
}
