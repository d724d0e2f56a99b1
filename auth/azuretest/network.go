package azuretest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// network holds the servers of an Azure. None listens before it is needed.
type network struct {
	// secure and plain serve all hosts at the ports 443 and 80. secure also counts the
	// requests under way, whichever way they came.
	secure, plain *fakeserver.Server
	// proxy and service are for programs in processes of their own.
	proxy, service *fakeserver.Server

	mu             sync.Mutex
	authority      *fakeserver.CA
	identityHeader string
	clients        []*http.Transport
}

func (n *network) init(a *Azure) {
	n.secure = fakeserver.New(name, a, &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: a.certificate})
	n.plain = fakeserver.New(name, a, nil)
	n.proxy = fakeserver.New(name, http.HandlerFunc(a.connect), nil)
	n.service = fakeserver.New(name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = appServiceHost
		a.ServeHTTP(w, r)
	}), nil)
}

// Close ends all servers, and closes the connections of the clients.
func (a *Azure) Close() {
	for _, s := range []*fakeserver.Server{a.net.secure, a.net.plain, a.net.proxy, a.net.service} {
		s.Close()
	}
	a.net.mu.Lock()
	clients := a.net.clients
	a.net.clients = nil
	a.net.mu.Unlock()
	for _, t := range clients {
		t.CloseIdleConnections()
	}
}

// Dial connects to the host of an address by its production name, in place of a net.Dialer.
func (a *Azure) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if _, ok := a.lookup(address); !ok {
		return nil, a.refuse(address)
	}
	to, err := a.address(address)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// address returns the address of a host on loopback, and starts its server.
func (a *Azure) address(name string) (string, error) {
	server := a.net.secure
	if strings.HasSuffix(name, ":80") {
		server = a.net.plain
	}
	if err := server.Start(); err != nil {
		return "", err
	}
	return server.Address(), nil
}

// certificate returns the certificate of the host that a client connects to.
func (a *Azure) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if _, ok := a.lookup(hello.ServerName); !ok {
		return nil, a.refuse(hello.ServerName)
	}
	authority, err := a.ca()
	if err != nil {
		return nil, err
	}
	return authority.Certificate(hello.ServerName)
}

// Transport returns a transport that reaches the hosts of this Azure by their production
// names, each with a certificate of the test CA, and no other host. It uses no proxy.
func (a *Azure) Transport() *http.Transport {
	roots := a.Roots()
	return &http.Transport{DialContext: a.Dial, TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DisableCompression: true}
}

// Client returns an HTTP client with [Azure.Transport].
func (a *Azure) Client() *http.Client { return a.client(a.Transport()) }

// ManagedIdentityClient returns an HTTP client that reaches IMDS and no other host.
func (a *Azure) ManagedIdentityClient() *http.Client {
	return a.client(&http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != imdsHost+":80" {
			return nil, a.refuse(address)
		}
		return a.Dial(ctx, network, address)
	}})
}

// client returns an HTTP client whose connections are closed with the Azure.
func (a *Azure) client(t *http.Transport) *http.Client {
	a.net.mu.Lock()
	defer a.net.mu.Unlock()
	a.net.clients = append(a.net.clients, t)
	return &http.Client{Transport: t}
}

// Direct returns an HTTP client that reaches all hosts in memory, without sockets, so that
// it works in a bubble of testing/synctest and with the bubble's clock. A response is
// complete before the client receives its header.
func (a *Azure) Direct() *http.Client {
	return &http.Client{Transport: direct{a, fakeserver.Direct(a)}}
}

type direct struct {
	azure *Azure
	http.RoundTripper
}

// RoundTrip refuses hosts that do not exist, as [Azure.Dial] does.
func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, ok := d.azure.lookup(req.URL.Host); !ok {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, d.azure.refuse(req.URL.Host)
	}
	return d.RoundTripper.RoundTrip(req)
}

// Proxy starts an HTTP proxy on loopback, once, and returns its URL. A process with it as
// HTTPS_PROXY reaches this Azure by its production names, and no other host. Hosts that do
// not exist are noted in Refused.
func (a *Azure) Proxy() (string, error) {
	if err := a.net.proxy.Start(); err != nil {
		return "", err
	}
	return "http://" + a.net.proxy.Address(), nil
}

func (a *Azure) connect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		a.complain("the proxy was asked %s %s: nothing but CONNECT is for it", r.Method, r.URL)
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	far, err := a.Dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	w.WriteHeader(http.StatusOK)
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		a.complain("the proxy cannot take over a connection: %v", err)
		return
	}
	defer near.Close()
	// The server may have read the first bytes of the tunnel already.
	go func() { _, _ = io.Copy(far, buffered); _ = far.Close() }()
	_, _ = io.Copy(near, far)
}

// AppService starts a managed-identity endpoint of App Service on loopback, once, and
// returns the environment variables that lead to it: IDENTITY_ENDPOINT and IDENTITY_HEADER.
func (a *Azure) AppService() (map[string]string, error) {
	a.net.mu.Lock()
	if a.net.identityHeader == "" {
		a.net.identityHeader = rand.Text()
		defer a.secret("identity header", a.net.identityHeader, sentTo("", AppService))
	}
	defer a.net.mu.Unlock()
	if err := a.net.service.Start(); err != nil {
		return nil, err
	}
	return map[string]string{
		"IDENTITY_ENDPOINT": "http://" + a.net.service.Address() + "/msi/token",
		"IDENTITY_HEADER":   a.net.identityHeader,
	}, nil
}

var errNoAuthority = errors.New("azuretest: the test CA cannot be made")

// ca makes the test CA, once.
func (a *Azure) ca() (*fakeserver.CA, error) {
	a.net.mu.Lock()
	defer a.net.mu.Unlock()
	if a.net.authority == nil {
		ca, err := fakeserver.NewCA("azuretest CA")
		if err != nil {
			return nil, errors.Join(errNoAuthority, err)
		}
		a.net.authority = ca
	}
	return a.net.authority, nil
}

// Roots returns the pool that verifies the certificates of all hosts. It is nil if the CA
// could not be made, which is a complaint.
func (a *Azure) Roots() *x509.CertPool {
	authority, err := a.ca()
	if err != nil {
		a.complain("%v", err)
		return nil
	}
	return authority.Roots()
}

// CA returns the certificate of the test CA in PEM, for SSL_CERT_FILE. It is nil if the CA
// could not be made, which is a complaint.
func (a *Azure) CA() []byte {
	authority, err := a.ca()
	if err != nil {
		a.complain("%v", err)
		return nil
	}
	return authority.PEM()
}
