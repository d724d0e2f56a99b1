package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestClientCertMistakes has a row for each mistake of a clientCert.
func TestClientCertMistakes(t *testing.T) {
	for _, test := range []struct{ name, keys, want string }{
		{"no files", "clientCert: {cert: nowhere.pem, key: nowhere.pem}", "3: upstreams[0].clientCert: open nowhere.pem: no such file"},
		{"half of it", "clientCert: {cert: a.pem}", "3: upstreams[0].clientCert: key is missing"},
		{"other half", "clientCert: {key: a.pem}", "3: upstreams[0].clientCert: cert is missing"},
		{"one file", "clientCert: a.pem", "3: upstreams[0].clientCert: wants keys with values"},
		{"no certificate", "clientCert: {cert: proxy.yaml, key: proxy.yaml}", "3: upstreams[0].clientCert: tls: failed to find any PEM data"},
		{"plain HTTP", "plainHTTP: true\n    clientCert: {cert: a.pem, key: b.pem}", "4: upstreams[0].clientCert: makes no sense with plainHTTP"},
		{"misspelt", "clientcert: {cert: a.pem, key: b.pem}", "3: upstreams[0].clientcert: unknown key; did you mean clientCert?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := "upstreams:\n  - host: a.example.com\n    " + test.keys + "\n"
			if strings.HasPrefix(test.want, "3: upstreams[0].clientCert: wants") {
				t.Chdir(t.TempDir())
				if said := mistakesOf(t, file); !strings.Contains(said, test.want) {
					t.Errorf("got %s, want %q in it", said, test.want)
				}
				return // the missing keys are noted too
			}
			wantMistake(t, file, test.want)
		})
	}
}

// TestClientCert pulls from a registry that wants a certificate. One that takes its place in
// the files is shown on the next connection, and after a reload at the latest.
func TestClientCert(t *testing.T) {
	t.Chdir(t.TempDir())
	up := upstreamtest.NewHandler()
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1000))
	var mu sync.Mutex
	var last string // name in the certificate of the last request
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		last = strings.Join(r.TLS.PeerCertificates[0].DNSNames, " ")
		mu.Unlock()
		up.ServeHTTP(w, r)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	want := func(name string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if last != name {
			t.Errorf("the registry saw the certificate of %q, want %q", last, name)
		}
	}
	if err := os.WriteFile("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, "client.pem", "client-key.pem", "first")
	address := server.Listener.Addr().String()
	config := func(more string) string {
		return fmt.Sprintf("listen: 127.0.0.1:0\nupstreams:\n  - {host: %q, ca: ca.pem%s}\nrules:\n  - {name: local, source: %q, target: local/*}\n", address, more, address+"/*")
	}
	const certs = ", clientCert: {cert: client.pem, key: client-key.pem}"

	p := startProxy(t, config(certs))
	wantImage(t, p.url, img, up)
	want("first")
	pull := func() {
		t.Helper()
		if status, body := fetch(t, client(), p.url+"/v2/local/team/app/manifests/v1"); status != 200 {
			t.Errorf("status %d: %s", status, body)
		}
	}
	later(t, "client.pem", func() { writeCertificate(t, "client.pem", "client-key.pem", "between") })
	server.CloseClientConnections()
	pull()
	want("between")
	later(t, "client.pem", func() { writeCertificate(t, "client.pem", "client-key.pem", "second") })
	p.reload(t, config(certs), reloaded)
	pull()
	want("second")
	p.reload(t, config(""), `keys=upstreams`)
	if err := os.Remove("client-key.pem"); err != nil {
		t.Fatal(err)
	}
	p.reload(t, config(certs), "upstreams[0].clientCert: open client-key.pem: no such file")
	if status, _ := fetch(t, client(), p.url+"/v2/local/team/app/manifests/v1"); status != 200 {
		t.Errorf("status %d: the former certificate must be good while the files are not", status)
	}
	p.signal(t)
	p.wantExit(t, exitOK)

	writeCertificate(t, "client.pem", "client-key.pem", "third")
	none := startProxy(t, config(""))
	if status, _ := fetch(t, client(), none.url+"/v2/local/team/app/manifests/v1"); status != 502 {
		t.Errorf("status %d without a certificate, want 502", status)
	}
}

// later changes a file, and sees to it that its time differs from what it was.
func later(t *testing.T, file string, change func()) {
	t.Helper()
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	change()
	at := before.ModTime().Add(time.Second)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}
