package azure

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// claims are those claims of a JWT that this package uses. The signature is not verified:
// the issuer sent the token over TLS, and nothing is granted because of its claims.
type claims struct {
	Tenant   string
	Audience string    // empty if it is missing, or no string
	Issued   time.Time // zero if it is missing
	Expires  time.Time // zero if it is missing
}

// foreign reports whether a token is known to be for something else than registries.
// Entra writes an audience as a URL or as the id of an application; only a URL can be
// compared.
func (c claims) foreign() bool {
	return strings.Contains(c.Audience, "://") && !strings.EqualFold(strings.TrimSuffix(c.Audience, "/"), registryAudience)
}

// readClaims returns the claims of a JWT. Those of a malformed one are empty.
func readClaims(token string) claims {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return claims{}
	}
	var raw struct {
		Tenant   string          `json:"tid"`
		Audience json.RawMessage `json:"aud"` // RFC 7519 allows a list too
		Issued   float64         `json:"iat"`
		Expires  float64         `json:"exp"`
	}
	if json.Unmarshal(data, &raw) != nil {
		return claims{}
	}
	c := claims{Tenant: raw.Tenant, Issued: unix(raw.Issued), Expires: unix(raw.Expires)}
	if json.Unmarshal(raw.Audience, &c.Audience) != nil {
		c.Audience = ""
	}
	return c
}

// unix converts a NumericDate (RFC 7519 section 2), or returns the zero time if it is
// out of range.
func unix(seconds float64) time.Time {
	if !(seconds > 0 && seconds < 1e11) {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

const (
	// unknownLifetime is the lifetime of a token that does not name the end of it.
	unknownLifetime = 5 * time.Minute
	// longestLifetime and shortestLifetime bound the lifetime that a token names. A
	// token that seems to be expired is tried: if it is, the registry refuses it.
	longestLifetime  = 24 * time.Hour
	shortestLifetime = 30 * time.Second
)

// lifetime returns how long a token that was received at now is valid. The clock of its
// issuer may differ from that of this machine, so the difference of its two times counts,
// and now only if it has no time of issue.
func (c claims) lifetime(now time.Time) time.Duration {
	var d time.Duration
	switch {
	case c.Expires.IsZero():
		d = unknownLifetime
	case c.Issued.IsZero():
		d = c.Expires.Sub(now)
	default:
		d = c.Expires.Sub(c.Issued)
	}
	return min(max(d, shortestLifetime), longestLifetime)
}
