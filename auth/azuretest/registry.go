package azuretest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// Registry is a container registry with a dedicated data endpoint in eastus. Its
// methods are safe for concurrent use.
type Registry struct {
	// Content holds the images, and has the counts and faults of requests that were
	// authorized. Bytes and faults of blobs are those of the data endpoint.
	Content *upstreamtest.Registry

	azure       *Azure
	tenant      string
	loginServer string
	dataServer  string

	// under azure.mu
	grants   map[string]map[string]bool // principal -> repositories; "*" stands for all
	tokens   map[string]string          // ACR token name -> password
	links    map[string]link            // by signature
	firewall string
	refuse   bool
	epoch    int
}

// link is a signed link to a blob at the data endpoint.
type link struct {
	repository string
	digest     digest.Digest
	until      int64
}

// NewRegistry makes a registry in the public cloud: name.azurecr.io. The name may have a
// hyphen, as that of a registry with a domain name label does.
func (a *Azure) NewRegistry(name string) *Registry {
	return a.NewRegistryIn(a.tenant, name+".azurecr.io")
}

// NewRegistryIn makes a registry of any tenant and cloud, by its login server. It accepts
// only tokens of its tenant.
func (a *Azure) NewRegistryIn(tenantID, loginServer string) *Registry {
	name, domain, _ := strings.Cut(loginServer, ".")
	r := &Registry{Content: upstreamtest.NewHandler(), azure: a, tenant: tenantID, loginServer: loginServer, dataServer: name + ".eastus.data." + domain,
		grants: map[string]map[string]bool{}, tokens: map[string]string{}, links: map[string]link{}}
	a.add(loginServer, host{func(q *http.Request) Endpoint {
		switch q.URL.Path {
		case "/oauth2/exchange":
			return Exchange
		case "/oauth2/token":
			return Token
		}
		return V2
	}, r.serve})
	a.add(r.dataServer, host{func(*http.Request) Endpoint { return Data }, r.data})
	return r
}

// LoginServer returns the registry's host name.
func (r *Registry) LoginServer() string { return r.loginServer }

// DataServer returns the host name of the data endpoint, to which blobs are redirected.
func (r *Registry) DataServer() string { return r.dataServer }

// Grant allows a principal to pull from repositories, or from all if none is named. As in
// Azure, access tokens that were issued before do not change.
func (r *Registry) Grant(principalID string, repositories ...string) {
	if len(repositories) == 0 {
		repositories = []string{"*"}
	}
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	if r.grants[principalID] == nil {
		r.grants[principalID] = map[string]bool{}
	}
	for _, name := range repositories {
		r.grants[principalID][name] = true
	}
}

// Revoke removes all grants of a principal. Access tokens that were issued before stay
// valid until they expire; see ForgetTokens.
func (r *Registry) Revoke(principalID string) {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	delete(r.grants, principalID)
}

// AddToken makes an ACR token: a name and a password with access to repositories, or to
// all if none is named.
func (r *Registry) AddToken(name, password string, repositories ...string) {
	r.azure.mu.Lock()
	r.tokens[name] = password
	r.azure.mu.Unlock()
	r.azure.secret("password", password, sentTo(r.loginServer, Token, V2))
	r.Grant(name, repositories...)
}

// ForgetTokens makes every refresh and access token that the registry issued
// invalid.
func (r *Registry) ForgetTokens() {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	r.epoch++
}

// SetFirewall makes the registry refuse every request, as if no network rule allowed the
// client, and name ip as its address. If ip is empty, the firewall is open.
func (r *Registry) SetFirewall(ip string) {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	r.firewall = ip
}

// SetRefuseTokens makes the token server respond with 401 if a grant is missing. By default
// it issues a token without that access. It is not known which of the two Azure does.
func (r *Registry) SetRefuseTokens(on bool) {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	r.refuse = on
}

// granted returns those of repositories from which a principal may pull.
func (r *Registry) granted(principal string, repositories []string) []string {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	has := r.grants[principal]
	return slices.DeleteFunc(slices.Clone(repositories), func(name string) bool { return !has[name] && !has["*"] })
}

func (r *Registry) serve(w http.ResponseWriter, q *http.Request, e Endpoint) {
	r.azure.mu.Lock()
	ip := r.firewall
	r.azure.mu.Unlock()
	w.Header().Set("X-Ms-Correlation-Request-Id", newGUID())
	if q.TLS == nil && q.URL.Scheme != "https" {
		r.azure.complain("%s was asked without TLS", r.loginServer)
	}
	switch {
	case ip != "":
		fail(w, http.StatusForbidden, "DENIED", "client with IP '"+ip+"' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.")
	case e == Exchange:
		r.exchange(w, q)
	case e == Token:
		r.token(w, q)
	default:
		r.v2(w, q)
	}
}

