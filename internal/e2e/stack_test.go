package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/store"
)

const (
	upstreamRepository = "team/app"
	localRepository    = "hub/team/app" // by the rule of newStack
	tag                = "v1"
)

// proxyVariable names the binary of the proxy. TestMain sets it, unless it is set already,
// so that another binary can be tested.
const proxyVariable = "E2E_PROXY"

// TestMain builds the proxy once, from the sources beside this folder. In a process that is to
// be a replica of a fleet, it runs that instead of the tests.
func TestMain(m *testing.M) {
	if config := os.Getenv(replicaVariable); config != "" {
		os.Exit(runReplica(config))
	}
	os.Exit(runTests(m))
}

// runTests is TestMain with working defers.
func runTests(m *testing.M) int {
	if os.Getenv(proxyVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "e2e-proxy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path, err := build(dir, "proxy")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(proxyVariable, path)
	return m.Run()
}

// build builds one of the examples into a folder and returns its path.
func build(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
	cmd.Dir = filepath.Join("..", "..", "examples", name)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building examples/%s: %w\n%s", name, err, out)
	}
	return path, nil
}

// source is a registry with the image, behind a wire.
type source struct {
	image    *image
	registry string // its address, without the wire
	wire     *wire
}

// newSource starts a registry and pushes the image.
func newSource(t *testing.T) *source {
	t.Helper()
	registry := startRegistry(t)
	s := &source{image: newImage(t, 1), registry: registry, wire: newWire(t, registry)}
	s.image.push(t, registry, upstreamRepository, tag)
	return s
}

// startRegistry starts the registry of the distribution project.
func startRegistry(t *testing.T) string {
	t.Helper()
	path, dir, address := tool(t, "registry"), t.TempDir(), freeAddress(t)
	config := write(t, dir, "registry.yml", fmt.Sprintf(`version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %s}
`, filepath.Join(dir, "data"), address))
	p := start(t, path, "serve", config)
	p.until(t, "the registry", func() bool {
		status, _ := get(t, "http://"+address+"/v2/")
		return status == 200
	})
	return address
}

// stack is a source with the proxy in front.
type stack struct {
	*source
	proxy *process
	host  string // of the proxy
	store string // its folder
}

// newStack starts source and proxy; hub/* stands for all of the source. More lines of the
// configuration may follow.
func newStack(t *testing.T, more ...string) *stack {
	t.Helper()
	return startProxy(t, newSource(t), more...)
}

// startProxy starts a proxy in front of a source; hub/* stands for all of it.
func startProxy(t *testing.T, from *source, more ...string) *stack {
	t.Helper()
	s := &stack{source: from}
	dir := t.TempDir()
	s.store = filepath.Join(dir, "store")
	config := write(t, dir, "proxy.yaml", fmt.Sprintf(`listen: 127.0.0.1:0
store: dir:%s
rules:
  - name: source
    source: %s/*
    target: hub/*
upstreams:
  - host: %s
    plainHTTP: true
%s`, s.store, s.wire.host, s.wire.host, strings.Join(more, "")))
	s.proxy = start(t, os.Getenv(proxyVariable), "-config", config)
	s.host = s.proxy.listening(t)
	return s
}

// reference is the image at the proxy.
func (s *stack) reference() string { return s.host + "/" + localRepository + ":" + tag }

// settle waits until the copies after a pull of the image are complete.
func (s *stack) settle(t *testing.T, architectures ...string) {
	t.Helper()
	s.settleImage(t, localRepository, s.image, architectures...)
}

// settleImage waits until an image is complete in a repository: the children
// are stored and the tag has moved. It looks into the folder of the store, since a request
// to the proxy would be another pull.
func (s *stack) settleImage(t *testing.T, repository string, m *image, architectures ...string) {
	t.Helper()
	want := []digest.Digest{m.index.Digest}
	for _, a := range architectures {
		want = append(want, m.platforms[a].manifest.Digest)
	}
	s.proxy.until(t, "the copy", func() (complete bool) {
		s.look(t, func(d *store.Dir) {
			_, err := d.Tag(t.Context(), repository, tag)
			for _, w := range want {
				if err == nil {
					_, err = d.Stat(t.Context(), repository, w)
				}
			}
			complete = err == nil
		})
		return complete
	})
}

// look opens a copy of the index of the store, which the proxy has open itself. A copy
// that was made while the proxy wrote cannot always be read; then there is nothing to see.
func (s *stack) look(t *testing.T, see func(d *store.Dir)) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.store, "index.db"))
	if err != nil {
		return // it may not exist yet
	}
	snapshot, err := os.MkdirTemp("", "e2e-store-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(snapshot)
	if err := os.WriteFile(filepath.Join(snapshot, "index.db"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := store.OpenDir(snapshot)
	if err != nil {
		return
	}
	defer d.Close()
	see(d)
}

// story lists the tags, and pulls three times: cold, warm, and with the upstream down. pull
// must check what it received.
func (s *stack) story(t *testing.T, agent string, architectures []string, pull func(t *testing.T)) {
	t.Helper()
	s.listTags(t)
	t.Log("cold")
	pull(t)
	s.settle(t, architectures...)
	cold := s.wire.take()
	wantNoBlobTwice(t, cold)
	wantNoDirect(t, cold, agent)

	t.Log("warm")
	pull(t)
	warm := s.wire.take()
	wantOneHead(t, warm, upstreamRepository, tag)

	t.Log("with the upstream down")
	s.wire.stop()
	pull(t)
	s.wantTagListed(t)
	s.wantTagsUnknown(t, "hub/team/unlisted")
	s.wantGentleEnd(t)
}

// wantGentleEnd ends the proxy, and fails unless its status is 0.
func (s *stack) wantGentleEnd(t *testing.T) {
	t.Helper()
	if err := s.proxy.stop(); err != nil {
		t.Errorf("the proxy ended with %v, want status 0", err)
	}
}
