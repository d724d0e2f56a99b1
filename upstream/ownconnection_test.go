package upstream_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestOwnConnection: calls at the same time share a connection of HTTP/2, unless each is to
// have its own; one that is free is used again. The client is in a bubble, whose time stands
// while a connection is open: net/http keeps a connection only if the end of writing the
// request is seen within 50 ms of the response, which a busy machine may miss.
func TestOwnConnection(t *testing.T) {
	data := upstreamtest.Bytes(1, 1<<20)
	for name, c := range map[string]struct {
		with func(context.Context) context.Context
		want int64
	}{
		"shared": {func(ctx context.Context) context.Context { return ctx }, 1},
		"own":    {upstream.WithOwnConnection, 3},
	} {
		t.Run(name, func(t *testing.T) {
			up := upstreamtest.NewTLSRegistry(t)
			layer := up.AddBlob("team/api", data)
			now := time.Now().Round(0)
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(now)) // so that the certificate is valid
				client := up.Client()
				defer client.CloseIdleConnections()
				var dials atomic.Int64
				client.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					dials.Add(1)
					return new(net.Dialer).DialContext(ctx, network, address)
				}
				repo, err := client.Open(upstream.Source{Rule: "r", Host: up.Host(), Repository: "team/api"}, auth.Anonymous{})
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					var bodies []upstream.Body
					for i := range int64(3) {
						body, err := repo.Blob(c.with(t.Context()), layer, i<<18, 1<<18)
						if err != nil {
							t.Fatal(err)
						}
						bodies = append(bodies, body)
					}
					for i, body := range bodies {
						got, err := io.ReadAll(body)
						if want := data[i<<18 : (i+1)<<18]; err != nil || digest.FromBytes(got) != digest.FromBytes(want) {
							t.Errorf("part %d: %d bytes, %v", i, len(got), err)
						}
						_ = body.Close()
					}
				}
				if n := dials.Load(); n != c.want {
					t.Errorf("%d connections, want %d", n, c.want)
				}
			})
		})
	}
}
