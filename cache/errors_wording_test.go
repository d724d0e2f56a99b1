package cache_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// stutters are what clients print before the text of each code.
var stutters = []string{"denied: ", "too many requests: ", "toomanyrequests: ", "manifest unknown: ", "unknown: ", "unsupported: "}

// leaks are what no client may be told.
var leaks = []string{"hunter2", "token-", "sig=", "a fault of upstreamtest", "upstream:", "route:", "flight:", "cache:", "auth:", "goroutine", "%!"}

// wantSentence checks a text that clients get.
func wantSentence(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s: %q does not say %q", what, text, word)
		}
	}
	for _, s := range stutters {
		if strings.HasPrefix(strings.ToLower(text), s) {
			t.Errorf("%s: %q repeats its code", what, text)
		}
	}
	for _, s := range leaks {
		if strings.Contains(text, s) {
			t.Errorf("%s: %q holds %q", what, text, s)
		}
	}
}

// message takes the sentence out of an answer.
func message(r reply) string {
	_, text, _ := strings.Cut(string(r.body), `"message":"`)
	text, _, _ = strings.Cut(text, `"}]}`)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(text)
}

// warning takes the sentence out of a Warning.
func warning(r reply) string {
	text, ok := strings.CutPrefix(r.Header.Get("Warning"), `299 - "`)
	if !ok {
		return ""
	}
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(strings.TrimSuffix(text, `"`))
}

