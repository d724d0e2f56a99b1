package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/pullthrough/pullthrough/examples/proxy/inbound"
)

// TestReadmeAccess: the file that the README shows about who may pull is valid, and means what the README says.
func TestReadmeAccess(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)## Who may pull\n\n```yaml\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("README.md shows no file about who may pull")
	}
	t.Chdir(t.TempDir())
	htpasswd(t, "users.htpasswd", "alice:x", "bob:y")
	writeCertificate(t, "cert.pem", "key.pem")
	writeText(t, "proxy.yaml", string(found[1])+"rules: [{name: docker-hub, source: docker.io/*, target: hub/*}]\n")
	s, err := build("proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if s.certificate == nil || s.policy == nil || s.policy.Open() || len(s.policy.Users) != 2 || s.policy.Users[0].Pull[0] != inbound.Everything ||
		len(s.policy.Tokens) != 1 || !s.policy.Anonymous.Match("hub/library/alpine") || s.policy.Anonymous.Match("team-b/app") {
		t.Errorf("the policy is %+v", s.policy)
	}
}
