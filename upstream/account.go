package upstream

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"

	"github.com/pullthrough/pullthrough/auth"
)

// accounts names credentials without telling anything of them; see [RateLimit]. It does
// not change.
type accounts struct{ key []byte }

func newAccounts() *accounts { return &accounts{[]byte(rand.Text())} }

// of names a credential. Its Version does not count: two rules that show the same
// password show the same account, wherever they have it from.
func (a *accounts) of(c auth.Credential) string {
	if c.Anonymous() {
		return ""
	}
	h := hmac.New(sha256.New, a.key)
	for _, secret := range []string{c.Username, c.Password.Reveal(), c.RefreshToken.Reveal(), c.AccessToken.Reveal()} {
		sum := sha256.Sum256([]byte(secret)) // of one length, so that no two credentials look alike
		_, _ = h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
