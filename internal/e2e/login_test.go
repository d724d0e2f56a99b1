package e2e

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const (
	alicePassword = "right-password"
	aliceHash     = "$2a$05$i.Fszue.VVEyuBJhgkwlcejNDZ164Kl4JpI4kgM0UAxXFe4Zvpv12" // of that
)

// login is what a client shows: the zero value is nothing.
type login struct{ user, password string }

// loginClient is a client that logs in.
type loginClient struct {
	name string
	// pull pulls a reference at the proxy. If it works, it checks the image.
	pull func(t *testing.T, s *stack, l login, reference string) error
	// What the client prints without credentials, with wrong ones, and for a repository that
	// the user may not read.
	none, wrong, denied string
}

// credentialsFile writes what docker login stores, and returns its folder.
func credentialsFile(t *testing.T, host string, l login) string {
	t.Helper()
	text := "{}"
	if l.user != "" {
		text = fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, base64.StdEncoding.EncodeToString([]byte(l.user+":"+l.password)))
	}
	return filepath.Dir(write(t, t.TempDir(), "config.json", text))
}

// loginClients returns the clients.
func loginClients(t *testing.T) []loginClient {
	t.Helper()
	crane, regctl, oras, skopeo := tool(t, "crane"), tool(t, "regctl"), tool(t, "oras"), tool(t, "skopeo")
	return []loginClient{
		{"crane", func(t *testing.T, s *stack, l login, reference string) error {
			t.Setenv("DOCKER_CONFIG", credentialsFile(t, s.host, l))
			dir := filepath.Join(t.TempDir(), "out")
			_, err := try(t, crane, "pull", "--insecure", "--platform", "linux/amd64", "--format", "oci", s.host+"/"+reference, dir)
			if err == nil {
				wantLayout(t, dir, s.image, false, "amd64")
			}
			return err
		}, "UNAUTHORIZED: authentication required", "UNAUTHORIZED: the user name or the password is wrong", "DENIED: user 'alice' may not pull 'hub/secret/app'"},
		{"oras", func(t *testing.T, s *stack, l login, reference string) error {
			config := filepath.Join(credentialsFile(t, s.host, l), "config.json")
			dir := filepath.Join(t.TempDir(), "out")
			_, err := try(t, oras, "copy", "--from-plain-http", "--from-registry-config", config, s.host+"/"+reference, "--to-oci-layout", dir+":"+tag)
			if err == nil {
				wantLayout(t, dir, s.image, true, "amd64", "arm64")
			}
			return err
		}, "unauthorized: authentication required", "unauthorized: the user name or the password is wrong", "denied: user 'alice' may not pull 'hub/secret/app'"},
		{"regctl", func(t *testing.T, s *stack, l login, reference string) error {
			host := "reg=" + s.host + ",tls=disabled"
			if l.user != "" {
				host += ",user=" + l.user + ",pass=" + l.password
			}
			t.Setenv("REGCTL_CONFIG", filepath.Join(t.TempDir(), "regctl.json"))
			t.Setenv("DOCKER_CONFIG", t.TempDir())
			dir := filepath.Join(t.TempDir(), "out")
			_, err := try(t, regctl, "image", "copy", "--host", host, s.host+"/"+reference, "ocidir://"+dir+":"+tag)
			if err == nil {
				wantLayout(t, dir, s.image, true, "amd64", "arm64")
			}
			return err
		}, "unauthorized", "unauthorized", "user 'alice' may not pull 'hub/secret/app'"},
		{"skopeo", func(t *testing.T, s *stack, l login, reference string) error {
			who := []string{"--src-no-creds"}
			if l.user != "" {
				who = []string{"--src-creds", l.user + ":" + l.password}
			}
			dir := filepath.Join(t.TempDir(), "out")
			args := append([]string{"--insecure-policy", "copy", "--all", "--src-tls-verify=false"}, who...)
			_, err := try(t, skopeo, append(args, "docker://"+s.host+"/"+reference, "oci:"+dir+":"+tag)...)
			if err == nil {
				wantLayout(t, dir, s.image, true, "amd64", "arm64")
			}
			return err
		}, "unauthorized", "unauthorized: the user name or the password is wrong", "denied"},
	}
}

