package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// scene is a fake Azure, and the program in it as it runs in App Service, with the real SDK,
// production names, an HTTPS_PROXY and a private CA.
type scene struct {
	t       *testing.T
	az      *azuretest.Azure
	dev     *azuretest.Registry
	p       *process
	answers bytes.Buffer // all responses to clients
}

func newScene(t *testing.T) *scene {
	az := azuretest.New(t)
	return &scene{t: t, az: az, dev: az.NewRegistry("devregistry")}
}

// file is a configuration with these identities and more lines.
func (s *scene) file(identities []*azuretest.Identity, more ...string) string {
	var ids []string
	for _, id := range identities {
		ids = append(ids, id.ResourceID)
	}
	return "listen: 127.0.0.1:0\ntenant: " + s.az.TenantID() + "\nidentities: [" + strings.Join(ids, ", ") + "]\n" + strings.Join(more, "\n") + "\n"
}

// rule is one element of rules: TARGET/* for all of the registry, with its authentication.
func (s *scene) rule(target, proof string) string {
	return "  - {name: " + target + ", source: " + s.dev.LoginServer() + "/*, target: " + target + "/*, " + proof + "}"
}

// environment returns the environment of the process.
func (s *scene) environment() []string {
	s.t.Helper()
	proxy, err := s.az.Proxy()
	if err != nil {
		s.t.Fatal(err)
	}
	service, err := s.az.AppService()
	if err != nil {
		s.t.Fatal(err)
	}
	ca := filepath.Join(s.t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, s.az.CA(), 0o600); err != nil {
		s.t.Fatal(err)
	}
	env := []string{"HTTPS_PROXY=" + proxy, "HTTP_PROXY=" + proxy, "NO_PROXY=", "no_proxy=", "SSL_CERT_FILE=" + ca}
	for key, value := range service {
		// No client uses HTTPS_PROXY for a loopback address. 0.0.0.0 leads to the
		// same server and is no loopback address, so a client that would send the
		// token of an identity through the proxy makes the proxy complain.
		env = append(env, key+"="+strings.Replace(value, "//127.0.0.1:", "//0.0.0.0:", 1))
	}
	return env
}

// start runs the program with a file. At the end of the test, the program ends gracefully, and
// all that it printed is searched for secrets.
func (s *scene) start(file string) {
	s.t.Helper()
	s.p = startProxy(s.t, file, s.environment()...)
	s.t.Cleanup(s.finish)
}

// finish ends the program, and looks for secrets in what it printed and in its responses, and
// for requests to hosts that do not exist.
func (s *scene) finish() {
	s.p.signal(s.t)
	s.p.wantExit(s.t, exitOK)
	if refused := s.az.Refused(); len(refused) > 0 {
		s.t.Errorf("the company's proxy was asked for %q", refused)
	}
	said := s.p.out.String() + s.p.log.String() + s.answers.String()
	for _, secret := range s.az.Secrets() {
		if secret.Text != "" && strings.Contains(said, secret.Text) {
			s.t.Errorf("a %s was told", secret.What)
		}
	}
}

// get sends a request to the program and remembers the response.
func (s *scene) get(path string) (status int, body []byte) {
	s.t.Helper()
	resp, err := client().Get(s.p.url + "/v2/" + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	begin := s.answers.Len()
	if err := resp.Header.Write(&s.answers); err != nil {
		s.t.Fatal(err)
	}
	head := s.answers.Len() - begin
	if _, err := s.answers.ReadFrom(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, s.answers.Bytes()[begin+head:]
}

// want fails unless the response for a path has this status and these words.
func (s *scene) want(path string, status int, words ...string) {
	s.t.Helper()
	got, body := s.get(path)
	if got != status {
		s.t.Errorf("%s: status %d, want %d: %.300q", path, got, status, body)
		return
	}
	for _, word := range words {
		if !strings.Contains(string(body), word) {
			s.t.Errorf("%s: %q is not in %s", path, word, body)
		}
	}
}

// wantImage fails unless the whole image of the registry can be pulled below a target.
func (s *scene) wantImage(target, tag string, img upstreamtest.Image) {
	s.t.Helper()
	base := target + "/" + img.Repository
	if status, body := s.get(base + "/manifests/" + tag); status != http.StatusOK || !bytes.Equal(body, img.Manifest) {
		s.t.Errorf("manifest of %s: status %d: %.300q", base, status, body)
	}
	for _, d := range append(img.Layers, img.Config) {
		status, body := s.get(base + "/blobs/" + d.Digest.String())
		if status != http.StatusOK || !bytes.Equal(body, s.dev.Content.Blob(img.Repository, d.Digest)) {
			s.t.Errorf("blob %s of %s: status %d, %d bytes", d.Digest, base, status, len(body))
		}
	}
}
