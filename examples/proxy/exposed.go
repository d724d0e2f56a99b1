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

// warnExposed logs a warning if strangers can pull. This program does not authorize its
// clients, so only the address keeps strangers away.
func warnExposed(listen string, log *slog.Logger) {
	if !exposed(listen) {
		return
	}
	log.Warn("clients are not authorized: anybody who can reach this address can pull everything that the rules cover, with the credentials of the rules; "+
		"listen on loopback behind a gateway that authorizes clients, or embed the library and set Cache.Authorize", "listen", listen)
}