// newGuardedStack starts a proxy at which Alice may pull hub/team/*.
func newGuardedStack(t *testing.T) *stack {
	t.Helper()
	users := write(t, t.TempDir(), "users", "alice:"+aliceHash+"\n")
	s := newStack(t, "access:\n  htpasswd: "+users+"\n  users: [{name: alice, pull: [hub/team/*]}]\n")
	s.image.push(t, s.registry, "secret/app", tag)
	return s
}

// wantRefused fails unless a pull was refused with these words, at no cost upstream, and without the password
// in any output.
func (s *stack) wantRefused(t *testing.T, what string, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want %q", what, err, words)
	}
	if log := s.wire.take(); len(log) > 0 {
		t.Errorf("%s: the upstream was asked:%s", what, show(log))
	}
}

// TestLogin: each client pulls with the right credentials, cold, warm and with the upstream down. Without
// credentials, with wrong ones, and from a repository that Alice may not read, it pulls nothing and prints why.
func TestLogin(t *testing.T) {
	for _, c := range loginClients(t) {
		t.Run(c.name, func(t *testing.T) {
			s := newGuardedStack(t)
			right, wrong := login{"alice", alicePassword}, login{"alice", "wrong-password"}
			const mine, secret = localRepository + ":" + tag, "hub/secret/app:" + tag
			s.wire.take()
			for range 2 { // before and after the image is stored
				s.wantRefused(t, "no credentials", c.pull(t, s, login{}, mine), c.none)
				s.wantRefused(t, "wrong credentials", c.pull(t, s, wrong, mine), c.wrong)
				s.wantRefused(t, "another repository", c.pull(t, s, right, secret), c.denied)
				if err := c.pull(t, s, right, mine); err != nil {
					t.Fatalf("right credentials: %v", err)
				}
				s.settle(t, "amd64")
				s.wire.take()
			}
			s.wire.stop()
			if err := c.pull(t, s, right, mine); err != nil {
				t.Errorf("with the upstream down: %v", err)
			}
			s.wantGentleEnd(t)
			if strings.Contains(s.proxy.output.String(), alicePassword) || strings.Contains(s.proxy.output.String(), "wrong-password") {
				t.Errorf("a password is in the log:\n%s", s.proxy.output)
			}
		})
	}
}

// TestContainerdLogin: containerd asks for tokens for the name that it was given, at a mirror too, where the proxy
// has another name for the repository.
func TestContainerdLogin(t *testing.T) {
	c, s := startContainerd(t), newGuardedStack(t)
	hosts := t.TempDir()
	write(t, hosts, filepath.Join(s.wire.host, "hosts.toml"), fmt.Sprintf("server = \"http://%[1]s\"\n[host.\"http://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", s.host))
	pull := func(user, name string, how ...string) error {
		args := []string{"-a", c.socket, "-n", "e2e", "images", "pull", "--snapshotter", "native", "--platform", "linux/amd64"}
		if user != "" {
			args = append(args, "--user", user)
		}
		_, err := try(t, c.ctr, append(append(args, how...), name)...)
		return err
	}
	s.wire.take()
	for where, p := range map[string]struct {
		prefix string
		how    []string
	}{"plain": {s.host + "/hub/", []string{"--plain-http"}}, "mirror": {s.wire.host + "/", []string{"--hosts-dir", hosts}}} {
		mine, secret := p.prefix+upstreamRepository+":"+tag, p.prefix+"secret/app:"+tag
		s.wantRefused(t, where+": no credentials", pull("", mine, p.how...), "401 Unauthorized")
		s.wantRefused(t, where+": wrong credentials", pull("alice:wrong-password", mine, p.how...), "401 Unauthorized")
		s.wantRefused(t, where+": another repository", pull("alice:"+alicePassword, secret, p.how...), "403 Forbidden")
		c.pull(t, s.image, mine, append(p.how, "--user", "alice:"+alicePassword)...)
		s.settle(t, "amd64")
		s.wire.take()
	}
	s.wantGentleEnd(t)
}
