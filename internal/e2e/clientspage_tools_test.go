package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// withAccess fails unless the proxy refuses clients that have not logged in.
func withAccess(t *testing.T, v *visit) {
	for _, name := range []string{"oras", "regctl", "skopeo"} {
		v.need(t, name)
	}
	_, err := try(t, v.need(t, "crane"), "manifest", v.stack.host+"/hub/"+alpine+":"+alpineTag)
	if err == nil || !strings.Contains(err.Error(), "authentication required") {
		t.Errorf("without a login: %v", err)
	}
	v.pulls = false
}

// withContainerd starts containerd, and has ctr know it.
func withContainerd(t *testing.T, v *visit) {
	c := startContainerd(t)
	v.env = append(v.env, "CONTAINERD_ADDRESS="+c.socket, "CONTAINERD_NAMESPACE=e2e", "CONTAINERD_SNAPSHOTTER=native")
}

// nativeSnapshotter has containerd unpack without an overlay, which is not everywhere.
const nativeSnapshotter = `
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "native"
`

// withCRI starts containerd with the part of its file that the section has, and has crictl
// know it. What the kubelet says to containerd, crictl says.
func withCRI(t *testing.T, v *visit) {
	if os.Geteuid() != 0 {
		t.Skip("containerd unpacks layers, which needs root")
	}
	v.need(t, "crictl")
	daemon, dir := v.need(t, "containerd"), shortFolder(t)
	text, ok := strings.CutPrefix(v.moved(v.files["/etc/containerd/config.toml"]), "version = 3\n")
	if !ok {
		t.Fatal("the file does not begin with its version")
	}
	socket := filepath.Join(dir, "c.sock")
	config := write(t, dir, "config.toml", fmt.Sprintf("version = 3\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n%s",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket, text)+
		nativeSnapshotter)
	for path, text := range sectionOf(t, readPage(t, "CLIENTS.md"), "containerd").files {
		write(t, v.root, path, v.moved(text))
	}
	p := start(t, daemon, "-l", "warn", "-c", config)
	v.env = append(v.env, "CONTAINER_RUNTIME_ENDPOINT=unix://"+socket, "IMAGE_SERVICE_ENDPOINT=unix://"+socket)
	p.until(t, "containerd", func() bool {
		cmd := exec.Command(v.need(t, "crictl"), "images")
		cmd.Env = v.env
		return cmd.Run() == nil
	})
}

// withDocker starts dockerd with the file of the section.
func withDocker(t *testing.T, v *visit) {
	if os.Geteuid() != 0 {
		t.Skip("dockerd needs root")
	}
	daemon, dir := v.need(t, "dockerd"), shortFolder(t)
	// It finds a containerd of its own age beside itself.
	v.env = append(v.env, "DOCKER_HOST=unix://"+dir+"/d.sock")
	p := startWith(t, []string{"PATH=" + filepath.Dir(daemon) + ":" + filepath.Dir(filepath.Dir(daemon)) + "/bin:" + os.Getenv("PATH")}, daemon,
		"--config-file", v.file("/etc/docker/daemon.json"), "--host", "unix://"+dir+"/d.sock",
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid",
		"--bridge", "none", "--iptables=false", "--storage-driver", "vfs")
	p.until(t, "dockerd", func() bool {
		cmd := exec.Command(v.need(t, "docker"), "version")
		cmd.Env = v.env
		return cmd.Run() == nil
	})
}

// withContainersStorage gives podman and buildah the file of the section and a storage of
// their own.
func withContainersStorage(t *testing.T, v *visit) {
	if os.Geteuid() != 0 {
		t.Skip("unpacking layers needs root here")
	}
	dir := shortFolder(t)
	storage := write(t, dir, "storage.conf", fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", dir+"/graph", dir+"/run"))
	v.env = append(v.env, "CONTAINERS_STORAGE_CONF="+storage, "CONTAINERS_REGISTRIES_CONF="+v.file("/etc/containers/registries.conf"))
}

// withRegistriesConf gives skopeo the file of the section. Version 1.9 takes it by a flag
// alone, if it lies elsewhere than in its place.
func withRegistriesConf(t *testing.T, v *visit) {
	v.replace = append(v.replace, "skopeo copy", "skopeo --registries-conf "+v.file("/etc/containers/registries.conf")+" copy")
}

// withBuildKit builds from the image with the daemon of the section, since the section has no
// command of its own.
func withBuildKit(t *testing.T, v *visit) {
	if os.Geteuid() != 0 {
		t.Skip("buildkitd needs root")
	}
	daemon, dir := v.need(t, "buildkitd"), shortFolder(t)
	p := start(t, daemon, "--config", v.file("/etc/buildkit/buildkitd.toml"), "--addr", "unix://"+dir+"/b.sock", "--root", dir+"/root",
		"--oci-worker-snapshotter", "native", "--containerd-worker=false")
	v.env = append(v.env, "BUILDKIT_HOST=unix://"+dir+"/b.sock")
	p.until(t, "buildkitd", func() bool {
		cmd := exec.Command(v.need(t, "buildctl"), "debug", "workers")
		cmd.Env = v.env
		return cmd.Run() == nil
	})
	write(t, v.dir, "Dockerfile", "FROM docker.io/library/alpine:3.22\nLABEL built=yes\n")
	v.commands = []string{"buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=. --output type=oci,dest=image.tar"}
}

// withChart has helm push a chart to the hub.
func withChart(t *testing.T, v *visit) {
	helm := v.need(t, "helm")
	write(t, v.dir, "demo/Chart.yaml", "apiVersion: v2\nname: demo\nversion: 0.1.0\n")
	command(t, helm, "package", filepath.Join(v.dir, "demo"), "--destination", v.dir)
	command(t, helm, "push", filepath.Join(v.dir, "demo-0.1.0.tgz"), "oci://"+v.hub.registry+"/charts", "--plain-http")
	v.pulls = false
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(v.dir, "demo-0.1.0.tgz")); err != nil {
			t.Error(err)
		}
	})
	os.Remove(filepath.Join(v.dir, "demo-0.1.0.tgz"))
}

// withSignature has notation sign the image at the hub, with a key of its own that it trusts.
func withSignature(t *testing.T, v *visit) {
	notation := v.need(t, "notation")
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(v.dir, "config"))
	v.env = append(v.env, "XDG_CONFIG_HOME="+filepath.Join(v.dir, "config"))
	policy := write(t, v.dir, "policy.json", `{"version": "1.0", "trustPolicies": [{"name": "all", "registryScopes": ["*"], "trustStores": ["ca:e2e"],
		"trustedIdentities": ["*"], "signatureVerification": {"level": "strict", "override": {"revocation": "skip"}}}]}`)
	command(t, notation, "cert", "generate-test", "--default", "e2e")
	command(t, notation, "policy", "import", policy)
	command(t, notation, "sign", "--insecure-registry", v.hub.registry+"/"+alpine+":"+alpineTag)
	v.pulls = false
}

// shortFolder makes a folder with a short path: that of a socket may have 107 characters at
// most, and that of t.TempDir contains the name of the test.
func shortFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
