package azure

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// claims are what is read of a JWT. It is not verified: whoever issued it told
// us over TLS, and nothing is granted because of it.
type claims struct {
	Tenant   string
	Audience string    // empty: not said, or not as a string
	Issued   time.Time // zero: not said
	Expires  time.Time // zero: not said
}

// foreign reports whether a token says that it is for something else than
// registries. Entra writes an audience as the address that was asked for or as
// the id of an application; only of an address we know that it is wrong.
func (c claims) foreign() bool {
	return strings.Contains(c.Audience, "://") && !strings.EqualFold(strings.TrimSuffix(c.Audience, "/"), registryAudience)
}

// readClaims reads a JWT; one that cannot be read says nothing.
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

// unix reads a NumericDate (RFC 7519 section 2) of a sane year.
func unix(seconds float64) time.Time {
	if !(seconds > 0 && seconds < 1e11) {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

const (
	// unknownLifetime is how long a token is used that does not say how long.
	unknownLifetime = 5 * time.Minute
	// longestLifetime and shortestLifetime bound what a token says of itself. One
	// that comes expired is worth a try: if it is bad, that is told.
	longestLifetime  = 24 * time.Hour
	shortestLifetime = 30 * time.Second
)

// lifetime is how long a token is good that was received at now. The clock of
// who issued it may differ from ours, so the difference of two of its times
// counts, and our clock only if it names no more than one.
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
