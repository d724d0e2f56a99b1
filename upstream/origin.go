package upstream

import (
	"net/url"
	"strings"

	"github.com/pullthrough/pullthrough/internal/ociname"
)

// origin is a scheme and a host as they are written in a URL. It is comparable.
type origin struct{ scheme, host string }

// String returns scheme://host.
func (o origin) String() string { return o.scheme + "://" + o.host }

// originOf returns the origin of u without a default port.
func originOf(u *url.URL) origin {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return origin{u.Scheme, host}
}

// hostOf returns the canonical host of u.
func hostOf(u *url.URL) string { return ociname.FoldHost(originOf(u).host) }
