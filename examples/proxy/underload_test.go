package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// puller pulls one image again and again, over a new connection each time or over kept ones.
type puller struct {
	client *http.Client
	base   string // of the proxy's repository
	img    upstreamtest.Image
	blobs  map[string][]byte
	pulls  *atomic.Int64
}

// pull pulls the image whole.
func (p *puller) pull(ctx context.Context) error {
	if err := p.get(ctx, "manifests/v1", p.img.Manifest); err != nil {
		return err
	}
	for d, want := range p.blobs {
		if err := p.get(ctx, "blobs/"+d, want); err != nil {
			return err
		}
	}
	p.pulls.Add(1)
	return nil
}

func (p *puller) get(ctx context.Context, path string, want []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK || !bytes.Equal(body, want) {
		return fmt.Errorf("%s: status %d, %d bytes", path, resp.StatusCode, len(body))
	}
	return nil
}

// TestReloadUnderLoad: while rules and the certificate are replaced, no request of any
// client fails.
func TestReloadUnderLoad(t *testing.T) {
	up, dir := upstreamtest.NewRegistry(t), t.TempDir()
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(3, 1<<16))
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key)
	config := func(n int) string {
		return fmt.Sprintf("tls: {cert: %q, key: %q}\n", cert, key) +
			file(up) + fmt.Sprintf("  - {name: other, source: %s/other/*, target: other-%d/*}\n", up.Host(), n)
	}
	p := startProxy(t, config(0))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	blobs := map[string][]byte{}
	for _, d := range append(img.Layers, img.Config) {
		blobs[d.Digest.String()] = up.Blob(img.Repository, d.Digest)
	}
	var pulls atomic.Int64
	var pullers sync.WaitGroup
	failed := make(chan error, 8)
	for i := range cap(failed) {
		one := &puller{client: &http.Client{Transport: &http.Transport{
			DisableKeepAlives: i%2 == 0, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}, base: p.url + "/v2/local/team/app/", img: img, blobs: blobs, pulls: &pulls}
		defer one.client.CloseIdleConnections()
		pullers.Go(func() {
			for ctx.Err() == nil {
				if err := one.pull(ctx); err != nil && ctx.Err() == nil {
					failed <- err
					return
				}
			}
		})
	}
	for n := 1; n <= 10; n++ {
		writeCertificate(t, cert, key)
		p.reload(t, config(n), reloaded)
		before := pulls.Load()
		p.until(t, "pulls after a reload", func() bool { return pulls.Load() >= before+8 || len(failed) > 0 })
	}
	cancel()
	pullers.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}

// TestTermDuringALargeBlob: a client that is in the midst of a blob when SIGTERM comes gets
// the rest, within the time that the file allows. Then what was not copied yet is resumed
// by the next process.
func TestTermDuringALargeBlob(t *testing.T) {
	const size = 48 << 20
	for _, test := range []struct {
		name, drain string
		whole       bool
	}{
		{"time enough", "1m", true},
		{"too little time", "100ms", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			up, dir := upstreamtest.NewRegistry(t), t.TempDir()
			img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, size))
			layer := img.Layers[0].Digest
			if test.whole {
				up.Pace(size / 3)
			} else { // the rest never comes, however long the client takes to read the first half
				reference := layer.String()
				up.Fail(upstreamtest.Fault{Kind: "blob", Reference: reference, Stall: size/2 + 1<<20, Times: 1})
				up.Fail(upstreamtest.Fault{Kind: "blob", Reference: reference, Hang: true})
			}
			config := file(up, "store: dir:"+dir, "drain: "+test.drain)
			first := startProxy(t, config)
			if status, _ := fetch(t, client(), first.url+"/v2/local/team/app/manifests/v1"); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			resp, err := client().Get(first.url + "/v2/local/team/app/blobs/" + layer.String())
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body := make([]byte, size)
			if _, err := io.ReadFull(resp.Body, body[:size/2]); err != nil {
				t.Fatal(err)
			}
			first.signal(t)
			_, err = io.ReadFull(resp.Body, body[size/2:])
			if test.whole != (err == nil) || test.whole && !bytes.Equal(body, up.Blob("team/app", layer)) {
				t.Errorf("the rest: %v", err)
			}
			first.wantExit(t, exitOK)
			if !test.whole && up.BlobBytes(layer) >= size {
				t.Fatal("the upstream has sent everything, so this shows nothing")
			}

			up.Pace(0)
			up.Heal()
			second := startProxy(t, config)
			second.until(t, "the tag to be stored", func() bool { return tagStored(t, dir, "local/team/app", "v1") })
			if n := up.BlobBytes(layer); n > size+16<<20 { // a checkpoint's distance, and what was in sockets
				t.Errorf("the upstream sent %d bytes of a blob of %d", n, size)
			}
			second.signal(t)
			second.wantExit(t, exitOK)
		})
	}
}

// TestDrainTime: what the file says about drain.
func TestDrainTime(t *testing.T) {
	t.Chdir(t.TempDir())
	for text, want := range map[string]time.Duration{"": drainTimeout, "drain: 90s\n": 90 * time.Second, "drain: 0s\n": 0} {
		if s := built(t, text); s.drain() != want {
			t.Errorf("%q: %v, want %v", text, s.drain(), want)
		}
	}
}
