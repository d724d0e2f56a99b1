package upstream

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/netdepth"
)

// The Client's own dialer checks the address that a name resolves to.
func TestDialerChecksAddressesOfNames(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	pool := &transportPool{dialTimeout: 10 * time.Second}
	for limit, ok := range map[netdepth.Depth]bool{netdepth.Public: false, netdepth.Private: false, netdepth.Loopback: true} {
		c, err := pool.dialer(limit)(t.Context(), "tcp4", net.JoinHostPort("localhost", port))
		if err == nil {
			_ = c.Close()
		}
		if _, refused := errors.AsType[*guardError](err); (err == nil) != ok || refused == ok {
			t.Errorf("loopback within %v: %v", limit, err)
		}
	}
}
