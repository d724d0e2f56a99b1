package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// file is a configuration with one rule, local/* for all of a registry, and
// more lines.
func file(up *upstreamtest.Registry, more ...string) string {
	return fmt.Sprintf("listen: 127.0.0.1:0\nupstreams:\n  - {host: %q, plainHTTP: true}\n", up.Host()) +
		strings.Join(more, "\n") +
		fmt.Sprintf("\nrules:\n  - name: local\n    source: %s/*\n    target: local/*\n", up.Host())
}

// fetch makes a GET and returns the status and the body.
func fetch(t *testing.T, c *http.Client, url string) (int, []byte) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	return resp.StatusCode, body
}

// client returns a client without kept connections and without a proxy.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
}

// wantImage fails unless the whole image can be pulled by tag.
func wantImage(t *testing.T, base string, img upstreamtest.Image, up *upstreamtest.Registry) {
	t.Helper()
	repository := base + "/v2/local/" + img.Repository
	if status, body := fetch(t, client(), repository+"/manifests/v1"); status != 200 || !bytes.Equal(body, img.Manifest) {
		t.Fatalf("manifest: status %d: %s", status, body)
	}
	for _, d := range append(img.Layers, img.Config) {
		status, body := fetch(t, client(), repository+"/blobs/"+d.Digest.String())
		if status != 200 || !bytes.Equal(body, up.Blob(img.Repository, d.Digest)) {
			t.Errorf("blob %s: status %d, %d bytes, want %d", d.Digest, status, len(body), d.Size)
		}
	}
}

// TestServe pulls, ends the proxy gracefully, and pulls from a new one without the upstream.
func TestServe(t *testing.T) {
	up, dir := upstreamtest.NewRegistry(t), t.TempDir()
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(3, 1<<16))
	config := file(up, "store: dir:"+dir)

	first := startProxy(t, config)
	if out := first.out.String(); !strings.HasSuffix(out, ", 1 rule, store dir:"+dir+"; try: docker pull "+strings.TrimPrefix(first.url, "http://")+"/local/NAME:TAG\n") {
		t.Errorf("the line at the start is %q", out)
	}
	wantImage(t, first.url, img, up)
	first.until(t, "the tag to be stored", func() bool {
		return tagStored(t, dir, "local/team/app", "v1")
	})
	first.signal(t)
	first.wantExit(t, exitOK)

	up.Stop()
	second := startProxy(t, config)
	wantImage(t, second.url, img, up)
}

// tagStored looks into a copy of the index of a store that a proxy has open.
func tagStored(t *testing.T, dir, repo, tag string) bool {
	t.Helper()
	snapshot := t.TempDir()
	data, err := os.ReadFile(filepath.Join(dir, "index.db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(snapshot, "index.db"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := store.OpenDir(snapshot)
	if err != nil {
		return false // it was being written
	}
	defer d.Close()
	_, err = d.Tag(t.Context(), repo, tag)
	return err == nil
}

// TestDrain: a response that is under way when SIGTERM comes is sent whole.
func TestDrain(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<20))
	layer := img.Layers[0].Digest
	up.Fail(upstreamtest.Fault{Kind: "blob", Stall: 1 << 19}) // until new connections are refused
	p := startProxy(t, file(up))

	resp, err := client().Get(p.url + "/v2/local/team/app/blobs/" + layer.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p.signal(t)
	p.until(t, "new connections to be refused", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	up.Release()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(body, up.Blob("team/app", layer)) {
		t.Errorf("got %d bytes and %v, want the layer", len(body), err)
	}
	p.wantExit(t, exitOK)
}

// TestHealth requests /healthz at the admin address.
func TestHealth(t *testing.T) {
	p := startProxy(t, "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n")
	admin := adminOf(t, p)
	if status, body := fetch(t, client(), "http://"+admin+"/healthz"); status != 200 || string(body) != "ok\n" {
		t.Errorf("/healthz: status %d, %q", status, body)
	}
	if status, _ := fetch(t, client(), "http://"+admin+"/v2/"); status != 404 {
		t.Errorf("/v2/ at the admin address: status %d, want 404", status)
	}
	if status, _ := fetch(t, client(), p.url+"/healthz"); status != 404 {
		t.Errorf("/healthz where clients are: status %d, want 404", status)
	}
	if !strings.Contains(p.out.String(), "add a rule") {
		t.Errorf("without rules the line at the start is %q", p.out.String())
	}
}

// TestTLS serves https, HTTP/2 included.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key)
	p := startProxy(t, fmt.Sprintf("listen: 127.0.0.1:0\ntls: {cert: %q, key: %q}\n", cert, key))
	data, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(data)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	resp, err := c.Get(p.url + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("/v2/: status %d over %s, want 200 over HTTP/2", resp.StatusCode, resp.Proto)
	}
}

// TestInUse: an address or a store that another process uses is an error that names it, with
// its exit code.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	p := startProxy(t, "listen: 127.0.0.1:0\nstore: dir:"+dir+"\n")
	for name, test := range map[string]struct{ file, want string }{
		"address": {"listen: " + strings.TrimPrefix(p.url, "http://") + "\n", "address already in use"},
		"store":   {"listen: 127.0.0.1:0\nstore: dir:" + dir + "\n", "in use by another process"},
	} {
		t.Run(name, func(t *testing.T) {
			q := launch(t, test.file)
			q.wantExit(t, exitFault)
			if said := q.log.String(); !strings.Contains(said, test.want) {
				t.Errorf("said %q, want %q", said, test.want)
			}
		})
	}
}

// TestCredentials: credentials are sent to the upstream, and not logged.
func TestCredentials(t *testing.T) {
	const secret = "s3cret-of-alice"
	up := upstreamtest.NewRegistry(t)
	up.RequireLogin(map[string]string{"alice": secret}, nil)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<10))
	config := file(up, "credentials:", "  - name: alice", "    loginServer: "+up.Host(),
		"    username: {value: alice}", "    password: {env: PROXY_TEST_PASSWORD}") + "    credentials: alice\n"

	for name, test := range map[string]struct {
		password string
		status   int
	}{"right": {secret, 200}, "wrong": {secret + "-of-old", 403}, "none": {"", 403}} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, config, "PROXY_TEST_PASSWORD="+test.password)
			status, body := fetch(t, client(), p.url+"/v2/local/team/app/manifests/v1")
			if status != test.status {
				t.Errorf("status %d, want %d: %s", status, test.status, body)
			}
			if status == 200 {
				wantImage(t, p.url, img, up)
			}
			p.signal(t)
			p.wantExit(t, exitOK) // then all of its log has been read
			if test.password == "" && !strings.Contains(p.log.String(), "PROXY_TEST_PASSWORD is not set") {
				t.Error("the log does not warn of the variable that is not set")
			}
			if said := p.out.String() + p.log.String() + string(body); strings.Contains(said, secret) {
				t.Errorf("the password was told:\n%s", said)
			}
		})
	}
}

// TestSecondSignal: a second signal ends the program without draining.
func TestSecondSignal(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<20))
	up.Pace(1 << 15) // half a minute
	p := startProxy(t, file(up))
	resp, err := client().Get(p.url + "/v2/local/team/app/blobs/" + img.Layers[0].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p.signal(t)
	p.until(t, "the drain", func() bool { return strings.Contains(p.log.String(), "draining") })
	p.signal(t)
	p.wantExit(t, -1) // killed
}