// TestSentences: every class of failure has a sentence on which a person can act. It
// names the source and the rule, repeats no code, holds no secret and nothing that
// the upstream wrote; and it reaches those who ask by HEAD.
func TestSentences(t *testing.T) {
	const absent = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	text := func(s string) auth.Value { return auth.Value{Text: auth.NewSensitive(s)} }
	users := map[string]string{"alice": "hunter2", "": ""}
	only := func(who string) func(user, repository string) bool {
		return func(user, _ string) bool { return user == who }
	}
	for name, c := range map[string]struct {
		setup  func(s *story)
		fault  upstreamtest.Fault
		login  bool   // the rule has a password
		path   string // below /v2/app/api/; manifests/v1 if empty
		status int
		code   string
		words  []string
	}{
		"no such tag":    {path: "manifests/nope", status: 404, code: "MANIFEST_UNKNOWN", words: []string{"team/api:nope' does not exist", "cache rule 'team'"}},
		"no such digest": {path: "manifests/" + absent, status: 404, code: "MANIFEST_UNKNOWN", words: []string{"team/api@" + absent + "' does not exist"}},
		"no such blob":   {path: "blobs/" + absent, status: 404, code: "BLOB_UNKNOWN", words: []string{"team/api@" + absent + "' does not exist"}},
		"no such list":   {path: "tags/list", fault: upstreamtest.Fault{Status: 404}, status: 404, code: "NAME_UNKNOWN", words: []string{"team/api' does not exist"}},

		"no credentials": {setup: func(s *story) { s.up.RequireLogin(map[string]string{"alice": "x"}, nil) }, status: 403, code: "DENIED",
			words: []string{"team/api' wants credentials, and cache rule 'team' has none"}},
		"not for everybody": {setup: func(s *story) { s.up.RequireLogin(users, only("alice")) }, status: 403, code: "DENIED",
			words: []string{"team/api' refuses this pull with status 403, and cache rule 'team' has no credentials"}},
		"wrong credentials": {setup: func(s *story) { s.up.RequireLogin(map[string]string{"alice": "other"}, nil) }, login: true, status: 403, code: "DENIED",
			words: []string{"team/api' does not accept the credentials of cache rule 'team'"}},
		"wrong password":     {setup: func(s *story) { s.up.RequireBasic(map[string]string{"alice": "other"}) }, login: true, status: 403, code: "DENIED", words: []string{"does not accept the credentials"}},
		"not covered":        {setup: func(s *story) { s.up.RequireLogin(users, only("bob")) }, login: true, status: 403, code: "DENIED", words: []string{"the credentials of cache rule 'team' do not cover source"}},
		"legal reasons":      {fault: upstreamtest.Fault{Status: 451}, status: 403, code: "DENIED", words: []string{"refuses the pull with status 451"}},
		"federated":          {setup: func(s *story) { s.replace(rule.Rule{Auth: auth.FederatedIdentity{TenantID: "t", ClientID: "c"}}) }, status: 403, code: "DENIED", words: []string{"federated identity", "not supported yet", "team/api"}},
		"another's":          {setup: func(s *story) { s.replace(rule.Rule{Auth: elsewhere{}}) }, status: 403, code: "DENIED", words: []string{"the rule's credentials are for another host"}},
		"no secret":          {setup: func(s *story) { s.replace(rule.Rule{Auth: broken{errors.New("hunter2")}}) }, status: 403, code: "DENIED", words: []string{"no credential can be had for it"}},
		"429":                {fault: upstreamtest.Fault{Status: 429, RetryAfter: "30"}, status: 429, code: "TOOMANYREQUESTS", words: []string{"team/api' of cache rule 'team' limits pulls; try again in 30 s"}},
		"429 without a time": {fault: upstreamtest.Fault{Status: 429}, status: 429, code: "TOOMANYREQUESTS", words: []string{"try again later"}},
		"503":                {fault: upstreamtest.Fault{Status: 503}, status: 502, code: "UNKNOWN", words: []string{"answered with status 503"}},
		"a loop":             {fault: upstreamtest.Fault{Status: 508}, status: 508, code: "UNKNOWN", words: []string{"goes in a circle", "more caches than allowed"}},
		"refused":            {setup: func(s *story) { s.up.Stop() }, status: 502, code: "UNKNOWN", words: []string{"cannot be reached: connection refused"}},
		"slow":               {fault: upstreamtest.Fault{Hang: true}, status: 504, code: "UNKNOWN", words: []string{"took too long to answer"}},
		"token server":       {fault: upstreamtest.Fault{Kind: "token", Status: 503}, setup: func(s *story) { s.up.RequireLogin(users, nil) }, status: 502, code: "UNKNOWN", words: []string{"its token server answered with status 503"}},
		"token server down":  {fault: upstreamtest.Fault{Challenge: `Bearer realm="https://127.0.0.1:1/token"`}, status: 502, code: "UNKNOWN", words: []string{"a host that it leads to: connection refused"}},
		"realm":              {fault: upstreamtest.Fault{Challenge: `Bearer realm="https://hunter2.example/token"`}, login: true, status: 502, code: "UNKNOWN", words: []string{"its token server is another host", "under realms"}},
		"no realm":           {fault: upstreamtest.Fault{Challenge: `Bearer realm="https://169.254.169.254/token"`}, status: 502, code: "UNKNOWN", words: []string{"leads to an address where it may not lead"}},
		"redirect":           {fault: upstreamtest.Fault{Redirect: "ftp://x.example/hunter2"}, status: 502, code: "UNKNOWN", words: []string{"leads to an address that cannot be used"}},
		"schema 1":           {fault: upstreamtest.Fault{ContentType: "application/vnd.docker.distribution.manifest.v1+prettyjws"}, status: 502, code: "UNKNOWN", words: []string{"team/api:v1' is an image of Docker's schema 1", "pushed again"}},
		"digest":             {fault: upstreamtest.Fault{Kind: "manifest", Flip: true, FlipAt: 9}, status: 502, code: "UNKNOWN", words: []string{"the manifest does not match its digest"}},
		"too large": {setup: func(s *story) {
			s.up.AddManifest("team/api", "v1", "application/vnd.oci.image.manifest.v1+json", make([]byte, upstream.MaxManifestSize+1))
		}, status: 502, code: "UNKNOWN", words: []string{"the answer is too large"}},
		"a page":     {fault: upstreamtest.Fault{ContentType: "text/html"}, status: 502, code: "UNKNOWN", words: []string{"the type is not that of a manifest"}},
		"wrong blob": {fault: upstreamtest.Fault{Kind: "blob", Method: "GET", Flip: true, FlipAt: 9}, path: "blob", status: 502, code: "UNKNOWN", words: []string{"the content does not match its digest"}},
		"cut blob":   {fault: upstreamtest.Fault{Kind: "blob", Method: "GET", WrongLength: 10, Times: 1}, path: "blob", status: 502, code: "UNKNOWN", words: []string{"sent something that cannot be used"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, func(s *story) {
				if c.fault.Hang {
					s.cache.Limits.AnswerTimeout = time.Second
				}
				s.cache.Store = &store.Mem{}
			})
			img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
			if c.login {
				s.replace(rule.Rule{Auth: &auth.CredentialSet{Name: "hub", LoginServer: s.up.Host(), Username: text("alice"), Password: text("hunter2")}})
			}
			if c.setup != nil {
				c.setup(s)
			}
			if c.fault.Kind != "token" || c.fault.Status != 0 {
				s.up.Fail(c.fault)
			}
			path := "/v2/app/api/" + c.path
			switch c.path {
			case "":
				path += "manifests/v1"
			case "blob":
				path = "/v2/app/api/blobs/" + img.Layers[0].Digest.String()
			}
			r := s.get(path)
			if name == "cut blob" && r.StatusCode == 200 {
				return // asked once more without what was announced, it was right
			}
			s.wantError(r, c.status, c.code)
			wantSentence(t, "GET", message(r), c.words...)
			if !strings.Contains(message(r), "'team'") && name != "federated" {
				t.Errorf("%q does not name the rule", message(r))
			}
			if c.path == "blob" || name == "digest" {
				return // by HEAD nothing is wrong
			}
			head := s.do("HEAD", path)
			if head.StatusCode != c.status {
				t.Errorf("HEAD: %d", head.StatusCode)
			}
			wantSentence(t, "HEAD", warning(head), c.words...)
			if r.Header.Get("Warning") != "" {
				t.Errorf("a GET, whose body has the sentence, has the Warning %q", r.Header.Get("Warning"))
			}
		})
	}
}

