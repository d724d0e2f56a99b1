package inbound

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	defaultLifetime = 5 * time.Minute
	maxTokenBytes   = 24 << 10
	maxVerified     = 1024    // tokens whose signature is remembered
	maxRemembered   = 2 << 10 // bytes of one of them
	leeway          = 10 * time.Second
)

// claims are the content of a token of the token service.
type claims struct {
	jwt.RegisteredClaims
	Access []scope `json:"access,omitempty"`
	// Login is a hash of the password's hash, in refresh tokens: they end with the password.
	Login string `json:"login,omitempty"`
}

// tokens issues tokens and checks them. It is safe for concurrent use.
type tokens struct {
	keys     *Keys
	issuer   string
	service  string // the audience
	verified recent[[sha256.Size]byte, *claims]
}

// newTokens returns tokens of a service.
func newTokens(keys *Keys, issuer, service string) *tokens {
	return &tokens{keys: keys, issuer: issuer, service: service, verified: recent[[sha256.Size]byte, *claims]{most: maxVerified}}
}

// refreshAudience is the audience of refresh tokens, so that none of them opens a repository.
func (t *tokens) refreshAudience() string { return t.service + "#refresh" }

// issue returns a token for an audience.
func (t *tokens) issue(audience, subject string, lifetime time.Duration, c claims) (text string, issued time.Time, err error) {
	issued = time.Now().Truncate(time.Second)
	c.RegisteredClaims = jwt.RegisteredClaims{
		Issuer: t.issuer, Subject: subject, Audience: jwt.ClaimStrings{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(issued), NotBefore: jwt.NewNumericDate(issued), ExpiresAt: jwt.NewNumericDate(issued.Add(lifetime)),
	}
	text, err = t.keys.sign(c)
	return text, issued, err
}

// errToken reports a token that opens nothing. What exactly is wrong with it stays here.
var errToken = errors.New("the token is not valid, or has expired")

// access checks a token that was shown with a request.
func (t *tokens) access(text string) (*claims, error) {
	sum := sha256.Sum256([]byte(text))
	if c, ok := t.verified.get(sum); ok && time.Now().Before(c.ExpiresAt.Time) {
		return c, nil
	}
	c, err := t.check(text, t.service)
	if err == nil && len(text) <= maxRemembered {
		t.verified.put(sum, c)
	}
	return c, err
}

// check checks a token for an audience.
func (t *tokens) check(text, audience string) (*claims, error) {
	if len(text) > maxTokenBytes {
		return nil, errToken
	}
	c := &claims{}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg(), jwt.SigningMethodES256.Alg()}),
		jwt.WithIssuer(t.issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithNotBeforeRequired(),
		jwt.WithLeeway(leeway), jwt.WithStrictDecoding(),
	)
	parsed, err := parser.ParseWithClaims(text, c, t.keys.public)
	if err != nil || !parsed.Valid || !slices.Equal(c.Audience, []string{audience}) {
		return nil, errToken
	}
	return c, nil
}

// loginOf is what a refresh token remembers of the hash of a password.
func loginOf(hash []byte) string {
	sum := sha256.Sum256(append([]byte("refresh token\x00"), hash...))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// sameLogin reports whether a refresh token was issued for a hash.
func (c *claims) sameLogin(hash []byte) bool {
	return subtle.ConstantTimeCompare([]byte(c.Login), []byte(loginOf(hash))) == 1
}
