// Package azuretest fakes the parts of Azure that a registry's cache uses, so that
// programs with [github.com/pullthrough/pullthrough/auth/azure] can be tested without
// Azure, with the code, SDK and host names of production:
//
//	az := azuretest.New(t)
//	dev := az.NewRegistry("devregistry") // devregistry.azurecr.io
//	dev.Content.AddImage("team-a/api", "1.4.0", upstreamtest.Layers(3, 1<<20))
//	id := az.NewIdentity("promote")
//	dev.Grant(id.PrincipalID, "team-a/api")
//
//	ids, err := azure.NewIdentities(azure.Options{TenantID: az.TenantID(),
//		Client: az.Client(), ManagedIdentity: az.ManagedIdentityClient()}, id.ResourceID)
//	up := &upstream.Client{Transport: az.Transport()}
//
// It fakes the managed-identity endpoints of virtual machines (IMDS) and of App Service,
// Entra for service principals, container registries with their token exchange, token
// server, data endpoint and firewall, and Key Vault. Every fake checks the requests that it
// receives: audience, tenant, headers and form. It also looks in each request for secrets
// that must not be sent to it. A mistake that only the client can have made is a complaint,
// and fails the test.
//
// [Azure.Client] and [Azure.Transport] use the host names of production and dial loopback,
// with certificates of a test CA. [Azure.Direct] calls the fakes in memory, for
// testing/synctest. [Azure.Proxy] and [Azure.AppService] are for programs that run in
// processes of their own.
//
// The fakes are modelled on the source of the SDKs and on public descriptions, not recorded
// from Azure. In particular, the texts of errors, and the response of a token server to a
// principal without a role, may differ.
package azuretest

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// Azure is a fake of Azure: a home tenant, and the resources that were made in it. Its
// methods are safe for concurrent use. Make it with [New].
type Azure struct {
	tenant     string
	key        []byte // signs tokens
	net        network
	calls      fakeserver.Log[Call]
	faults     fakeserver.Faults[fault]
	complaints fakeserver.Complaints

	mu         sync.Mutex
	hosts      map[string]host
	identities map[string]*Identity // by canonical resource id; "" stands for the system-assigned one
	principals map[string]*ServicePrincipal
	lifetimes  Lifetimes
	skew       time.Duration
	secrets    []Secret
	refused    []string
	issued     int
}

// host is the server behind a host name.
type host struct {
	endpoint func(*http.Request) Endpoint
	serve    func(http.ResponseWriter, *http.Request, Endpoint)
}

const (
	imdsHost = "169.254.169.254"
	entra    = "login.microsoftonline.com"
	// appServiceHost stands for the App Service endpoint in the log: it has a
	// port of its own on loopback.
	appServiceHost = "appservice.local"
)

// name is the prefix of errors and complaints.
const name = "azuretest"

// New makes an Azure that ends with the test. If t is nil, complaints are only collected,
// see [Azure.Complaints], and the caller must call [Azure.Close].
func New(t testing.TB) *Azure {
	a := &Azure{tenant: newGUID(), key: []byte(rand.Text()), hosts: map[string]host{},
		identities: map[string]*Identity{}, principals: map[string]*ServicePrincipal{},
		complaints: fakeserver.Complaints{Name: name, T: t}}
	a.net.init(a)
	always := func(e Endpoint) func(*http.Request) Endpoint { return func(*http.Request) Endpoint { return e } }
	a.hosts[imdsHost] = host{always(IMDS), a.imds}
	a.hosts[appServiceHost] = host{always(AppService), a.appService}
	for _, name := range []string{entra, "login.chinacloudapi.cn", "login.microsoftonline.us"} {
		a.hosts[name] = host{always(Entra), a.entra}
	}
	if t != nil {
		t.Cleanup(a.Close)
	}
	return a
}

// TenantID returns the home tenant, in which resources are made by default.
func (a *Azure) TenantID() string { return a.tenant }

// Handle adds a host of the test's own, such as a hostile one, at port 443. Its requests
// are logged as [Other], and searched for secrets like those of all hosts.
func (a *Azure) Handle(name string, h http.Handler) {
	a.add(name, host{
		func(*http.Request) Endpoint { return Other },
		func(w http.ResponseWriter, r *http.Request, _ Endpoint) { h.ServeHTTP(w, r) },
	})
}

func (a *Azure) add(name string, h host) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hosts[name] = h
}

// lookup finds the host with a name, which may have the port of its scheme.
func (a *Azure) lookup(name string) (host, bool) {
	if bare, port, err := net.SplitHostPort(name); err == nil && (port == "443" || port == "80") {
		name = bare
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h, ok := a.hosts[strings.ToLower(name)]
	return h, ok
}

// refuse notes that a host does not exist, and returns the error that says so.
func (a *Azure) refuse(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = append(a.refused, name)
	return fmt.Errorf("azuretest: no such host: %s", name)
}

// Refused returns the names to which clients tried to connect and that do not exist here,
// in order.
func (a *Azure) Refused() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.refused)
}

// Complaints returns the mistakes of clients. With a testing.TB each has failed the test
// already.
func (a *Azure) Complaints() []string { return a.complaints.All() }

func (a *Azure) complain(format string, args ...any) { a.complaints.Complain(format, args...) }

// now is the time of the fakes.
func (a *Azure) now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Add(a.skew)
}

// SetSkew sets the clock of Azure ahead of that of the process by d, which may be negative.
// Tokens have the times of this clock, and are checked against it.
func (a *Azure) SetSkew(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.skew = d
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
