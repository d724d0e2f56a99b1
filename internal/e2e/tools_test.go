package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/internal/fakeserver"
)

// howToGet returns the command that installs a tool.
func howToGet(name string) string {
	switch name {
	case "ip":
		return "apt-get install -y --no-install-recommends iproute2"
	case "nsenter":
		return "apt-get install -y --no-install-recommends util-linux"
	case "skopeo", "podman", "buildah":
		return "apt-get install -y --no-install-recommends " + name
	case "crane":
		return "go install github.com/google/go-containerregistry/cmd/crane@v0.22.1"
	case "registry":
		return "go install github.com/distribution/distribution/v3/cmd/registry@v3.1.2"
	case "regctl":
		return "go install github.com/regclient/regclient/cmd/regctl@v0.11.7"
	case "oras":
		return "go install oras.land/oras/cmd/oras@v1.3.6"
	case "versitygw":
		return "go install github.com/versity/versitygw/cmd/versitygw@v1.8.0"
	case "azurite-blob":
		return "npm install azurite, and PULLTHROUGH_AZURITE=node_modules/.bin/azurite-blob"
	case "conformance":
		return "go install github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"
	}
	return "go install github.com/containerd/containerd/v2/cmd/{containerd,ctr}@v2.4.2"
}

// tool returns the path of a tool. If the tool is missing, the test is skipped, or fails if
// CI=true, since a run that skips everything must not look like one that passes.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := lookUp(name)
	if err == nil {
		return path
	}
	text := fmt.Sprintf("%s is neither in $E2E_BIN nor on PATH; get it with: %s", name, howToGet(name))
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

// lookUp looks a tool up.
func lookUp(name string) (string, error) {
	if path := os.Getenv("PULLTHROUGH_AZURITE"); name == "azurite-blob" && path != "" {
		return exec.LookPath(path)
	}
	if dir := os.Getenv("E2E_BIN"); dir != "" {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

// command runs a tool to its end and returns its standard output. Its standard error is part
// of the failure.
func command(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := try(t, path, args...)
	if err != nil {
		t.Fatalf("%s %q: %v", filepath.Base(path), args, err)
	}
	return out
}

// try is command for a tool that may fail.
func try(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w\n%s%s", err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// process is a server that a test started.
type process struct {
	cmd    *exec.Cmd
	output *output
	done   chan struct{} // closed when it has ended
	err    error         // of Wait; read it after done
}

// start starts a server. At the end of the test, the server is ended by its process id, and
// its output is logged if the test failed.
func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	return startWith(t, nil, path, args...)
}

// startWith is start with an environment beside that of the test.
func startWith(t *testing.T, env []string, path string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(append(os.Environ(), "OTEL_TRACES_EXPORTER=none"), env...)
	return startCommand(t, cmd)
}

// startCommand is start with a command that is ready but for its output.
func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, output: &output{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	bindToTests(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s printed:\n%s", filepath.Base(cmd.Path), p.output)
		}
	})
	return p
}

// stop ends the process by SIGTERM, and by SIGKILL if it does not end in time. It returns the
// error of Wait.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended already
	select {
	case <-p.done:
	case <-time.After(45 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
	return p.err
}

// kill ends the process at once, as SIGKILL does, and waits for that.
func (p *process) kill() {
	p.cmd.Process.Kill() // an error means that it has ended already
	<-p.done
}

// until waits until a condition holds.
func (p *process) until(t *testing.T, what string, ready func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ready() {
		select {
		case <-p.done:
			t.Fatalf("waiting for %s: the process ended: %v\n%s", what, p.err, p.output)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: not within a minute\n%s", what, p.output)
		}
	}
}

// listening waits until a process prints its address, and returns the host.
func (p *process) listening(t *testing.T) string {
	t.Helper()
	address := regexp.MustCompile(`listening on http://([0-9.:]+)`)
	var found []string
	p.until(t, filepath.Base(p.cmd.Path)+" to listen", func() bool {
		found = address.FindStringSubmatch(p.output.String())
		return found != nil
	})
	return found[1]
}

// output is what a process has printed. It may be read while the process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

// String returns all that was printed so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// freeAddress returns an unused loopback address, for servers that cannot pick one
// themselves. It is given to nobody else until the test ends.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, release, err := fakeserver.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return address
}

// write puts a text into a file of a folder and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
