package azuretest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// network is how an Azure is reached: nothing listens before it is needed.
type network struct {
	mu             sync.Mutex
	authority      *authority
	secure, plain  net.Listener
	proxy, service net.Listener
	identityHeader string
	closers        []io.Closer
}

// Close ends everything that listens.
func (a *Azure) Close() {
	a.net.mu.Lock()
	closers := a.net.closers
	a.net.closers = nil
	a.net.mu.Unlock()
	for _, c := range closers {
		_ = c.Close()
	}
}

// listen starts a server on loopback, once. The caller holds net.mu.
func (n *network) listen(l *net.Listener, h http.Handler, config *tls.Config) error {
	if *l != nil {
		return nil
	}
	opened, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	*l = opened
	s := &http.Server{Handler: h, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	n.closers = append(n.closers, s)
	go func() {
		if config != nil {
			_ = s.ServeTLS(opened, "", "")
			return
		}
		_ = s.Serve(opened)
	}()
	return nil
}

// Dial connects to the host of an address under its production name. It is what
// a net.Dialer is in production.
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

// address is where a host is on loopback.
func (a *Azure) address(name string) (string, error) {
	authority, err := a.ca()
	if err != nil {
		return "", err
	}
	a.net.mu.Lock()
	defer a.net.mu.Unlock()
	if strings.HasSuffix(name, ":80") {
		err := a.net.listen(&a.net.plain, a, nil)
		if err != nil {
			return "", err
		}
		return a.net.plain.Addr().String(), nil
	}
	config := &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if _, ok := a.lookup(hello.ServerName); !ok {
			return nil, a.refuse(hello.ServerName)
		}
		return authority.certificate(hello.ServerName)
	}}
	if err := a.net.listen(&a.net.secure, a, config); err != nil {
		return "", err
	}
	return a.net.secure.Addr().String(), nil
}

// Transport reaches the hosts of this Azure under their production names, each
// with a certificate of the test CA, and no other host. It takes no proxy.
func (a *Azure) Transport() *http.Transport {
	roots := a.Roots()
	return &http.Transport{DialContext: a.Dial, TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DisableCompression: true}
}

// Client is an HTTP client with [Azure.Transport].
func (a *Azure) Client() *http.Client { return a.client(a.Transport()) }

// ManagedIdentityClient reaches IMDS and nothing else.
func (a *Azure) ManagedIdentityClient() *http.Client {
	return a.client(&http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != imdsHost+":80" {
			return nil, a.refuse(address)
		}
		return a.Dial(ctx, network, address)
	}})
}

// client closes its connections with the Azure.
func (a *Azure) client(t *http.Transport) *http.Client {
	a.net.mu.Lock()
	defer a.net.mu.Unlock()
	a.net.closers = append(a.net.closers, closerFunc(t.CloseIdleConnections))
	return &http.Client{Transport: t}
}

type closerFunc func()

func (f closerFunc) Close() error { f(); return nil }

// Direct reaches all hosts in memory: no sockets, no goroutines, so that it works
// in a bubble of testing/synctest and with the bubble's clock. An answer is
// complete before its header arrives.
func (a *Azure) Direct() *http.Client { return &http.Client{Transport: direct{a}} }

type direct struct{ azure *Azure }

func (d direct) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if _, ok := d.azure.lookup(req.URL.Host); !ok {
		return nil, d.azure.refuse(req.URL.Host)
	}
	in := req.Clone(req.Context())
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	w := httptest.NewRecorder()
	defer func() {
		switch p := recover(); {
		case p == http.ErrAbortHandler && req.Context().Err() != nil:
			resp, err = nil, req.Context().Err()
		case p == http.ErrAbortHandler:
			resp, err = cut(w, req)
		case p != nil:
			panic(p)
		}
	}()
	d.azure.ServeHTTP(w, in)
	resp = w.Result()
	resp.Request = req
	return resp, nil
}

// cut is what a client sees of a connection that breaks.
func cut(w *httptest.ResponseRecorder, req *http.Request) (*http.Response, error) {
	if w.Body.Len() == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	resp := w.Result()
	resp.Request = req
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(w.Body.Bytes()), broken{}))
	return resp, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Proxy starts an HTTP proxy on loopback, once, and returns its URL: a process
// whose HTTPS_PROXY it is reaches this Azure under production names, and nothing
// else. Who asks it for what is in Refused, if it does not exist.
func (a *Azure) Proxy() (string, error) {
	a.net.mu.Lock()
	defer a.net.mu.Unlock()
	err := a.net.listen(&a.net.proxy, http.HandlerFunc(a.connect), nil)
	if err != nil {
		return "", err
	}
	return "http://" + a.net.proxy.Addr().String(), nil
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
	// The server may have read the first of what follows already.
	go func() { _, _ = io.Copy(far, buffered); _ = far.Close() }()
	_, _ = io.Copy(near, far)
}

// AppService starts a managed-identity endpoint of App Service on loopback, once,
// and returns the environment that leads there: IDENTITY_ENDPOINT and
// IDENTITY_HEADER.
func (a *Azure) AppService() (map[string]string, error) {
	a.net.mu.Lock()
	if a.net.identityHeader == "" {
		a.net.identityHeader = rand.Text()
		defer a.secret("identity header", a.net.identityHeader, at("", AppService))
	}
	defer a.net.mu.Unlock()
	err := a.net.listen(&a.net.service, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = appServiceHost
		a.ServeHTTP(w, r)
	}), nil)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"IDENTITY_ENDPOINT": "http://" + a.net.service.Addr().String() + "/msi/token",
		"IDENTITY_HEADER":   a.net.identityHeader,
	}, nil
}

var errNoAuthority = errors.New("azuretest: the test CA cannot be made")

// ca makes the test CA, once.
func (a *Azure) ca() (*authority, error) {
	a.net.mu.Lock()
	defer a.net.mu.Unlock()
	if a.net.authority == nil {
		made, err := newAuthority()
		if err != nil {
			return nil, errors.Join(errNoAuthority, err)
		}
		a.net.authority = made
	}
	return a.net.authority, nil
}

// Roots are what verifies the certificates of all hosts; nil if the CA could not
// be made, which is a complaint.
func (a *Azure) Roots() *x509.CertPool {
	authority, err := a.ca()
	if err != nil {
		a.complain("%v", err)
		return nil
	}
	return authority.roots
}

// CA is the certificate of the test CA in PEM, for SSL_CERT_FILE; nil if it could
// not be made, which is a complaint.
func (a *Azure) CA() []byte {
	authority, err := a.ca()
	if err != nil {
		a.complain("%v", err)
		return nil
	}
	return authority.pem
}
