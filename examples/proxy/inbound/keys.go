package inbound

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// Keys sign the tokens of the token service, and check them. Keys do not change, and are safe
// for concurrent use.
type Keys struct {
	// Durable reports that the keys are from a file, so that tokens outlive a restart and
	// other proxies with the file accept them.
	Durable bool

	signer signingKey
	byID   map[string]signingKey
}

// signingKey is one key, with the only algorithm that it is for.
type signingKey struct {
	id      string
	method  jwt.SigningMethod
	private crypto.Signer
}

// NewKeys returns a key for this process.
func NewKeys() (*Keys, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	k := &Keys{byID: map[string]signingKey{}}
	return k, k.add(private)
}

// ReadKeys reads private keys from a PEM file, in PKCS #8 form: Ed25519, or ECDSA with P-256.
// The first one signs, and all of them check, so that a key can be replaced while tokens of
// the former one are in use.
func ReadKeys(path string) (*Keys, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	k := &Keys{Durable: true, byID: map[string]signingKey{}}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "PRIVATE KEY" {
			return nil, fmt.Errorf("%s has a block of type %q; %s", path, block.Type, howToMakeKey)
		}
		private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s has a private key that cannot be read; %s", path, howToMakeKey)
		}
		if err := k.add(private); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if len(k.byID) == 0 {
		return nil, fmt.Errorf("%s has no private key; %s", path, howToMakeKey)
	}
	return k, nil
}

const howToMakeKey = "make one with: openssl genpkey -algorithm ed25519"

// add adds a key. The first one signs.
func (k *Keys) add(private any) error {
	one := signingKey{}
	switch p := private.(type) {
	case ed25519.PrivateKey:
		one.method, one.private = jwt.SigningMethodEdDSA, p
	case *ecdsa.PrivateKey:
		if p.Curve != elliptic.P256() {
			return errors.New("of the ECDSA keys, only those with P-256 are accepted; " + howToMakeKey)
		}
		one.method, one.private = jwt.SigningMethodES256, p
	default:
		return errors.New("the key is neither Ed25519 nor ECDSA; " + howToMakeKey)
	}
	public, err := x509.MarshalPKIXPublicKey(one.private.Public())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(public)
	one.id = base64.RawURLEncoding.EncodeToString(sum[:12])
	if len(k.byID) == 0 {
		k.signer = one
	}
	k.byID[one.id] = one
	return nil
}

// sign returns a signed token.
func (k *Keys) sign(c jwt.Claims) (string, error) {
	t := jwt.NewWithClaims(k.signer.method, c)
	t.Header["kid"] = k.signer.id
	return t.SignedString(k.signer.private)
}

// public finds the key of a token. The algorithm is the key's, whatever the token says.
func (k *Keys) public(t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	one, ok := k.byID[id]
	if !ok {
		return nil, errors.New("no key of this proxy has signed it")
	}
	if t.Method.Alg() != one.method.Alg() {
		return nil, errors.New("its algorithm is not that of the key")
	}
	return one.private.Public(), nil
}
