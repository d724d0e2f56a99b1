// Package upstreamtest is a registry for tests: real HTTP on loopback, content that tests
// add, counters, and every fault that an upstream can have.
//
//	up := upstreamtest.NewRegistry(t)
//	img := up.AddImage("team/app", "v1", upstreamtest.Layers(3, 1<<20))
//	c := &cache.Cache{Rules: rules, Upstream: up.Client()}
//	... pull something ...
//	up.WantRequests("HEAD /v2/team/app/manifests/v1")
//
// [Registry.Transport] reaches it without a network, for testing/synctest, and
// [Registry.AddFrom] adds images from another source.
//
// The registry keeps everything in memory, its token server signs nothing, and clients
// cannot push to it. Otherwise it follows the OCI distribution spec.
package upstreamtest

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
	"github.com/pullthrough/pullthrough/upstream"
)

// Registry is a fake registry. Its methods are safe for concurrent use, also while it
// serves requests.
type Registry struct {
	server     *fakeserver.Server
	log        fakeserver.Log[Request]
	faults     fakeserver.Faults[Fault]
	complaints fakeserver.Complaints
	roots      *x509.CertPool // nil for plain HTTP

	mu      sync.Mutex
	repos   map[string]*repo
	sent    map[digest.Digest]int64
	bucket  *bucket // of all requests; nil if there is no limit
	each    int64   // bytes per second of each request; 0 if there is no limit
	users   map[string]string
	tokens  map[string]bool
	granted func(user, repository string) bool
	noRefs  bool
	basic   bool
	issuer  *Registry         // whose tokens the registry demands
	refresh map[string]string // refresh token -> user
	issued  int
	storage *Storage
	budget  *budget // nil if pulls are not limited
}

// name is the prefix of errors and complaints.
const name = "upstreamtest"

type repo struct {
	manifests map[digest.Digest]stored
	blobs     map[digest.Digest][]byte
	tags      map[string]digest.Digest
}

type stored struct {
	mediaType string
	body      []byte
}

// NewRegistry starts a registry that ends with the test.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r, err := Start()
	return ofTest(t, r, err)
}

// ofTest makes a registry complain to a test and end with it.
func ofTest(t testing.TB, r *Registry, err error) *Registry {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	r.complaints.T = t
	t.Cleanup(r.Close)
	return r
}

// Start starts a registry on a free port of 127.0.0.1, without a test. Complaints are only
// collected.
func Start() (*Registry, error) { return start(nil, nil) }

// NewHandler makes a registry that does not listen and has no Host. It serves requests that
// its ServeHTTP or its Transport receives.
func NewHandler() *Registry { return newRegistry(nil, nil) }

func start(roots *x509.CertPool, config *tls.Config) (*Registry, error) {
	r := newRegistry(roots, config)
	if err := r.server.Start(); err != nil {
		return nil, err
	}
	return r, nil
}

func newRegistry(roots *x509.CertPool, config *tls.Config) *Registry {
	r := &Registry{roots: roots, complaints: fakeserver.Complaints{Name: name},
		repos: map[string]*repo{}, sent: map[digest.Digest]int64{}, tokens: map[string]bool{}}
	r.server = fakeserver.New(name, r, config)
	return r
}

// Host is the registry's host and port. It is empty if the registry never
// listened.
func (r *Registry) Host() string { return r.server.Address() }

// Client returns a client that reaches this registry and others, each by its own scheme. It
// sends credentials to the token servers that RequireLoginAt named, but not to a storage.
// Each of the registries may redirect to each other.
func (r *Registry) Client(others ...*Registry) *upstream.Client {
	c := &upstream.Client{Hosts: map[string]upstream.Host{}}
	for _, o := range append([]*Registry{r}, others...) {
		c.Hosts[o.Host()] = o.Upstream()
		o.mu.Lock()
		issuer := o.issuer
		o.mu.Unlock()
		if issuer != nil && issuer != o {
			c.Hosts[issuer.Host()] = issuer.Upstream()
		}
	}
	all := slices.Sorted(maps.Keys(c.Hosts))
	for host, h := range c.Hosts {
		h.Redirects = slices.DeleteFunc(slices.Clone(all), func(other string) bool { return other == host })
		c.Hosts[host] = h
	}
	return c
}

// Transport returns a transport that calls the registry without a network, whatever the host
// of a request, so that it works in the fake time of testing/synctest too. A response is
// complete before the client receives its header. While the registry is stopped,
// connections are refused.
func (r *Registry) Transport() http.RoundTripper { return r.server.Transport() }

// Stop closes the port and every connection, like a registry that is down. Its content
// stays.
func (r *Registry) Stop() { r.server.Stop() }

// Restart undoes Stop, on the same port.
func (r *Registry) Restart() error { return r.server.Restart() }

// Close stops the registry for good, and its storage.
func (r *Registry) Close() {
	r.server.Close()
	r.mu.Lock()
	s := r.storage
	r.mu.Unlock()
	if s != nil {
		s.server.Close()
	}
}

func (r *Registry) repo(name string) *repo {
	p := r.repos[name]
	if p == nil {
		p = &repo{manifests: map[digest.Digest]stored{}, blobs: map[digest.Digest][]byte{}, tags: map[string]digest.Digest{}}
		r.repos[name] = p
	}
	return p
}

// NoReferrers makes the referrers API respond with 404, as old registries do.
func (r *Registry) NoReferrers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noRefs = true
}
