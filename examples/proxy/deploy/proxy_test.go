package deploy

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// binaryVariable names the proxy that the tests run; TestMain sets it.
const binaryVariable = "DEPLOY_TEST_PROXY"

// TestMain builds the proxy once.
func TestMain(m *testing.M) { os.Exit(runTests(m)) }

// runTests is TestMain with working defers.
func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deploy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "proxy"), ".")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the proxy: %v\n%s", err, out)
		return 1
	}
	os.Setenv(binaryVariable, filepath.Join(dir, "proxy"))
	return m.Run()
}

// read returns a file of this folder.
func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// tool returns the path of a program. If it is missing, the test is skipped, or fails if
// CI=true, since a run that skips everything must not look like one that passes.
func tool(t *testing.T, name, howToGet string) string {
	t.Helper()
	found, err := exec.LookPath(name)
	if err == nil {
		return found
	}
	text := fmt.Sprintf("%s is not on PATH; get it with: %s", name, howToGet)
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

// config is a configuration of the proxy that was made for another machine, with its folders
// moved into a temporary one and its addresses to free ports.
type config struct {
	text, file string
	listen     string // of /v2/
	admin      string
}

// move moves a configuration. The prefix of each folder of paths is replaced.
func move(t *testing.T, text string, paths ...string) *config {
	t.Helper()
	dir := t.TempDir()
	c := &config{text: text, file: filepath.Join(dir, "proxy.yaml"), listen: freeAddress(t), admin: freeAddress(t)}
	for _, p := range paths {
		if !strings.Contains(c.text, p+"/") {
			t.Errorf("the configuration names nothing in %s:\n%s", p, text)
		}
		to := filepath.Join(dir, filepath.Base(p))
		if err := os.MkdirAll(to, 0o700); err != nil {
			t.Fatal(err)
		}
		c.text = strings.ReplaceAll(c.text, p+"/", to+"/")
	}
	for port, address := range map[string]string{"5000": c.listen, "5001": c.admin} {
		found := false
		for _, host := range []string{"127.0.0.1:", "0.0.0.0:"} {
			found = found || strings.Contains(c.text, " "+host+port+" ") || strings.Contains(c.text, " "+host+port+"\n")
			c.text = strings.ReplaceAll(c.text, " "+host+port, " "+address)
		}
		if !found {
			t.Errorf("the configuration listens on no port %s:\n%s", port, text)
		}
	}
	if err := os.WriteFile(c.file, []byte(c.text), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// ports counts the ports that freeAddress has tried, from one on that other processes hardly
// begin with.
var ports = rand.Int64N(10000)

// freeAddress returns an unused loopback address that it has never returned before. Its port is
// below those that a system gives to listeners that ask for any, so that no other process gets
// it first.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := 20000 + atomic.AddInt64(&ports, 1)%10000
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// proxy is a proxy that runs.
type proxy struct {
	cmd  *exec.Cmd
	said output
	done chan struct{}
}

// start starts the proxy with arguments and waits until its admin address answers. The proxy
// ends with the test.
func (c *config) start(t *testing.T, args ...string) *proxy {
	t.Helper()
	p := &proxy{cmd: exec.Command(os.Getenv(binaryVariable), args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Signal(syscall.SIGKILL) // an error means that it has ended
		<-p.done
		if t.Failed() {
			t.Logf("the proxy said:\n%s", p.said.String())
		}
	})
	p.until(t, "its admin address", func() bool { return status(t, "http://"+c.admin+"/healthz") == http.StatusOK })
	return p
}

// until waits until a condition holds.
func (p *proxy) until(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ready(); {
		select {
		case <-p.done:
			t.Fatalf("waiting for %s: the proxy ended: %s", what, p.said.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: not within 30 s: %s", what, p.said.String())
		}
	}
}

// status returns the status of a GET, or 0 without a response.
func status(t *testing.T, url string) int {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// wantChecked fails unless the proxy accepts a configuration.
func wantChecked(t *testing.T, file string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), os.Getenv(binaryVariable), "-check", "-config", file).CombinedOutput()
	if err != nil || !bytes.HasPrefix(out, []byte("ok: ")) {
		t.Errorf("proxy -check: %v: %s", err, out)
	}
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

// hangUp sends SIGHUP and waits until the proxy has read its file again.
func (p *proxy) hangUp(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.until(t, "the new file", func() bool { return strings.Contains(p.said.String(), "msg=reloaded") })
}

// terminate sends SIGTERM and fails unless the proxy ends with status 0.
func (p *proxy) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(50 * time.Second):
		t.Fatal("the proxy does not end")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the proxy ended with %d, want 0", code)
	}
}
