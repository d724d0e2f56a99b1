package azblob

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/internal/arm"
)

// ClientOptions are what a client is made of: where the container is, and with what it is
// opened, which is Credential, Key or SAS, one of them, or all in a ConnectionString.
type ClientOptions struct {
	// URL is the address of the container, such as
	// https://ACCOUNT.blob.core.windows.net/CONTAINER, without a query. It is empty if
	// there is a ConnectionString.
	URL string
	// Credential gets the tokens of an identity, such as that of [ManagedIdentity]. It
	// needs https.
	Credential azcore.TokenCredential
	// Account is the name of the storage account that Key belongs to. If empty, it is the
	// first label of the host of URL, or the first part of its path if that has two.
	Account string
	// Key is one of the two keys of the account, in base64. A party that has it may do
	// everything with the account; an identity is better.
	Key auth.Sensitive
	// SAS is a shared access signature for the container with the permissions racwdl: what
	// follows the question mark in an address. Over plain http it is sent to this machine
	// alone. When it expires, the store fails.
	SAS auth.Sensitive
	// ConnectionString is what Azure's portal shows for an account, with Container as the
	// name of the container. Azurite prints its own.
	ConnectionString auth.Sensitive
	Container        string

	// HTTP sends the requests. Redirects are not followed, whatever its CheckRedirect is,
	// and its Timeout should be zero, since it would cut downloads. If nil, the package
	// uses a client of its own with the proxies of the environment.
	HTTP *http.Client
	// Retry is how the SDK repeats requests that got no response, or 408, 429 or 5xx. Where
	// it is zero, there are 3 more tries with pauses of half a second, doubling, of 10
	// seconds at most: then the store counts as failed, and a cache works without it. Its
	// TryTimeout should be zero, since it would cut downloads.
	Retry policy.RetryOptions
}

// NewClient returns a client that a Store can use. It sends no request. Errors do not have
// the secrets in them.
//
// A client that is made in another way repeats requests as it was told to.
func NewClient(o ClientOptions) (*container.Client, error) {
	if !o.ConnectionString.Empty() {
		return o.withString()
	}
	u, err := parseContainer(o.URL)
	if err != nil {
		return nil, err
	}
	given := 0
	for _, has := range []bool{o.Credential != nil, !o.Key.Empty(), !o.SAS.Empty()} {
		if has {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, errors.New("azblob: one of Credential, Key and SAS is needed")
	case o.Credential != nil:
		if u.Scheme != "https" {
			return nil, fmt.Errorf("azblob: %s: a token is sent over https only", u)
		}
		return container.NewClient(u.String(), o.Credential, o.sdk())
	case !o.SAS.Empty():
		if u.Scheme != "https" && !loopback(u.Hostname()) {
			return nil, fmt.Errorf("azblob: %s: a SAS is sent over https only, or to this machine", u)
		}
		u.RawQuery = strings.TrimPrefix(o.SAS.Reveal(), "?")
		return container.NewClientWithNoCredential(u.String(), o.sdk())
	}
	return o.withKey(u)
}

// withKey opens the container with a key of the account.
func (o ClientOptions) withKey(u *url.URL) (*container.Client, error) {
	account := o.Account
	if account == "" {
		account, _, _ = strings.Cut(u.Hostname(), ".")
		if first, _, two := strings.Cut(u.Path[1:], "/"); two {
			account = first
		}
	}
	key, err := container.NewSharedKeyCredential(account, o.Key.Reveal())
	if err != nil {
		return nil, errors.New("azblob: the key of the account is not base64")
	}
	return container.NewClientWithSharedKeyCredential(u.String(), key, o.sdk())
}

// withString opens the container with a connection string.
func (o ClientOptions) withString() (*container.Client, error) {
	if o.URL != "" || o.Credential != nil || !o.Key.Empty() || !o.SAS.Empty() || !containerName(o.Container) {
		return nil, errors.New("azblob: a ConnectionString needs the name of a Container, and neither URL, Credential, Key nor SAS")
	}
	c, err := container.NewClientFromConnectionString(o.ConnectionString.Reveal(), o.Container, o.sdk())
	if err != nil {
		return nil, errors.New("azblob: the connection string is none: it has AccountName and AccountKey, or BlobEndpoint and SharedAccessSignature")
	}
	return c, nil
}

// parseContainer parses the address of a container. The error does not repeat it, since it
// may have a SAS.
func parseContainer(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("azblob: the URL of a container is https://ACCOUNT.blob.core.windows.net/CONTAINER, without a query")
	}
	path := strings.Trim(u.Path, "/")
	account, name, two := strings.Cut(path, "/") // emulators have the account in the path
	if !two {
		account, name = "", path
	}
	if !containerName(name) || strings.Contains(account, "/") || two && strings.Contains(u.Host, ".blob.") {
		return nil, fmt.Errorf("azblob: %s does not end with the name of a container", u)
	}
	u.Path, u.RawPath = "/"+path, ""
	return u, nil
}

// containerName reports whether a container may have that name.
func containerName(name string) bool {
	return len(name) >= 3 && len(name) <= 63 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		name[0] != '-' && name[len(name)-1] != '-' && !strings.Contains(name, "--")
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// sdk returns the options of the SDK.
func (o ClientOptions) sdk() *container.ClientOptions {
	retry := o.Retry
	if retry.MaxRetries == 0 {
		retry.MaxRetries = 3
	}
	if retry.RetryDelay == 0 {
		retry.RetryDelay = 500 * time.Millisecond
	}
	if retry.MaxRetryDelay == 0 {
		retry.MaxRetryDelay = 10 * time.Second
	}
	return &container.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: unredirected(o.HTTP, http.ProxyFromEnvironment), Retry: retry}}
}

// unredirected returns a copy of c, or a new client with that proxy if c is nil. It follows
// no redirects, since a secret is only for the host to which it is sent.
func unredirected(c *http.Client, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	copied := http.Client{Transport: &http.Transport{
		Proxy:                 proxy,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		ExpectContinueTimeout: time.Second, // the SDK asks first when the service was busy
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   64,
		DisableCompression:    true,
	}}
	if c != nil {
		copied = *c
	}
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &copied
}

// ManagedIdentity returns the credential of a managed identity that this machine has: by
// the ARM resource ID or the client ID of a user-assigned one, or the system-assigned one if
// id is empty. It sends no request. The identity needs the role Storage Blob Data Contributor
// on the container.
//
// The SDK keeps tokens of managed identities for the whole process, and requests another one
// when the last has less than five minutes left; a client of [NewClient] asks for it once,
// however many requests wait.
//
// client sends the requests to the managed-identity endpoint of the machine. If nil, the
// package uses a client of its own that ignores the proxies of the environment, since the
// token would pass through them.
func ManagedIdentity(id string, client *http.Client) (azcore.TokenCredential, error) {
	o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: azcore.ClientOptions{Transport: unredirected(client, nil)}}
	switch {
	case strings.HasPrefix(id, "/"):
		canonical, err := arm.Identity(id)
		if err != nil {
			return nil, fmt.Errorf("azblob: %w", err)
		}
		o.ID = azidentity.ResourceID(canonical)
	case arm.IsGUID(id):
		o.ID = azidentity.ClientID(strings.ToLower(id))
	case id != "":
		return nil, fmt.Errorf("azblob: %.100q is neither the resource ID nor the client ID of a managed identity", id)
	}
	c, err := azidentity.NewManagedIdentityCredential(o)
	if err != nil {
		return nil, fmt.Errorf("azblob: this machine's managed-identity endpoint cannot be used for %q: %w", id, err)
	}
	return c, nil
}