// elsewhere is for another host.
type elsewhere struct{}

func (elsewhere) Credential(context.Context, auth.Request) (auth.Credential, error) {
	return auth.Credential{}, fmt.Errorf("hunter2: %w", auth.ErrHost)
}

// broken fails.
type broken struct{ err error }

func (b broken) Credential(context.Context, auth.Request) (auth.Credential, error) {
	return auth.Credential{}, b.err
}

// What is served though the source cannot be asked says why.
func TestStaleAnswersSayWhy(t *testing.T) {
	for name, c := range map[string]struct {
		fault upstreamtest.Fault
		words []string
	}{
		"503":        {upstreamtest.Fault{Status: 503}, []string{"answered with status 503"}},
		"403":        {upstreamtest.Fault{Status: 403}, []string{"refuses this pull with status 403"}},
		"429":        {upstreamtest.Fault{Status: 429, RetryAfter: "7"}, []string{"try again in 7 s"}},
		"404":        {upstreamtest.Fault{Status: 404}, []string{"does not exist"}},
		"a redirect": {upstreamtest.Fault{Redirect: "https://169.254.169.254/hunter2"}, []string{"may not lead"}},
	} {
		s := newStory(t)
		img := s.up.AddImage("team/api", "v1", upstreamtest.Layers(1, 1000))
		s.pull("app/api", "v1", img)
		s.settle()
		if r := s.wantManifest("app/api", "v1", img); r.Header.Get("Warning") != "" {
			t.Errorf("%s: a fresh answer warns: %q", name, r.Header.Get("Warning"))
		}
		s.up.Fail(c.fault)
		for _, method := range []string{"GET", "HEAD"} {
			r := s.do(method, "/v2/app/api/manifests/v1")
			if r.StatusCode != 200 {
				t.Errorf("%s: %d", name, r.StatusCode)
			}
			wantSentence(t, name+" "+method, warning(r), append(c.words, "served as it was known before", "team/api")...)
		}
	}
}

// Hosts that cannot be spoken to, each in its own way.
func TestSentencesOfConnections(t *testing.T) {
	plain := upstreamtest.NewRegistry(t)
	secure := upstreamtest.NewTLSRegistry(t)
	for host, words := range map[string][]string{
		plain.Host():      {"it speaks http, not https", "plainHTTP"},
		secure.Host():     {"signed by an authority that is not trusted"},
		"nowhere.invalid": {"DNS: no such host"},
	} {
		rules, err := rule.NewSet(rule.Rule{Name: "team", Source: host + "/team/*", Target: "app/*"})
		if err != nil {
			t.Fatal(err)
		}
		client := &upstream.Client{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "nowhere.invalid") {
				return nil, &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}
		c := &cache.Cache{Rules: rules, Upstream: client}
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v2/app/api/manifests/v1", nil))
		if w.Code != http.StatusBadGateway {
			t.Errorf("%s: %d", host, w.Code)
		}
		wantSentence(t, host, message(reply{body: w.Body.Bytes()}), append(words, "cannot be reached")...)
		if err := c.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// What a Go caller gets says nothing twice, and no word of the inside.
func TestErrorsInGo(t *testing.T) {
	s := newStory(t, func(s *story) {
		s.cache.Admit = func(_ context.Context, c cache.Candidate) error {
			if c.Tag == "held" {
				return &cache.Hold{Until: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Reason: "it is scanned"}
			}
			return nil
		}
	})
	s.up.AddImage("team/api", "held", upstreamtest.Layers(1, 1000))
	for name, c := range map[string]struct {
		repository, reference string
		words                 []string
	}{
		"held":       {"app/api", "held", []string{"held until 2030-01-02", "it is scanned"}},
		"bad name":   {"App/api", "v1", []string{"the repository name is not valid"}},
		"bad tag":    {"app/api", ".v1", []string{"there can be no such tag"}},
		"bad digest": {"app/api", "sha256:zz", []string{"the digest is not valid"}},
		"missing":    {"app/api", "nope", []string{"does not exist"}},
		"no rule":    {"own/api", "v1", []string{"no cache rule covers it"}},
	} {
		_, err := s.cache.Resolve(t.Context(), c.repository, c.reference)
		e, ok := errors.AsType[*cache.Error](err)
		if !ok {
			t.Errorf("%s: %v is no *cache.Error", name, err)
			continue
		}
		wantSentence(t, name, e.Message, c.words...)
		for _, word := range c.words {
			if n := strings.Count(err.Error(), word); n != 1 {
				t.Errorf("%s: %q says %q %d times", name, err, word, n)
			}
		}
		if strings.Contains(err.Error(), "route:") {
			t.Errorf("%s: %q has a word of the inside", name, err)
		}
	}
	denied := &cache.Error{Code: cache.CodeDenied, Message: "cache rule 'x' cannot pull: the role is missing", Err: &auth.DeniedError{Reason: "the role is missing"}}
	if n := strings.Count(denied.Error(), "the role is missing"); n != 1 {
		t.Errorf("%q says it %d times", denied, n)
	}
}
