// Package azuretest fakes the parts of Azure that a registry's cache speaks to,
// so that programs with [github.com/pullthrough/pullthrough/auth/azure] can be
// tested without Azure, through the same code, SDK and host names as in
// production:
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
// There are the managed-identity endpoints of virtual machines (IMDS) and of App
// Service, Entra for service principals, container registries with their token
// exchange, token server, data endpoint and firewall, and Key Vault. Every fake
// checks what it is sent: audience, tenant, headers, form and order, and looks in
// every request for secrets that are not for it. What only a fault of the client
// can explain is a complaint, and fails the test.
//
// [Azure.Client] and [Azure.Transport] keep production names and dial loopback,
// with certificates of a test CA; [Azure.Direct] calls the fakes in memory, for
// testing/synctest; [Azure.Proxy] and [Azure.AppService] are for processes.
//
// What is faked is modelled on the source of the SDKs and on public
// descriptions, not recorded from Azure. In particular the texts of errors, and
// what a token server answers to a principal without a role, may differ.
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

// Azure is one fake of Azure: one tenant that is home, and what was made in it.
// Its methods are safe for concurrent use. Make it with [New].
type Azure struct {
	tenant     string
	key        []byte // signs tokens
	net        network
	calls      fakeserver.Log[Call]
	faults     fakeserver.Faults[fault]
	complaints fakeserver.Complaints

	mu         sync.Mutex
	hosts      map[string]host
	identities map[string]*Identity // by canonical resource id, "" the machine's own
	principals map[string]*ServicePrincipal
	lifetimes  Lifetimes
	skew       time.Duration
	secrets    []Secret
	refused    []string
	issued     int
}

// host is one name and what answers there.
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

// name is what errors and complaints begin with.
const name = "azuretest"

// New makes an Azure that ends with the test. If t is nil, complaints are only
// kept, see [Azure.Complaints], and the caller must call [Azure.Close].
func New(t testing.TB) *Azure {
	a := &Azure{tenant: newGUID(), key: []byte(rand.Text()), hosts: map[string]host{},
		identities: map[string]*Identity{}, principals: map[string]*ServicePrincipal{},
		complaints: fakeserver.Complaints{Name: name, T: t}}
	a.net.init(a)
	only := func(e Endpoint) func(*http.Request) Endpoint { return func(*http.Request) Endpoint { return e } }
	a.hosts[imdsHost] = host{only(IMDS), a.imds}
	a.hosts[appServiceHost] = host{only(AppService), a.appService}
	for _, name := range []string{entra, "login.chinacloudapi.cn", "login.microsoftonline.us"} {
		a.hosts[name] = host{only(Entra), a.entra}
	}
	if t != nil {
		t.Cleanup(a.Close)
	}
	return a
}

// TenantID is the home tenant, in which everything is unless said otherwise.
func (a *Azure) TenantID() string { return a.tenant }

// Handle adds a host of the test's own, such as a hostile one, at port 443. What
// it is sent is logged as [Other], and looked through for secrets as everywhere.
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

// lookup finds who answers to a name, with or without the scheme's port.
func (a *Azure) lookup(name string) (host, bool) {
	if bare, port, err := net.SplitHostPort(name); err == nil && (port == "443" || port == "80") {
		name = bare
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h, ok := a.hosts[strings.ToLower(name)]
	return h, ok
}

// refuse notes a host that does not exist.
func (a *Azure) refuse(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = append(a.refused, name)
	return fmt.Errorf("azuretest: no such host: %s", name)
}

// Refused are the names that somebody wanted to reach and that do not exist
// here, in order.
func (a *Azure) Refused() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.refused)
}

// Complaints returns what no right client does. With a testing.TB each has
// failed the test already.
func (a *Azure) Complaints() []string { return a.complaints.All() }

func (a *Azure) complain(format string, args ...any) { a.complaints.Complain(format, args...) }

// now is the time of the fakes.
func (a *Azure) now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Add(a.skew)
}

// SetSkew puts the clock of Azure ahead of ours by d, which may be negative: what
// is written into tokens, and what they are checked against.
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
