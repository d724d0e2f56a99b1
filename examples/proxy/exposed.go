package main

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
)

// exposed reports whether other machines may reach an address to listen on. Of all names,
// only localhost is known to stand for loopback.
func exposed(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return true
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return !a.IsLoopback()
	}
	return !strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// warnExposed logs a warning if strangers can pull, or can read passwords on their way.
func (s *settings) warnExposed(log *slog.Logger) {
	if !exposed(s.listen) {
		return
	}
	everybody := s.policy == nil || s.policy.Open()
	switch {
	case everybody && !(s.clientCAs != nil && s.config.tls.clientAuth.text != "request"):
		log.Warn("clients are not authorized: anybody who can reach this address can pull everything that the rules cover, with the credentials of the rules; "+
			"say who may pull what under access, or listen on loopback behind a gateway that authorizes clients", "listen", s.listen)
	case s.certificate == nil && len(s.proxies) == 0:
		log.Warn("passwords and tokens of clients cross the network in the clear: set tls, or listen on loopback behind a gateway that has TLS, and name it in trustedProxies",
			"listen", s.listen)
	}
}
