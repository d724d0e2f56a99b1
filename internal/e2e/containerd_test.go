package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// containerd is a daemon of the test, with its client.
type containerd struct{ ctr, socket string }

// startContainerd starts the daemon in a temporary folder.
func startContainerd(t *testing.T) *containerd {
	t.Helper()
	daemon, ctr := tool(t, "containerd"), tool(t, "ctr")
	if os.Geteuid() != 0 {
		t.Skip("containerd unpacks layers, which needs root")
	}
	// The path of a socket may have 107 characters at most, and that of t.TempDir
	// contains the name of the test.
	dir, err := os.MkdirTemp("", "ctd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &containerd{ctr: ctr, socket: filepath.Join(dir, "c.sock")}
	config := write(t, dir, "config.toml", fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "native"
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket))
	p := start(t, daemon, "-l", "warn", "-c", config)
	p.until(t, "containerd", func() bool {
		_, err := try(t, c.ctr, "-a", c.socket, "version")
		return err == nil
	})
	return c
}

// run runs a command of ctr.
func (c *containerd) run(t *testing.T, args ...string) string {
	t.Helper()
	return command(t, c.ctr, append([]string{"-a", c.socket, "-n", "e2e"}, args...)...)
}

// pull pulls an image, checks it and removes it, so that the next pull starts from
// nothing. Unpacking checks the diff_ids.
func (c *containerd) pull(t *testing.T, m *image, name string, how ...string) {
	t.Helper()
	args := append([]string{"images", "pull", "--snapshotter", "native", "--platform", "linux/amd64"}, how...)
	c.run(t, append(args, name)...)
	wantDigest(t, m, c.run(t, "images", "ls"))
	p := m.platforms["amd64"]
	want := map[digest.Digest][]byte{
		m.index.Digest:    m.manifests[m.index.Digest].body,
		p.manifest.Digest: m.manifests[p.manifest.Digest].body,
		p.config.Digest:   m.blobs[p.config.Digest],
	}
	for _, l := range p.layers {
		want[l.Digest] = m.blobs[l.Digest]
	}
	for d, body := range want {
		wantBytes(t, d, []byte(c.run(t, "content", "get", d.String())), body)
	}
	c.run(t, "images", "rm", "--sync", name)
}

// TestContainerdMirror pulls by the registry's own name, which hosts.toml directs to the
// proxy with ?ns=.
func TestContainerdMirror(t *testing.T) {
	c, s := startContainerd(t), newStack(t)
	hosts := t.TempDir()
	// Without a server line containerd falls back to the registry itself, which would
	// hide a 404 of the proxy.
	write(t, hosts, filepath.Join(s.wire.host, "hosts.toml"), fmt.Sprintf(`server = "http://%[1]s"
[host."http://%[1]s"]
  capabilities = ["pull", "resolve"]
`, s.host))
	s.story(t, "containerd", []string{"amd64"}, func(t *testing.T) {
		c.pull(t, s.image, s.wire.host+"/"+upstreamRepository+":"+tag, "--hosts-dir", hosts)
	})
}

// TestContainerdPlain pulls by the proxy's name.
func TestContainerdPlain(t *testing.T) {
	c, s := startContainerd(t), newStack(t)
	s.story(t, "containerd", []string{"amd64"}, func(t *testing.T) {
		c.pull(t, s.image, s.reference(), "--plain-http")
	})
}
