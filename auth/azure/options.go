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

// DefaultTimeout bounds one way to a credential, all retries together.
const DefaultTimeout = 60 * time.Second

// Options say where and how Azure is asked. The zero value is that of the
// public cloud with the SDK's own settings.
type Options struct {
	// TenantID is the tenant of this registry, a GUID. With it, an identity of
	// another tenant is refused before its token is sent anywhere, and registries
	// are told the tenant. If empty, tenants are not compared.
	TenantID string
	// Cloud is where everything lies. If empty, [Public].
	Cloud Cloud
	// Client asks Entra, registries (for the exchange only) and Key Vault. Its
	// redirect policy is not used: none is followed. If nil, one of the package's
	// own, which takes the proxies of the environment and verifies with the
	// system's roots.
	Client *http.Client
	// ManagedIdentity asks the managed-identity endpoint of the machine, which is
	// link-local or loopback. If nil, one that takes no proxy whatever the
	// environment says: the token would pass through it.
	ManagedIdentity *http.Client
	// Retry is how the SDK asks again. If zero, the SDK's own way: up to 6 tries
	// that take a minute at IMDS, 3 elsewhere.
	Retry policy.RetryOptions
	// Timeout bounds one way to a credential, all retries together. It belongs to
	// no request: who waits may leave earlier. If zero, [DefaultTimeout].
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

// unredirected returns c, or a client of our own with that proxy, so that it
// follows no redirect: what is sent is for the host it was sent to.
func unredirected(c *http.Client, proxy proxyFunc) *http.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c != nil {
		own := *c
		own.CheckRedirect = stay
		return &own
	}
	return &http.Client{CheckRedirect: stay, Transport: &http.Transport{
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

// sdk are the SDK's options for requests through c.
func (s *settings) sdk(c *http.Client) azcore.ClientOptions {
	return azcore.ClientOptions{Cloud: s.cloud.sdk, Transport: bounded{c}, Retry: s.retry}
}

// maxAnswer is the largest answer that is read, in bytes.
const maxAnswer = 1 << 20

var errTooLarge = errors.New("azure: the answer is too large")
