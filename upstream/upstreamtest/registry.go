// Package upstreamtest is a registry for tests: real HTTP on loopback, content
// that tests put there, counters, and every fault that an upstream can have.
//
//	up := upstreamtest.NewRegistry(t)
//	img := up.AddImage("team/app", "v1", upstreamtest.Layers(3, 1<<20))
//	c := &cache.Cache{Rules: rules, Upstream: up.Client()}
//
// What it fakes: it keeps everything in memory, its token server signs nothing,
// and it is never pushed to. What it does speak, it speaks as the OCI
// distribution spec says.
package upstreamtest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
)

// Registry is a fake registry. Its methods are safe for concurrent use, while
// it serves too.
type Registry struct {
	address string

	mu      sync.Mutex
	server  *http.Server
	repos   map[string]*repo
	faults  []*Fault
	log     []Request
	sent    map[digest.Digest]int64
	open    int
	bucket  *bucket
	users   map[string]string
	tokens  map[string]bool
	granted func(user, repository string) bool
	noRefs  bool
	basic   bool
	issuer  *Registry         // whose tokens are asked for
	refresh map[string]string // refresh token -> user
	issued  int
	storage *Storage

	complaints []string
	tls        *tls.Config    // nil: plain HTTP
	roots      *x509.CertPool // of tls
	halted     chan struct{}  // closed by Stop: hanging handlers end
	t          testing.TB
}

type repo struct {
	manifests map[digest.Digest]stored
	blobs     map[digest.Digest][]byte
	tags      map[string]digest.Digest
}

type stored struct {
	mediaType string
	body      []byte
}

// Request is one request that the registry got.
type Request struct {
	Method     string
	Path       string
	Query      string
	Header     http.Header
	Kind       string // "manifest", "blob", "tags", "referrers", "token" or "other"
	Repository string
	Reference  string
}

// NewRegistry starts a registry that ends with the test.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	r.t = t
	t.Cleanup(r.Close)
	return r
}

// Start starts a registry on a free port of 127.0.0.1.
func Start() (*Registry, error) {
	r := newRegistry()
	if err := r.listen(); err != nil {
		return nil, err
	}
	return r, nil
}

// NewHandler makes a registry that listens nowhere: it answers what is given to
// its ServeHTTP, and has no Host.
func NewHandler() *Registry { return newRegistry() }

func newRegistry() *Registry {
	return &Registry{repos: map[string]*repo{}, sent: map[digest.Digest]int64{}, tokens: map[string]bool{}}
}

func (r *Registry) listen() error {
	address := r.Host()
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("upstreamtest: %w", err)
	}
	s := &http.Server{Handler: r, TLSConfig: r.tls, ErrorLog: log.New(io.Discard, "", 0)}
	r.mu.Lock()
	r.address, r.server, r.halted = l.Addr().String(), s, make(chan struct{})
	r.mu.Unlock()
	go func() {
		if r.tls != nil {
			_ = s.ServeTLS(l, "", "")
			return
		}
		_ = s.Serve(l)
	}()
	return nil
}

// Host is the registry's host and port; "" if it never listened.
func (r *Registry) Host() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.address
}

// Client returns a client that reaches this registry and others besides, each
// by the scheme that it speaks; a token server that was named by RequireLoginAt
// is trusted, a storage is not. Each of them may lead to each other.
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

// Stop closes the port and every connection, as a registry that is down. What
// it holds stays.
func (r *Registry) Stop() {
	r.mu.Lock()
	s := r.server
	r.server = nil
	if s != nil {
		close(r.halted)
	}
	r.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}

// Restart serves again on the same port.
func (r *Registry) Restart() error { return r.listen() }

// Close stops for good, and the storage too.
func (r *Registry) Close() {
	r.Stop()
	r.mu.Lock()
	s := r.storage
	r.mu.Unlock()
	if s != nil {
		s.Stop()
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

// Requests returns what the registry was asked, in order, since the last
// Reset.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Count counts requests: kind and method empty mean any, and so does an empty
// reference.
func (r *Registry) Count(method, kind, reference string) (n int) {
	for _, q := range r.Requests() {
		if (method == "" || q.Method == method) && (kind == "" || q.Kind == kind) && (reference == "" || q.Reference == reference) {
			n++
		}
	}
	return n
}

// BlobBytes is how many bytes of a blob were sent to clients, what was on its way
// when one left included; of all blobs if d is empty.
func (r *Registry) BlobBytes(d digest.Digest) (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, v := range r.sent {
		if d == "" || k == d {
			n += v
		}
	}
	return n
}

// Open is how many requests are being answered.
func (r *Registry) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// Reset forgets requests and bytes that were counted.
func (r *Registry) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log, r.sent = nil, map[digest.Digest]int64{}
}

// Pace limits the bytes of blobs per second, all requests together; 0: no
// limit.
func (r *Registry) Pace(bytesPerSecond int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bucket = nil
	if bytesPerSecond > 0 {
		r.bucket = &bucket{rate: float64(bytesPerSecond), last: time.Now()}
	}
}

// NoReferrers makes the referrers API answer 404, as old registries do.
func (r *Registry) NoReferrers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noRefs = true
}

// bucket paces writers.
type bucket struct {
	mu   sync.Mutex
	rate float64
	last time.Time // when all that was taken will have been paid for
}

// take waits until n bytes may be sent.
func (b *bucket) take(n int, stop <-chan struct{}) {
	b.mu.Lock()
	now := time.Now()
	if b.last.Before(now) {
		b.last = now
	}
	b.last = b.last.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	wait := b.last.Sub(now)
	b.mu.Unlock()
	select {
	case <-time.After(wait):
	case <-stop:
	}
}

// parse sorts a path.
func parse(path string) (kind, repository, reference string) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		if path == "/token" {
			return "token", "", ""
		}
		return "other", "", ""
	}
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return "tags", name, ""
	}
	for _, k := range []string{"manifest", "blob", "referrer"} {
		if i := strings.LastIndex(rest, "/"+k+"s/"); i >= 0 {
			if k == "referrer" {
				return "referrers", rest[:i], rest[i+len(k)+3:]
			}
			return k, rest[:i], rest[i+len(k)+3:]
		}
	}
	return "other", "", ""
}
