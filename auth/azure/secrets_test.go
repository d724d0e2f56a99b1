package azure_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdklog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// notes collects all texts that a person may read.
type notes struct {
	mu   sync.Mutex
	text strings.Builder
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) add(format string, args ...any) { _, _ = fmt.Fprintf(n, format+"\n", args...) }

// take returns what was noted, and empties the notes.
func (n *notes) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := n.text.String()
	n.text.Reset()
	return text
}

// dump notes a value in every notation.
func (n *notes) dump(v any) {
	n.add("%v %+v %#v", v, v, v)
	data, err := json.Marshal(v)
	n.add("%s %v", data, err)
}

// fail notes an error with all that it wraps.
func (n *notes) fail(err error) {
	if err == nil {
		return
	}
	n.add("%v %+v %#v %q", err, err, err, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		n.fail(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			n.fail(err)
		}
	}
}

// spellings of a secret: as it is, in URLs, in hexadecimal, and inside of what
// somebody wrote in base64, wherever it begins there. Of a long one it is the
// end, which of a token is the signature: the rest is no secret without it.
func spellings(secret string) []string {
	list := []string{secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret)), fmt.Sprintf("%X", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]")}
	for skip := range 3 {
		text := []byte(strings.Repeat("x", skip) + secret)
		whole := text[:len(text)/3*3]
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			list = append(list, e.EncodeToString(whole)[(skip+2)/3*4:])
		}
	}
	for i, s := range list {
		list[i] = s[max(0, len(s)-40):]
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// wantNone looks for every secret in play in every spelling.
func (s *scene) wantNone(where, text string) {
	s.t.Helper()
	for _, secret := range s.Secrets() {
		for _, spelling := range spellings(secret.Text) {
			if i := strings.Index(text, spelling); i >= 0 {
				s.t.Errorf("%s: a %s is in ...%s", where, secret.What, text[max(0, i-200):i+8])
			}
		}
	}
}

func TestSpellings(t *testing.T) {
	const secret = "its-pa55word/+="
	for _, text := range []string{"a " + secret, "a" + url.QueryEscape(secret), fmt.Sprintf("%x %d", "a"+secret, 1), fmt.Sprint([]byte("a" + secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.URLEncoding.EncodeToString([]byte("u:" + secret)), base64.StdEncoding.EncodeToString([]byte("us:" + secret + "\n"))} {
		if !slices.ContainsFunc(spellings(secret), func(s string) bool { return strings.Contains(text, s) }) {
			t.Errorf("not found in %q", text)
		}
	}
	for _, s := range spellings(secret) {
		if len(s) < len(secret) {
			t.Errorf("%q may be anything", s)
		}
	}
}

// echo responds with all that it was sent, wherever a response can have a text.
func echo(code int) azuretest.Fault {
	return azuretest.Fault{Do: func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("Authorization") + " " + r.URL.String() + " " + r.PostForm.Encode()
		user, password, _ := r.BasicAuth()
		text, _ := json.Marshal(sent + user + password + base64.StdEncoding.EncodeToString([]byte(sent)))
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Location", "https://evil.example/"+url.PathEscape(sent))
		h.Set("Www-Authenticate", `Bearer realm="https://dev.azurecr.io/oauth2/token",service="dev.azurecr.io",error=`+string(text))
		h.Set("X-Ms-Correlation-Request-Id", sent)
		h.Set("X-Ms-Error-Code", sent)
		h.Set("Docker-Content-Digest", sent)
		h.Set("Warning", "299 - "+string(text))
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"error":%s,"error_description":%s,"message":%s,"errors":[{"code":"DENIED","message":%s,"detail":%s}]}`, text, text, text, text, text)
	}}
}

// life is a cache with a rule for each way to authenticate, and all texts that it emits.
type life struct {
	*cached
	said  *notes
	app   *azuretest.ServicePrincipal
	vault *azuretest.Vault
	who   map[string]auth.Authenticator // by rule
	tags  int
}

func newLife(t *testing.T) *life {
	s := newScene(t)
	l := &life{cached: &cached{scene: s}, said: &notes{}, app: s.NewServicePrincipal(""), vault: s.NewVault("v")}
	s.registry.Grant(l.app.PrincipalID, "team-a/api")
	sp, err := azure.NewServicePrincipal(s.options(), s.TenantID(), l.app.ClientID, secretOf{l.app})
	if err != nil {
		t.Fatal(err)
	}
	l.who = map[string]auth.Authenticator{
		"identity":  s.identity("team-a/api"),
		"principal": sp,
		"set": &auth.CredentialSet{Name: "set", LoginServer: dev,
			Username: auth.Value{Text: auth.NewSensitive("puller")}, Password: vaultSecret(s, l.vault, "password", l.newPassword())},
	}
	var rules []rule.Rule
	for name, a := range l.who {
		rules = append(rules, rule.Rule{Name: name, Source: dev + "/team-a/api", Target: name + "/api", Auth: a})
	}
	l.cached = s.inMemory(rules...)
	l.cache.Logger = slog.New(slog.NewTextHandler(l.said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l.cache.Observe = func(_ *http.Request, o cache.Outcome) { l.said.add("%+v", o); l.said.fail(o.Err) }
	l.cache.Events = webhook.SinkFunc(func(_ context.Context, ev webhook.Event) error { l.said.dump(ev); return nil })
	return l
}

// newPassword gives the ACR token "puller" another password.
func (l *life) newPassword() string {
	password := "password-" + rand.Text()
	l.registry.AddToken("puller", password, "team-a/api")
	return password
}

// secretOf is the current secret of an application.
type secretOf struct{ app *azuretest.ServicePrincipal }

func (s secretOf) Read(context.Context) (auth.Sensitive, string, error) {
	return auth.NewSensitive(s.app.Secret()), "", nil
}

// pullAll pulls a new image through every rule, as far as that goes, and notes every
// response. It returns how many pulls were complete.
func (l *life) pullAll() (whole int) {
	l.tags++
	tag := fmt.Sprint("t", l.tags)
	img := l.registry.Content.AddImage("team-a/api", tag, [][]byte{upstreamtest.Bytes(uint64(l.tags), 2000)})
	for name := range l.who {
		good := true
		for _, path := range []string{manifests(name+"/api", tag), blobs(name+"/api", img.Config.Digest), blobs(name+"/api", img.Layers[0].Digest), name + "/api/tags/list"} {
			r := l.do("GET", path)
			l.said.add("%d %v", r.status, r.header)
			if r.status != http.StatusOK { // the content is random, and no secret
				l.said.add("%s", r.body)
			}
			good = good && r.status == http.StatusOK && r.err == nil
		}
		if good {
			whole++
		}
	}
	return whole
}

// forget makes every token that was issued invalid.
func (l *life) forget() {
	l.registry.ForgetTokens()
	for u := range l.behind {
		l.behind[u].RevokeTokens()
	}
	time.Sleep(30 * time.Hour) // longer than any token lives
}

// rotate replaces the secrets.
func (l *life) rotate() {
	l.app.Rotate()
	l.vault.Set("password", l.newPassword())
}

// swap gives every rule another authenticator of its kind.
func (l *life) swap() {
	l.t.Helper()
	for name := range l.who {
		to := l.who[name]
		if name != "principal" {
			to = l.identity("team-a/api")
		}
		if err := l.rules.SetAuth(name, to); err != nil {
			l.t.Fatal(err)
		}
		l.who[name] = to
	}
}

// dumpAll notes everything that holds a secret, in each way in which it can be printed.
func (l *life) dumpAll() {
	l.t.Helper()
	for name, a := range l.who {
		r, _ := l.rules.Get(name)
		repository, err := l.up.Open(upstream.Source{Rule: name, Host: dev, Repository: "team-a/api"}, a)
		if err != nil {
			l.t.Fatal(err)
		}
		c, err := l.credential(a)
		l.said.fail(err)
		synctest.Wait() // what is printed must not change meanwhile
		for _, v := range []any{a, r, &r, repository, c, &c, c.Password, c.RefreshToken, c.AccessToken} {
			l.said.dump(v)
		}
		why, err := l.cache.Explain(l.t.Context(), name+"/api", "t1")
		l.said.fail(err)
		l.said.dump(why)
		if set, ok := a.(*auth.CredentialSet); ok {
			l.said.dump(set.Username)
			l.said.dump(set.Password)
			l.said.dump(set.Health())
		}
	}
	for _, v := range []any{l.ids, l.options(), l.rules, l.cache, l.up, l.cache.Copies(), l.cache.Stats()} {
		l.said.dump(v)
	}
	for _, c := range l.cache.Copies() {
		l.said.fail(c.Err)
	}
}

// TestNoSecretAnywhere runs a cache through success, rotation, every failure at every
// endpoint, a swap meanwhile, and recovery. No log line, of this module or of the SDK, no
// response and no printed value holds a secret.
func TestNoSecretAnywhere(t *testing.T) {
	sdk := &notes{}
	sdklog.SetListener(func(e sdklog.Event, text string) { sdk.add("%s %s", e, text) })
	defer sdklog.SetListener(nil)
	faults := map[string]azuretest.Fault{
		"200": echo(200), "302": echo(302), "400": echo(400), "401": echo(401), "403": echo(403), "404": echo(404), "429": echo(429), "500": echo(500),
		"garbage": body(`{"access_token": "cut o`), "hangs": {Hang: true},
	}
	for _, at := range []azuretest.Endpoint{azuretest.IMDS, azuretest.Entra, azuretest.KeyVault, azuretest.Exchange, azuretest.Token, azuretest.V2, azuretest.Data} {
		for name, fault := range faults {
			t.Run(string(at)+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newLife(t)
					if whole := l.pullAll(); whole != 3 {
						t.Errorf("at first %d of 3 pulls are whole", whole)
					}
					l.rotate()
					l.forget()
					if whole := l.pullAll(); whole != 3 {
						t.Errorf("after a rotation %d of 3 pulls are whole", whole)
					}
					l.forget()
					l.Reset()
					l.Fail(at, fault)
					if whole := l.pullAll(); whole == 3 || l.Count(at) == 0 {
						t.Errorf("with a fault %d of 3 pulls are whole, %d questions", whole, l.Count(at))
					}
					l.dumpAll()
					l.rotate()
					l.swap()
					l.pullAll()
					l.dumpAll()
					l.Heal()
					time.Sleep(time.Hour)
					if whole := l.pullAll(); whole != 3 {
						t.Errorf("healed, %d of 3 pulls are whole", whole)
					}
					l.settle()
					l.dumpAll()
					said, sdkSaid := l.said.take(), sdk.take()
					if len(said) < 1000 || len(sdkSaid) < 1000 {
						t.Errorf("nothing to look at: %d and %d bytes", len(said), len(sdkSaid))
					}
					l.wantNone("our words", said)
					l.wantNone("the SDK's log", sdkSaid)
				})
			})
		}
	}
}
