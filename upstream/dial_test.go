package upstream_test

import (
	"context"
	"net"
)

// dialer leads every name to one address, as a network would.
func dialer(to string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		if net.ParseIP(host) != nil {
			to = address
		}
		var d net.Dialer
		return d.DialContext(ctx, network, to)
	}
}
