package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/remote"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// stall adds an image whose layer does not come before the upstream is released.
func (k *control) stall() upstreamtest.Image {
	img := k.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<17))
	k.up.Fail(upstreamtest.Fault{Kind: "blob", Reference: img.Layers[0].Digest.String(), Stall: 1000})
	k.t.Cleanup(k.up.Release)
	return img
}

// TestEndInTheMiddleOfAPrefetch: SIGTERM ends the stream with a text that says so, does not wait
// for the image, and the next process finishes the copy.
func TestEndInTheMiddleOfAPrefetch(t *testing.T) {
	k := newControl(t)
	k.stall()
	done := make(chan string)
	go func() {
		out, err, code := k.run(k.flags, "prefetch", "-json", "local/team/app:v1")
		done <- fmt.Sprint(code, out, err)
	}()
	k.p.until(t, "the copy", func() bool { return len(k.up.Requests()) >= 4 })
	k.p.signal(t)
	select {
	case said := <-done:
		if !strings.HasPrefix(said, fmt.Sprint(exitFault)) || !strings.Contains(said, "ENDING") {
			t.Errorf("the command: %s", said)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the command goes on")
	}
	k.p.wantExit(t, exitOK)
	k.up.Heal()
	k.up.Release()
	next := startProxy(t, file(k.up, "admin: 127.0.0.1:0", "store: dir:"+k.store))
	address := adminOf(t, next)
	next.until(t, "the copy to end", func() bool {
		_, body := fetch(t, client(), "http://"+address+"/api/v1/explain?repository=local/team/app&reference=v1")
		return strings.Contains(string(body), `"stored":true`)
	})
}

// TestInterruptedCommand: a command that is interrupted ends at once with its own text, and the
// proxy goes on.
func TestInterruptedCommand(t *testing.T) {
	k := newControl(t)
	k.stall()
	ctx, interrupt := context.WithCancel(t.Context())
	var stdout, stderr output
	done := make(chan int)
	go func() {
		done <- run(ctx, nil, append([]string{"prefetch", "local/team/app:v1"}, k.flags...), &stdout, &stderr)
	}()
	k.p.until(t, "the copy", func() bool { return len(k.up.Requests()) >= 4 })
	interrupt()
	if code := <-done; code != remote.ExitFailed || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit code %d, said %q", code, stderr.String())
	}
	k.p.until(t, "the end of the stream", func() bool { return strings.Contains(k.p.log.String(), `"admin: prefetch"`) })
	k.want(exitOK, "1 copies: 1 running", "copies")
}

// TestBarOnATerminal: on a terminal a bar moves, and leaves one line.
func TestBarOnATerminal(t *testing.T) {
	if _, err := exec.LookPath("script"); err != nil {
		t.Skip("there is no script, which makes a terminal")
	}
	k := newControl(t)
	k.up.AddImage("team/app", "v1", upstreamtest.Layers(2, 1<<19))
	k.up.Pace(1 << 18) // four seconds, until the bar is there
	line := strings.Join(append([]string{os.Getenv(binaryVariable), "prefetch", "local/team/app:v1"}, k.flags...), " ")
	cmd := exec.CommandContext(t.Context(), "script", "-qec", "stty cols 80; "+line, "/dev/null")
	cmd.Env = append(os.Environ(), "TERM=xterm", "SHELL=/bin/sh")
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.p.until(t, "a bar", func() bool { return strings.Contains(out.String(), " % ") })
	k.up.Pace(0)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	said := out.String()
	if !strings.Contains(said, "\r\x1b[Klocal/team/app:v1 [") || !strings.Contains(said, " % ") {
		t.Errorf("there is no bar in %q", said)
	}
	if !strings.Contains(said, "\r\x1b[Klocal/team/app:v1: done, 1.0 MiB, sha256:") {
		t.Errorf("the bar does not make way for the last line in %q", said)
	}
	for drawing := range strings.SplitSeq(said, "\r\x1b[K") {
		if n := len([]rune(drawing)); n > 79 && !strings.Contains(drawing, "done") {
			t.Errorf("a line has %d characters: %q", n, drawing)
		}
	}
}

// authority makes client certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

// newAuthority makes an authority and writes its certificate into a file.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "ca.pem")}
	var der []byte
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key, der = a.sign(t, template, template)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// sign makes a certificate with a new key, signed by the authority, or by itself if that is made.
func (a *authority) sign(t *testing.T, template, parent *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// client writes a client certificate and its key into files.
func (a *authority) client(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, der := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert)
	packed, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "PRIVATE KEY", packed)
	return cert, key
}

