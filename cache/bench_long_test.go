//go:build linux

package cache_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const away = 40 * time.Millisecond

// farClient reaches a registry that is away.
func farClient(up *upstreamtest.Registry) *upstream.Client {
	client := up.Client()
	client.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		time.Sleep(away)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return client
}

// coldBlob reads a blob that is not here yet, over so many connections at most.
func coldBlob(b *testing.B, up *upstreamtest.Registry, by *upstream.Client, layer digest.Digest, size, segments int) {
	b.SetBytes(int64(size))
	b.StopTimer()
	gets := 0
	for range b.N {
		up.Reset()
		r := newRigOf(b, up, by, time.Hour)
		r.cache.Limits.Segments = segments
		c := dial(b, r.addr)
		b.StartTimer()
		if err := c.discard(rawRequest(blobPath(layer)), int64(size)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		gets += up.Count("GET", "blob", "")
		c.Close()
		r.close()
	}
	b.ReportMetric(float64(gets)/float64(b.N), "GET/op")
}

// BenchmarkLongLink reads a blob that is not here yet from an upstream 40 ms away, which
// sends 4 MiB/s to each connection: from the cache, and from the upstream itself.
func BenchmarkLongLink(b *testing.B) {
	for _, size := range []int{16 * mib, 64 * mib} {
		up := upstreamtest.NewRegistry(b)
		layer := up.AddBlob("team/api", upstreamtest.Bytes(1, size))
		up.PaceEach(4 * mib)
		up.Fail(upstreamtest.Fault{Kind: "blob", Latency: away})
		b.Run(fmt.Sprintf("%dMiB/cache", size/mib), func(b *testing.B) { coldBlob(b, up, farClient(up), layer, size, 0) })
		b.Run(fmt.Sprintf("%dMiB/direct", size/mib), func(b *testing.B) {
			b.SetBytes(int64(size))
			for range b.N {
				time.Sleep(away)
				c := dial(b, up.Host())
				if err := c.discard(rawRequest("/v2/team/api/blobs/"+layer.String()), int64(size)); err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// BenchmarkShortLink reads a blob that is not here yet from an upstream whose connections
// gain nothing from each other, since it is nearby or they share a link: with further
// connections allowed, and without.
func BenchmarkShortLink(b *testing.B) {
	const size = 512 * mib
	for name, pace := range map[string]int64{"unpaced": 0, "shared": 128 * mib} {
		up := upstreamtest.NewRegistry(b)
		layer := up.AddBlob("team/api", upstreamtest.Bytes(1, size))
		up.Pace(pace)
		if pace > 0 {
			up.Fail(upstreamtest.Fault{Kind: "blob", Latency: away})
		}
		for _, segments := range []int{8, 1} {
			b.Run(fmt.Sprintf("%s/segments=%d", name, segments), func(b *testing.B) { coldBlob(b, up, up.Client(), layer, size, segments) })
		}
	}
}