// v2 serves the distribution API.
func (r *Registry) v2(w http.ResponseWriter, q *http.Request) {
	repository, digested, blob := repositoryOf(q.URL.Path)
	if !r.mayPull(q, repository) {
		text := fmt.Sprintf("Bearer realm=%q,service=%q", "https://"+r.loginServer+"/oauth2/token", r.loginServer)
		var detail []map[string]string
		if repository != "" {
			text += fmt.Sprintf(",scope=%q", "repository:"+repository+":pull")
			detail = []map[string]string{{"Type": "repository", "Name": repository, "Action": "pull"}}
		}
		w.Header().Set("Www-Authenticate", text)
		answer(w, http.StatusUnauthorized, map[string]any{"errors": []map[string]any{{"code": "UNAUTHORIZED", "detail": detail,
			"message": "authentication required, visit https://aka.ms/acr/authorization for more information."}}})
		return
	}
	if d := digest.Digest(digested); blob && q.Method == http.MethodGet && r.Content.Blob(repository, d) != nil {
		w.Header().Set("Docker-Content-Digest", d.String())
		w.Header().Set("Location", r.link(repository, d))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	r.Content.ServeHTTP(w, q)
}

// repositoryOf parses a path of the distribution API.
func repositoryOf(path string) (repository, reference string, blob bool) {
	rest := strings.TrimPrefix(path, "/v2/")
	for _, kind := range []string{"/manifests/", "/blobs/", "/referrers/", "/tags/"} {
		if i := strings.LastIndex(rest, kind); i > 0 {
			return rest[:i], rest[i+len(kind):], kind == "/blobs/"
		}
	}
	return "", "", false
}

// mayPull checks the credential of a request.
func (r *Registry) mayPull(q *http.Request, repository string) bool {
	if user, password, ok := q.BasicAuth(); ok {
		principal, ok := r.login(user, password)
		return ok && (repository == "" || len(r.granted(principal, []string{repository})) > 0)
	}
	token, _ := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	c, ok := r.azure.read(token, "access")
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	return ok && c.Audience == r.loginServer && c.Epoch == r.epoch && (repository == "" || slices.Contains(c.Scopes, repository))
}

// login checks the name and password of an ACR token or service principal.
func (r *Registry) login(user, password string) (principal string, ok bool) {
	r.azure.mu.Lock()
	want, known := r.tokens[user]
	r.azure.mu.Unlock()
	if known {
		return user, want == password
	}
	p, known := r.azure.byClient(user)
	return p.PrincipalID, known && p.secret == password
}

// linkLife is how long a link to a blob is valid, in seconds.
const linkLife = 20 * 60

// link makes a signed link. Links of ACR have a double slash.
func (r *Registry) link(repository string, d digest.Digest) string {
	r.azure.mu.Lock()
	r.azure.issued++
	n := r.azure.issued
	r.azure.mu.Unlock()
	until := r.azure.now().Unix() + linkLife
	signature := encode(r.azure.sign(fmt.Sprint("link", n)))
	r.azure.secret("link", signature, sentTo(r.dataServer, Data))
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	maps.DeleteFunc(r.links, func(_ string, l link) bool { return l.until < until-linkLife })
	r.links[signature] = link{repository, d, until}
	return "https://" + r.dataServer + "/" + d.Encoded()[:8] + "//docker/registry/v2/blobs/" + d.Encoded() + "/data?" +
		url.Values{"se": {fmt.Sprint(until)}, "sig": {signature}, "sp": {"r"}}.Encode()
}

// data serves the data endpoint. As storage accounts do, it refuses requests with a
// credential besides the link, and sends no digest.
func (r *Registry) data(w http.ResponseWriter, q *http.Request, _ Endpoint) {
	for _, h := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
		if q.Header.Get(h) != "" {
			r.azure.complain("the data endpoint %s got the header %s", r.dataServer, h)
			http.Error(w, "InvalidAuthenticationInfo: Authentication information is not given in the correct format. Check the value of Authorization header.", http.StatusBadRequest)
			return
		}
	}
	r.azure.mu.Lock()
	l, ok := r.links[q.URL.Query().Get("sig")]
	r.azure.mu.Unlock()
	if !ok || l.until < r.azure.now().Unix() || !strings.HasSuffix(q.URL.Path, "//docker/registry/v2/blobs/"+l.digest.Encoded()+"/data") {
		http.Error(w, "AuthenticationFailed: Signature did not match, or the link has expired.", http.StatusForbidden)
		return
	}
	inner := q.Clone(q.Context())
	inner.URL = &url.URL{Path: "/v2/" + l.repository + "/blobs/" + l.digest.String()}
	r.Content.ServeHTTP(undigested{w}, inner)
}

// undigested is a ResponseWriter that removes the digest.
type undigested struct{ http.ResponseWriter }

func (w undigested) WriteHeader(status int) {
	w.Header().Del("Docker-Content-Digest")
	w.ResponseWriter.WriteHeader(status)
}

func (w undigested) Unwrap() http.ResponseWriter { return w.ResponseWriter }
