package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// hub plays Docker Hub, under its own name and with TLS, to a proxy whose environment it
// provides. It has library/alpine:3.22.
type hub struct {
	*source
	env []string
}

// The image that the pages of examples/proxy pull.
const (
	alpine    = "library/alpine"
	alpineTag = "3.22"
)

// newHub starts a registry with the image, and what makes it Docker Hub.
func newHub(t *testing.T) *hub {
	t.Helper()
	registry := startRegistry(t)
	h := &hub{source: &source{image: newImage(t, 1), registry: registry, wire: newWire(t, registry)}}
	h.image.push(t, registry, alpine, alpineTag)

	ca, err := fakeserver.NewCA("a registry on this machine")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Certificate("registry-1.docker.io")
	if err != nil {
		t.Fatal(err)
	}
	target := &url.URL{Scheme: "http", Host: h.wire.host}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	front.TLS = &tls.Config{Certificates: []tls.Certificate{*leaf}}
	front.StartTLS()
	t.Cleanup(front.Close)
	tunnel := httptest.NewServer(tunnelTo(front.Listener.Addr().String()))
	t.Cleanup(tunnel.Close)
	roots := write(t, t.TempDir(), "ca.pem", string(ca.PEM()))
	h.env = []string{"HTTPS_PROXY=" + tunnel.URL, "NO_PROXY=", "SSL_CERT_FILE=" + roots}
	return h
}

// tunnelTo is an HTTP proxy that leads every CONNECT for Docker Hub to one address, and
// refuses all others.
func tunnelTo(address string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "registry-1.docker.io:443" {
			http.Error(w, "only Docker Hub is here, not "+r.Host, http.StatusForbidden)
			return
		}
		up, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer up.Close()
		down, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(up, down)
			up.Close()
		}()
		io.Copy(down, up)
	}
}

// serve starts the proxy with a file of a page, on a free port, and returns what it listens on.
func (h *hub) serve(t *testing.T, file string) *stack {
	t.Helper()
	dir := t.TempDir()
	s := &stack{source: h.source, store: filepath.Join(dir, "images"), host: freeAddress(t)}
	if !strings.Contains(file, "listen: "+pageHost+"\n") && !strings.Contains(file, "listen: "+pageHost+" ") {
		t.Fatalf("the file does not listen on %s:\n%s", pageHost, file)
	}
	config := write(t, dir, "proxy.yaml", strings.NewReplacer(pageHost, s.host, "dir:images", "dir:"+s.store).Replace(file))
	s.proxy = startWith(t, h.env, os.Getenv(proxyVariable), "-config", config)
	s.proxy.listening(t)
	return s
}

// wantPulled fails unless all layers of one platform were read at the hub, which no client can
// reach but through the proxy.
func (h *hub) wantPulled(t *testing.T) {
	t.Helper()
	log := h.wire.take()
	wantNoBlobTwice(t, log)
	for _, p := range h.image.platforms {
		n := 0
		for _, l := range p.layers {
			n += count(log, http.MethodGet, "/v2/"+alpine+"/blobs/"+l.Digest.String())
		}
		if n == len(p.layers) {
			return
		}
	}
	t.Errorf("no platform of the image came through the proxy:%s", show(log))
}
