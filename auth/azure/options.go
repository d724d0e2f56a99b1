package azure

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pullthrough/pullthrough/internal/arm"
)

// DefaultTimeout bounds the time to get a credential, including all retries.
const DefaultTimeout = 60 * time.Second

// Options configure the requests to Azure. The zero value is that of the public cloud with
// the SDK's own settings.
type Options struct {
	// TenantID is the tenant of this registry, a GUID. An identity of another tenant is
	// refused before its token is sent anywhere, and exchanges name the tenant. If
	// empty, tenants are not compared.
	TenantID string
	// Cloud is the cloud of all identities, registries and vaults. If empty, it is
	// [Public].
	Cloud Cloud
	// Client sends the requests to Entra, to registries (for the exchange only) and to
	// Key Vault. Redirects are not followed, whatever its CheckRedirect is. If nil, the
	// package uses a client of its own with the proxies of the environment and the
	// system's root certificates.
	Client *http.Client
	// ManagedIdentity sends the requests to the managed-identity endpoint of the
	// machine, which has a link-local or loopback address. If nil, the package uses a
	// client of its own that ignores the proxies of the environment, since the token
	// would pass through them.
	ManagedIdentity *http.Client
	// Retry is how the SDK retries requests. If zero, the SDK's defaults apply: up to 6
	// retries that take a minute at IMDS, and 3 elsewhere.
	Retry policy.RetryOptions
	// Timeout bounds the time to get a credential, including all retries. A request
	// that waits for the credential may end earlier without stopping this work. If
	// zero, [DefaultTimeout] applies.
	Timeout time.Duration
}

// settings are Options with their defaults resolved.
type settings struct {
	tenant   string
	cloud    cloudInfo
	client   *http.Client
	identity *http.Client
	retry    policy.RetryOptions
	timeout  time.Duration
}

func (o Options) resolve() (*settings, error) {
	info, err := o.Cloud.info()
	if err != nil {
		return nil, err
	}
	if o.TenantID != "" && !arm.IsGUID(o.TenantID) {
		return nil, fmt.Errorf("azure: tenant %q is no GUID", o.TenantID)
	}
	s := &settings{tenant: o.TenantID, cloud: info, retry: o.Retry, timeout: o.Timeout}
	if s.timeout <= 0 {
		s.timeout = DefaultTimeout
	}
	s.client = unredirected(o.Client, http.ProxyFromEnvironment)
	s.identity = unredirected(o.ManagedIdentity, nil)
	return s, nil
}

// unredirected returns a copy of c, or a new client with that proxy if c is nil. It
// follows no redirects, since a secret is only for the host to which it is sent.
func unredirected(c *http.Client, proxy proxyFunc) *http.Client {
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c != nil {
		copied := *c
		copied.CheckRedirect = noRedirect
		return &copied
	}
	return &http.Client{CheckRedirect: noRedirect, Transport: &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    4,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

// sdk returns the SDK's options for requests through c.
func (s *settings) sdk(c *http.Client) azcore.ClientOptions {
	return azcore.ClientOptions{Cloud: s.cloud.sdk, Transport: bounded{c}, Retry: s.retry}
}

// maxAnswer is the size of the largest response, in bytes.
const maxAnswer = 1 << 20

var errTooLarge = errors.New("azure: the answer is too large")
