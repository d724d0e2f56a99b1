package inbound_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/cachetest"
	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// The passwords and tokens of the tests. None of them may be told anywhere.
const (
	alicePassword = "correct-horse-battery"
	bobPassword   = "staple-of-bob-1234"
	carolPassword = "carol-reads-all-99"
	ciToken       = "static-token-of-ci-0123456789"
)

var secrets = []string{alicePassword, bobPassword, carolPassword, ciToken}

// site is a cache behind a gate, with its upstream: hub/* is Docker Hub, team/* and secret/* are
// folders of one registry.
type site struct {
	t        *testing.T
	gate     *inbound.Gate
	cache    *cache.Cache
	up       *upstreamtest.Registry
	server   *httptest.Server
	policy   *inbound.Policy
	htpasswd string
	keys     *inbound.Keys
	log      lockedBuffer
	images   map[string]upstreamtest.Image

	mu       sync.Mutex
	outcomes []cache.Outcome
}

// lockedBuffer is written to by many.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// hub opens the repositories of docker.io at the test's registry.
type hub struct {
	*upstream.Client
	host string
}

func (h hub) Open(s upstream.Source, a auth.Authenticator) (upstream.Repository, error) {
	if s.Host == "docker.io" {
		s.Host = h.host
	}
	return h.Client.Open(s, a)
}

// htpasswd makes a line of a htpasswd file.
func htpasswd(t *testing.T, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + string(hash) + "\n"
}

// write writes a file of the test.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newSite starts a site with a gate. The policy may be changed by prepare.
func newSite(t *testing.T, gate *inbound.Gate, prepare func(*site)) *site {
	t.Helper()
	s := &site{t: t, gate: gate, htpasswd: filepath.Join(t.TempDir(), "users.htpasswd"), images: map[string]upstreamtest.Image{}}
	s.cache, s.up = cachetest.New(t)
	rules, err := rule.NewSet(
		rule.Rule{Name: "docker-hub", Source: "docker.io/*", Target: "hub/*"},
		rule.Rule{Name: "team", Source: s.up.Host() + "/team/*", Target: "team/*"},
		rule.Rule{Name: "secret", Source: s.up.Host() + "/secret/*", Target: "secret/*"},
	)
	if err != nil {
		t.Fatal(err)
	}
	s.cache.Rules, s.cache.Upstream = rules, hub{s.up.Client(), s.up.Host()}
	for _, name := range []string{"library/alpine", "team/app", "team/tool", "secret/plan"} {
		s.images[name] = s.up.AddImage(name, "v1", [][]byte{[]byte("layer of " + name)})
	}
	write(t, s.htpasswd, htpasswd(t, "alice", alicePassword)+htpasswd(t, "bob", bobPassword)+htpasswd(t, "carol", carolPassword))
	s.policy = &inbound.Policy{
		Passwords: &inbound.Passwords{Path: s.htpasswd},
		Users: []inbound.Grant{
			{Name: "alice", Pull: inbound.Patterns{"hub/library/*", "team/app"}},
			{Name: "carol", Pull: inbound.Patterns{"*"}},
		},
		Tokens: []inbound.Token{{Grant: inbound.Grant{Name: "ci", Pull: inbound.Patterns{"team/*"}}, Secret: auth.Value{Text: auth.NewSensitive(ciToken)}}},
	}
	if s.keys, err = inbound.NewKeys(); err != nil {
		t.Fatal(err)
	}
	gate.Logger = slog.New(slog.NewTextHandler(&s.log, nil))
	gate.Canonical = func(ctx context.Context, name string) string {
		if m, err := rules.Match(ctx, name); err == nil {
			return m.Repository
		}
		return name
	}
	if prepare != nil {
		prepare(s)
	}
	if s.policy != nil && s.policy.Passwords != nil {
		if err := s.policy.Passwords.Load(); err != nil {
			t.Fatal(err)
		}
	}
	s.serve()
	return s
}

