package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestBandwidthMistakes has a row for each mistake of a bandwidth.
func TestBandwidthMistakes(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"no number", "bandwidth: {upstream: fast}\n", `1: bandwidth.upstream: "fast" is not a number of bytes such as 500GiB`},
		{"too little", "bandwidth:\n  clients: 100KiB\n", "2: bandwidth.clients: is less than 256KiB per second"},
		{"too little of a host", "upstreams:\n  - {host: a.example, bandwidth: 1}\n", "2: upstreams[0].bandwidth: is less than 256KiB per second"},
		{"one number", "bandwidth: 50MiB\n", "1: bandwidth: wants keys with values, not a single value"},
		{"misspelt", "bandwidth: {client: 1MiB}\n", "1: bandwidth.client: unknown key; did you mean clients?"},
	} {
		t.Run(test.name, func(t *testing.T) { wantMistake(t, test.file, test.want) })
	}
}

// TestBandwidth: pulls take as long as the limits in force say, which a reload changes.
func TestBandwidth(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	const size = 1 << 20
	var images []upstreamtest.Image
	for i := range 4 {
		images = append(images, up.AddImage("team/app", fmt.Sprint("v", i), [][]byte{upstreamtest.Bytes(uint64(i), size)}))
	}
	config := func(ofHost, all string) string {
		return fmt.Sprintf("listen: 127.0.0.1:0\n%s\nupstreams:\n  - {host: %q, plainHTTP: true%s}\nrules:\n  - {name: local, source: %q, target: local/*}\n", all, up.Host(), ofHost, up.Host()+"/*")
	}
	const limit, least = "512KiB", 1700 * time.Millisecond // with a burst of a sixteenth of a second
	p := startProxy(t, config("", "bandwidth: {upstream: "+limit+", clients: 0}"))
	pull := func(what string, i int, least time.Duration) {
		t.Helper()
		begun := time.Now()
		blob := images[i].Layers[0].Digest
		status, body := fetch(t, client(), p.url+"/v2/local/team/app/blobs/"+blob.String())
		if took := time.Since(begun); status != 200 || !bytes.Equal(body, up.Blob("team/app", blob)) || took < least {
			t.Errorf("%s: status %d, %d bytes in %v, want at least %v", what, status, len(body), took, least)
		}
	}
	pull("all upstreams", 0, least)
	p.reload(t, config(", bandwidth: "+limit, ""), reloaded)
	pull("the host", 1, least)
	p.reload(t, config("", "bandwidth: {clients: "+limit+"}"), reloaded)
	pull("clients, cold", 2, least)
	pull("clients, warm", 2, least)

	// A limit that goes while a client waits for it lets the rest through: with the limit, it
	// would take longer than the client has patience.
	large := up.AddImage("team/app", "large", [][]byte{upstreamtest.Bytes(9, 16<<20)}).Layers[0]
	p.reload(t, config(", bandwidth: 256KiB", ""), reloaded)
	done := make(chan error, 1)
	go func() {
		resp, err := client().Get(p.url + "/v2/local/team/app/blobs/" + large.Digest.String())
		if err == nil {
			var n int64
			n, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err == nil && (resp.StatusCode != 200 || n != large.Size) {
				err = fmt.Errorf("status %d, %d bytes", resp.StatusCode, n)
			}
		}
		done <- err
	}()
	p.until(t, "the download", func() bool { return up.BlobBytes(large.Digest) > 0 })
	p.reload(t, config("", ""), reloaded)
	if err := <-done; err != nil {
		t.Errorf("the limit has gone, and still: %v", err)
	}
	p.signal(t)
	p.wantExit(t, exitOK)
}

// TestBandwidthOfClientsBehindAProxy: of clients whose requests come through a trusted proxy,
// one with a single connection is not held up by one with many.
func TestBandwidthOfClientsBehindAProxy(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	layer := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 512<<10)).Layers[0].Digest.String()
	p := startProxy(t, file(up, "trustedProxies: [127.0.0.1]", "bandwidth: {clients: 256KiB}"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type result struct {
		client string
		err    error
	}
	ended, begun := make(chan result, 9), make(chan struct{}, 9)
	pull := func(name string) {
		err := func() error {
			req, err := http.NewRequestWithContext(ctx, "GET", p.url+"/v2/local/team/app/blobs/"+layer, nil)
			if err != nil {
				return err
			}
			req.Header.Set("X-Forwarded-For", name)
			resp, err := client().Do(req)
			begun <- struct{}{}
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 512<<10 {
				return fmt.Errorf("status %d, %d bytes, %w", resp.StatusCode, n, err)
			}
			return nil
		}()
		ended <- result{name, err}
	}
	for range 8 {
		go pull("10.0.0.1")
	}
	for range 8 {
		<-begun
	}
	go pull("10.0.0.2")
	if r := <-ended; r.err != nil || r.client != "10.0.0.2" {
		t.Errorf("%s, %v; want that the client with one connection is served first", r.client, r.err)
	}
	cancel() // the others would take three times as long
	for range 8 {
		<-ended
	}
}
