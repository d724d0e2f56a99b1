package inbound_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// writeKeys writes private keys into a file, and returns its path.
func writeKeys(t *testing.T, keys ...any) string {
	t.Helper()
	var text strings.Builder
	for _, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "token.pem")
	write(t, path, text.String())
	return path
}

// newEd25519 makes a key.
func newEd25519(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newP256 makes a key.
func newP256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keyID is how tokens name a key.
func keyID(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// readKeys reads keys from a file.
func readKeys(t *testing.T, path string) *inbound.Keys {
	t.Helper()
	keys, err := inbound.ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// forge makes a token for a repository of Carol, signed in any way, after change has changed its claims.
func forge(t *testing.T, method jwt.SigningMethod, id string, with any, change func(jwt.MapClaims)) string {
	t.Helper()
	now := time.Now()
	c := jwt.MapClaims{
		"iss": "pullthrough", "aud": []string{"pullthrough"}, "sub": "user:carol", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": "x",
		"access": []any{map[string]any{"type": "repository", "name": "secret/plan", "actions": []string{"pull"}}},
	}
	if change != nil {
		change(c)
	}
	one := jwt.NewWithClaims(method, c)
	one.Header["kid"] = id
	text, err := one.SignedString(with)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// set changes a claim, or removes it if value is nil.
func set(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
}

// forgeries are tokens that open nothing.
func forgeries(t *testing.T, key ed25519.PrivateKey, ec *ecdsa.PrivateKey) map[string]string {
	t.Helper()
	now := time.Now()
	good := func(change func(jwt.MapClaims)) string {
		return forge(t, jwt.SigningMethodEdDSA, keyID(t, key), key, change)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	head, rest, _ := strings.Cut(good(nil), ".")
	payload, signature, _ := strings.Cut(rest, ".")
	return map[string]string{
		"no algorithm":                  forge(t, jwt.SigningMethodNone, keyID(t, key), jwt.UnsafeAllowNoneSignatureType, nil),
		"HMAC with the public key":      forge(t, jwt.SigningMethodHS256, keyID(t, key), []byte(key.Public().(ed25519.PublicKey)), nil),
		"HMAC with the PEM":             forge(t, jwt.SigningMethodHS256, keyID(t, key), publicPEM, nil),
		"HMAC with the DER":             forge(t, jwt.SigningMethodHS512, keyID(t, key), public, nil),
		"RSA":                           forge(t, jwt.SigningMethodRS256, keyID(t, key), rsaKey, nil),
		"RSA-PSS":                       forge(t, jwt.SigningMethodPS256, keyID(t, key), rsaKey, nil),
		"another key":                   forge(t, jwt.SigningMethodEdDSA, keyID(t, key), newEd25519(t), nil),
		"another key by its name":       forge(t, jwt.SigningMethodEdDSA, "other", newEd25519(t), nil),
		"no name of a key":              forge(t, jwt.SigningMethodEdDSA, "", key, nil),
		"the other key's algorithm":     forge(t, jwt.SigningMethodES256, keyID(t, key), ec, nil),
		"expired":                       good(set("exp", now.Add(-time.Minute).Unix())),
		"without an end":                good(set("exp", nil)),
		"not yet":                       good(set("nbf", now.Add(time.Hour).Unix())),
		"without a begin":               good(set("nbf", nil)),
		"issued later":                  good(set("iat", now.Add(time.Hour).Unix())),
		"another audience":              good(set("aud", []string{"other"})),
		"no audience":                   good(set("aud", nil)),
		"among several audiences":       good(set("aud", []string{"other", "pullthrough"})),
		"for refreshing":                good(set("aud", []string{"pullthrough#refresh"})),
		"another issuer":                good(set("iss", "other")),
		"no issuer":                     good(set("iss", nil)),
		"no subject":                    good(set("sub", nil)),
		"an unknown user":               good(set("sub", "user:mallory")),
		"an unknown kind":               good(set("sub", "admin:carol")),
		"an unknown certificate":        good(set("sub", "certificate:carol")),
		"anonymous, who is not allowed": good(set("sub", "anonymous")),
		"everybody":                     good(set("sub", "user:*")),
		"times that are texts":          good(set("exp", "tomorrow")),
		"without a signature":           head + "." + payload + ".",
		"another payload":               head + "." + strings.Replace(payload, payload[20:24], "AAAA", 1) + "." + signature,
		"two parts":                     head + "." + payload,
		"four parts":                    head + "." + payload + "." + signature + ".x",
		"padding":                       head + "." + payload + "." + signature + "==",
		"too long":                      good(set("jti", strings.Repeat("x", 30<<10))),
		"nothing":                       "..",
	}
}

// TestForgedTokens: only a token that this service has signed, for itself, opens anything, and only as
// long as it is good.
func TestForgedTokens(t *testing.T) {
	key, ec := newEd25519(t), newP256(t)
	s := newSite(t, &inbound.Gate{}, func(s *site) { s.keys = readKeys(t, writeKeys(t, key, ec)) })
	good := func(change func(jwt.MapClaims)) string {
		return forge(t, jwt.SigningMethodEdDSA, keyID(t, key), key, change)
	}
	const path = "/v2/secret/plan/manifests/v1"
	s.want(path, bearer(good(nil)), 200)
	s.want(path, bearer(forge(t, jwt.SigningMethodES256, keyID(t, ec), ec, nil)), 200)

	for name, text := range forgeries(t, key, ec) {
		a := s.do(path, bearer(text))
		if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: status %d, %s: %s", name, a.status, a.header.Get("WWW-Authenticate"), a.body)
		}
		if strings.Contains(a.body, text) || strings.Contains(s.log.String(), text) {
			t.Errorf("%s: the token was told", name)
		}
		s.want("/token", bearer(text), 400) // nor is it worth another token
	}
	s.want("/token", bearer(good(nil)), 400, "a token cannot be had for a token")
	// Two headers are not better than one.
	a := s.do(path, func(r *http.Request) {
		r.Header.Add("Authorization", "Bearer "+good(nil))
		r.Header.Add("Authorization", "Bearer x.y.z")
	})
	if a.status != 401 {
		t.Errorf("two headers: status %d", a.status)
	}
}

// TestTokensOfOtherProxies: proxies with one file of keys accept each other's tokens, also while a key is
// replaced; without a file, tokens end with the process.
func TestTokensOfOtherProxies(t *testing.T) {
	old, next := newEd25519(t), newP256(t)
	with := func(keys *inbound.Keys) *site {
		return newSite(t, &inbound.Gate{}, func(s *site) { s.keys = keys })
	}
	first, second, third := with(readKeys(t, writeKeys(t, old))), with(readKeys(t, writeKeys(t, next, old))), with(readKeys(t, writeKeys(t, next)))
	alice := basic("alice", alicePassword)
	byOld, byNext := bearer(first.get(alice, pull("team/app")).Token), bearer(second.get(alice, pull("team/app")).Token)
	const path = "/v2/team/app/manifests/v1"
	second.want(path, byOld, 200)
	third.want(path, byOld, 401)
	third.want(path, byNext, 200)
	first.want(path, byNext, 401)
	alone, another := newSite(t, &inbound.Gate{}, nil), newSite(t, &inbound.Gate{}, nil)
	by := bearer(alone.get(alice, pull("team/app")).Token)
	alone.want(path, by, 200)
	another.want(path, by, 401)
	// A token of another service with the same key is for that service.
	other := newSite(t, &inbound.Gate{Service: "other"}, func(s *site) { s.keys = readKeys(t, writeKeys(t, old)) })
	other.want(path, byOld, 401)
	other.want("/token?service=pullthrough", alice, 400)
}

// TestTokensEndWithTheirUser: a token opens no more than its user may pull at that moment.
func TestTokensEndWithTheirUser(t *testing.T) {
	s := newSite(t, &inbound.Gate{}, nil)
	by := bearer(s.get(basic("alice", alicePassword), pull("team/app")).Token)
	static := bearer(s.get(basic("ci", ciToken), pull("team/app")).Token)
	const path = "/v2/team/app/manifests/v1"
	s.want(path, by, 200)
	s.want(path, static, 200)
	s.gate.SetPolicy(t.Context(), &inbound.Policy{Passwords: s.policy.Passwords, Users: []inbound.Grant{{Name: "alice", Pull: inbound.Patterns{"hub/*"}}}}, s.keys)
	s.want(path, by, 403)
	s.want(path, static, 401)
	write(t, s.htpasswd, htpasswd(t, "bob", bobPassword))
	if err := s.gate.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want(path, by, 401)
	s.want(path, basic("alice", alicePassword), 401)
}

// TestExpiry: a token that was accepted before ends in time.
func TestExpiry(t *testing.T) {
	key := newEd25519(t)
	s := newSite(t, &inbound.Gate{}, func(s *site) { s.keys = readKeys(t, writeKeys(t, key)) })
	// Clocks differ by some seconds, so a token is good for ten seconds more than it says. A busy
	// machine may need longer to show one that has two left; then the test shows another one.
	var by proof
	for ended := true; ended; {
		expires := time.Now().Add(-8 * time.Second)
		one := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
			"iss": "pullthrough", "aud": "pullthrough", "sub": "user:carol", "nbf": time.Now().Unix(), "exp": expires.Unix(),
		})
		one.Header["kid"] = keyID(t, key)
		text, err := one.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		by = bearer(text)
		a := s.do("/v2/", by)
		if ended = a.status != 200; ended && time.Since(expires) < 9*time.Second {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for s.do("/v2/", by).status == 200 {
		if time.Now().After(deadline) {
			t.Fatal("the token does not end")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestRefreshTokens: a refresh token stands for the password until that changes. It opens nothing itself.
func TestRefreshTokens(t *testing.T) {
	key := newEd25519(t)
	s := newSite(t, &inbound.Gate{RefreshLifetime: time.Hour}, func(s *site) { s.keys = readKeys(t, writeKeys(t, key)) })
	form := url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {alicePassword}, "access_type": {"offline"}, "service": {"pullthrough"}}
	byPost := s.read(s.post(form)).RefreshToken
	byGet := s.read(s.want("/token?offline_token=true&service=pullthrough", basic("alice", alicePassword), 200)).RefreshToken
	for _, refresh := range []string{byPost, byGet} {
		if refresh == "" {
			t.Fatal("there is no refresh token")
		}
		again := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "scope": {pull("team/app")}}
		s.want("/v2/team/app/manifests/v1", bearer(s.read(s.post(again)).Token), 200)
		s.want("/v2/", bearer(refresh), 401)
	}
	for name, form := range map[string]url.Values{
		"not asked for": {"grant_type": {"password"}, "username": {"alice"}, "password": {alicePassword}},
		"static token":  {"grant_type": {"password"}, "username": {"ci"}, "password": {ciToken}, "access_type": {"offline"}},
	} {
		if got := s.read(s.post(form)).RefreshToken; got != "" {
			t.Errorf("%s: there is a refresh token", name)
		}
	}
	again := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {byPost}}
	for name, wrong := range map[string]string{"an access token": s.get(basic("alice", alicePassword)).Token, "nonsense": "x.y.z", "nothing": ""} {
		if a := s.post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {wrong}}); a.status != 401 {
			t.Errorf("%s: status %d", name, a.status)
		}
	}
	write(t, s.htpasswd, htpasswd(t, "alice", alicePassword)) // the same password, set again
	if err := s.gate.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := s.post(again); a.status != 401 || !strings.Contains(a.body, "log in again") {
		t.Errorf("after the password was set: status %d: %s", a.status, a.body)
	}
	// Without a file of keys there is none, since it would end with the process.
	if got := newSite(t, &inbound.Gate{RefreshLifetime: time.Hour}, nil); got.read(got.post(form)).RefreshToken != "" {
		t.Error("there is a refresh token without durable keys")
	}
}

// TestTokenServiceRefuses: requests for tokens that are wrong, and what they are told.
func TestTokenServiceRefuses(t *testing.T) {
	s := newSite(t, &inbound.Gate{FailedLogins: inbound.Rate{Count: 100, Per: time.Minute}}, nil)
	alice := basic("alice", alicePassword)
	many := url.Values{}
	for range 33 {
		many.Add("scope", pull("team/app"))
	}
	for path, status := range map[string]int{
		"/token?service=other": 400, "/token?scope=repository": 400, "/token?scope=repository:x": 400, "/token?" + many.Encode(): 400,
		"PUT /token": 405, "DELETE /token": 405, "HEAD /token": 405, "POST /token": 415, "/token/": 404, "/token/x": 404,
	} {
		s.want(path, alice, status)
	}
	for path, by := range map[string]proof{"/token": nobody, "/token?scope=x:y:z": basic("alice", "wrong"), "/token?account=alice": basic("mallory", "x")} {
		a := s.want(path, by, 401, `"code":"UNAUTHORIZED"`)
		if got := a.header.Get("WWW-Authenticate"); got != `Basic realm="pullthrough"` {
			t.Errorf("%s: the challenge is %s", path, got)
		}
	}
	for name, form := range map[string]url.Values{
		"no grant":        {"username": {"alice"}, "password": {alicePassword}},
		"another grant":   {"grant_type": {"client_credentials"}},
		"too large":       {"grant_type": {"password"}, "username": {"alice"}, "password": {strings.Repeat("x", 65<<10)}},
		"another service": {"grant_type": {"password"}, "username": {"alice"}, "password": {alicePassword}, "service": {"other"}},
	} {
		if a := s.post(form); a.status != 400 {
			t.Errorf("%s: status %d: %s", name, a.status, a.body)
		}
	}
	if a := s.post(url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wrong"}}); a.status != 401 {
		t.Errorf("wrong password: status %d", a.status)
	}
}

// TestKeyFiles: what is no key for tokens is refused, with the remedy and without the key.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := func(name, content string) string {
		path := filepath.Join(dir, name)
		write(t, path, content)
		return path
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "nowhere"): "no such file",
		dir:                           "is not a file",
		text("empty", ""):             "has no private key; make one with: openssl genpkey",
		text("public", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}))):   `a block of type "PUBLIC KEY"`,
		text("damaged", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))): "cannot be read",
		writeKeys(t, weak):                  "only those with P-256",
		writeKeys(t, rsaKey):                "neither Ed25519 nor ECDSA",
		writeKeys(t, newEd25519(t), rsaKey): "neither Ed25519 nor ECDSA",
	} {
		if _, err := inbound.ReadKeys(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", filepath.Base(path), err, want)
		}
	}
}