// serve puts the policy in force and starts the server.
func (s *site) serve() {
	observe := func(_ *http.Request, o cache.Outcome) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.outcomes = append(s.outcomes, o)
	}
	s.cache.Authorize, s.cache.Observe, s.gate.Observe = s.gate.Authorize, observe, observe
	s.gate.Repositories = s.cache.Repositories
	s.gate.SetPolicy(s.t.Context(), s.policy, s.keys)
	s.server = httptest.NewServer(s.gate.Handler(s.cache))
	s.t.Cleanup(s.server.Close)
	s.t.Cleanup(s.wantNoSecret)
}

// wantNoSecret fails if a secret was told to the log or to an observer.
func (s *site) wantNoSecret() {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.log.String()
	for _, o := range s.outcomes {
		if o.Err != nil {
			said += o.Err.Error() + "\n"
		}
	}
	for _, secret := range secrets {
		if strings.Contains(said, secret) {
			s.t.Errorf("a secret was told:\n%s", said)
		}
	}
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// A proof puts credentials on a request.
type proof func(*http.Request)

func nobody(*http.Request) {}

func basic(user, password string) proof {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

func bearer(token string) proof {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// do sends a request. A path may begin with the method.
func (s *site) do(path string, by proof) answer {
	s.t.Helper()
	method := "GET"
	if before, after, ok := strings.Cut(path, " "); ok {
		method, path = before, after
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	by(r)
	return s.send(s.server.Client(), r)
}

// send sends a request and reads the answer.
func (s *site) send(c *http.Client, r *http.Request) answer {
	s.t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	for _, secret := range secrets {
		if strings.Contains(string(body), secret) {
			s.t.Errorf("%s %s tells a secret: %s", r.Method, r.URL, body)
		}
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// want fails unless a request has this status, and these words in its body.
func (s *site) want(path string, by proof, status int, words ...string) answer {
	s.t.Helper()
	a := s.do(path, by)
	if a.status != status {
		s.t.Errorf("%s: status %d, want %d: %s", path, a.status, status, a.body)
	}
	for _, word := range words {
		if !strings.Contains(a.body, word) {
			s.t.Errorf("%s: %q is not in %s", path, word, a.body)
		}
	}
	return a
}

// token is an answer of the token service.
type token struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	ExpiresIn    int    `json:"expires_in"`
	IssuedAt     string `json:"issued_at"`
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token"`
}

// get gets a token by GET.
func (s *site) get(by proof, scopes ...string) token {
	s.t.Helper()
	query := url.Values{"service": {inbound.DefaultService}, "scope": scopes}
	return s.read(s.want("/token?"+query.Encode(), by, 200))
}

// read reads an answer of the token service.
func (s *site) read(a answer) token {
	s.t.Helper()
	var one token
	if err := json.Unmarshal([]byte(a.body), &one); err != nil {
		s.t.Fatalf("%v: %s", err, a.body)
	}
	if issued, err := time.Parse(time.RFC3339, one.IssuedAt); one.Token == "" || one.Token != one.AccessToken || one.ExpiresIn < 60 || err != nil || time.Since(issued).Abs() > time.Minute {
		s.t.Errorf("the answer of the token service is %s", a.body)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		s.t.Errorf("a token may be kept: %v", a.header)
	}
	return one
}

// post posts a form to the token service.
func (s *site) post(form url.Values) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), "POST", s.server.URL+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.send(s.server.Client(), r)
}

// pull is the scope for a repository.
func pull(repository string) string { return "repository:" + repository + ":pull" }

// reads are all that can be read of an image, by a name of its repository.
func (s *site) reads(name, image string) []string {
	img := s.images[image]
	base := "/v2/" + name
	return []string{
		base + "/manifests/v1", base + "/manifests/" + img.Digest.String(), base + "/blobs/" + img.Layers[0].Digest.String(),
		base + "/blobs/" + img.Config.Digest.String(), base + "/tags/list", base + "/referrers/" + img.Digest.String(),
		"HEAD " + base + "/manifests/v1", "HEAD " + base + "/blobs/" + img.Layers[0].Digest.String(),
	}
}

// loopback is the network of the tests, as that of reverse proxies.
var loopback = inbound.Proxies{netip.MustParsePrefix("127.0.0.0/8")}

// newServer starts a server that ends with the test.
func newServer(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

// newKeys makes a key for a process.
func newKeys(t *testing.T) *inbound.Keys {
	t.Helper()
	keys, err := inbound.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