// writePEM writes a file.
func writePEM(t *testing.T, file, kind string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestClientCertificates: a certificate of the right authority acts, another one and none do not;
// a reload puts another authority and another certificate in force, and needs no restart.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key, config := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	writeCertificate(t, cert, key)
	ours, others := newAuthority(t), newAuthority(t)
	use := func(a *authority) {
		data, err := os.ReadFile(a.file)
		if err == nil {
			err = os.WriteFile(config, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	use(ours)
	text := fmt.Sprintf("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nadminAccess:\n  tls: {cert: %q, key: %q}\n  clientCA: %q\n", cert, key, config)
	p := startProxy(t, text)
	k := &control{t: t, p: p}
	address := "https://" + adminOf(t, p)
	evict := func(code int, words string, flags ...string) {
		t.Helper()
		if out, err, got := k.run(append([]string{"-admin", address, "-ca", cert}, flags...), "evict"); got != code || !strings.Contains(out+err, words) {
			t.Errorf("exit code %d, want %d: %s%s", got, code, out, err)
		}
	}
	cert1, key1 := ours.client(t, "alice")
	cert2, key2 := others.client(t, "mallory")
	evict(exitOK, "evicted", "-cert", cert1, "-key", key1)
	evict(remote.ExitUnreachable, "", "-cert", cert2, "-key", key2)
	evict(remote.ExitRefused, "this needs a client certificate")
	if out, err, code := k.run([]string{"-admin", address}, "evict"); code != remote.ExitUnreachable || !strings.Contains(err, "certificate") {
		t.Errorf("with an unknown authority of the server: exit code %d: %s%s", code, out, err)
	}
	if status, _ := fetch(t, client(), strings.Replace(address, "https", "http", 1)+"/healthz"); status != http.StatusBadRequest {
		t.Errorf("plain HTTP: status %d", status)
	}
	p.until(t, "the name in the log", func() bool { return strings.Contains(p.log.String(), `by="certificate CN=alice"`) })

	use(others)
	writeCertificate(t, cert, key)
	p.reload(t, text, "reloaded")
	evict(exitOK, "evicted", "-cert", cert2, "-key", key2)
	evict(remote.ExitUnreachable, "", "-cert", cert1, "-key", key1)
	p.reload(t, strings.Replace(text, "  clientCA", "  names: [a.example]\n  clientCA", 1), "keys=adminAccess")
}

// TestHostileProxy: what a server answers neither gets the token elsewhere, nor acts on the
// terminal, nor fills the memory.
func TestHostileProxy(t *testing.T) {
	t.Setenv("PROXY_TOKEN", secretToken)
	t.Setenv("PROXY_ADMIN", "")
	var elsewhere output
	other := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { _ = r.Header.Write(&elsewhere) })
	k := &control{t: t}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		args   []string
		code   int
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other+r.URL.Path, http.StatusTemporaryRedirect)
		}, []string{"evict"}, exitFault},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>\x1b[2J") }, []string{"stats"}, exitFault},
		"other":   {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `[]`) }, []string{"stats"}, exitFault},
		"sequences": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"text": "\u001b[2J\u009b2J\u202e\r\u0007"}`)
		}, []string{"explain", "a"}, exitOK},
		"error": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			io.WriteString(w, `{"error": {"code": "\u001b[2J", "message": "\u001b[2J"}}`)
		}, []string{"stats"}, exitFault},
		"cut":       {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"kind": "progress"}`+"\n") }, []string{"prefetch", "a"}, exitFault},
		"bad line":  {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "\x1b[2J\n") }, []string{"prefetch", "a"}, exitFault},
		"null":      {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"kind": "error"}`+"\n") }, []string{"check"}, exitFault},
		"long line": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 3<<20)) }, []string{"check"}, exitFault},
		"nothing":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, []string{"stats"}, remote.ExitUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			out, err, code := k.run([]string{"-admin", serveHTTP(t, test.answer)}, test.args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d: %s%s", code, test.code, out, err)
			}
			if strings.ContainsAny(out+err, "\x1b\x07\r\u009b\u202e") {
				t.Errorf("a sequence for the terminal is in %q", out+err)
			}
			if name == "long line" && !strings.Contains(err, "token too long") {
				t.Errorf("a line of 3 MiB was read: %s", err)
			}
			if len(out+err) > 10000 {
				t.Errorf("it prints %d bytes", len(out+err))
			}
		})
	}
	if elsewhere.String() != "" {
		t.Errorf("a redirect was followed with %s", elsewhere.String())
	}
}

// serveHTTP starts a server that ends with the test, and returns its URL.
func serveHTTP(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return "http://" + l.Addr().String()
}
