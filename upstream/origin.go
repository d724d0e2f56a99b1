package upstream

import (
	"net"
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
	if name, port, err := net.SplitHostPort(host); err == nil {
		if u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
			host = name
			if strings.Contains(name, ":") {
				host = "[" + name + "]"
			}
		}
	}
	return origin{u.Scheme, host}
}

// hostOf returns the canonical host of u.
func hostOf(u *url.URL) string { return ociname.FoldHost(originOf(u).host) }
