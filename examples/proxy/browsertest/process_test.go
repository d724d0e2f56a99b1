package browsertest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// token is who may act in these tests.
const token = "a-token-of-the-browser-test"

// program is the path of the proxy, which TestMain builds.
var program string

// TestMain builds the proxy once.
func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "browsertest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "proxy")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", program, ".")
	build.Dir = ".." // in the module of the proxy, with what that requires
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the proxy: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// output is what a process prints. It is safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// proxy is the program with an upstream and a receiver of events.
type proxy struct {
	t       *testing.T
	up      *upstreamtest.Registry
	events  *events
	out     output
	address string // of /v2/
	page    string // the URL of the page
	cmd     *exec.Cmd
	done    chan struct{}
}

// events are the bodies that a receiver got.
type events struct {
	mu     sync.Mutex
	bodies []string
}

func (e *events) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	_, _ = body.ReadFrom(r.Body) // a body that is cut off counts as one that lacks the rest
	e.mu.Lock()
	defer e.mu.Unlock()
	e.bodies = append(e.bodies, body.String())
}

// count returns how many bodies have a text.
func (e *events) count(text string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.bodies {
		if strings.Contains(b, text) {
			n++
		}
	}
	return n
}

// startProxy starts the program. It ends with the test.
func startProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{t: t, up: upstreamtest.NewRegistry(t), events: &events{}, done: make(chan struct{})}
	receiver := httptest.NewServer(p.events)
	t.Cleanup(receiver.Close)
	dir := t.TempDir()
	file := filepath.Join(dir, "proxy.yaml")
	config := fmt.Sprintf(`listen: 127.0.0.1:0
admin: 127.0.0.1:0
adminAccess: {token: {value: %s}}
store: dir:%s
freshness: 1h
upstreams: [{host: "%s", plainHTTP: true}]
rules: [{name: local, source: "%s/*", target: local/*}]
webhooks: [{name: scanner, url: "%s"}]
`, token, filepath.Join(dir, "store"), p.up.Host(), p.up.Host(), receiver.URL)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(program, "-config", file)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // a test that ends it sees more than this error
		close(p.done)
	}()
	t.Cleanup(p.stop)
	p.address = p.find(`listening on http://(\S+),`)
	p.page = "http://" + p.find(`msg="serving the status page" address=(\S+)`) + "/"
	return p
}

// find waits for what the program prints.
func (p *proxy) find(pattern string) string {
	p.t.Helper()
	line := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if m := line.FindStringSubmatch(p.out.String()); m != nil {
			return m[1]
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the proxy did not print %s:\n%s", pattern, p.out.String())
		}
	}
}

// stop ends the program, if it has not ended.
func (p *proxy) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill() // the same
		<-p.done
		p.t.Error("the proxy did not end")
	}
	if p.t.Failed() {
		p.t.Logf("the proxy said:\n%s", p.out.String())
	}
}

// pull pulls an image with all of its layers: with crane if there is one, and otherwise as
// a client does. It returns what went wrong.
func (p *proxy) pull(image upstreamtest.Image, tag string) error {
	name := p.address + "/local/" + image.Repository + ":" + tag
	if crane, err := exec.LookPath(filepath.Join(os.Getenv("E2E_BIN"), "crane")); err == nil && os.Getenv("E2E_BIN") != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, crane, "pull", "--insecure", name, os.DevNull).CombinedOutput()
		if err != nil {
			return fmt.Errorf("crane pull: %w: %s", err, out)
		}
		return nil
	}
	paths := []string{"manifests/" + tag}
	for _, d := range append(image.Layers, image.Config) {
		paths = append(paths, "blobs/"+d.Digest.String())
	}
	for _, path := range paths {
		resp, err := http.Get("http://" + p.address + "/v2/local/" + image.Repository + "/" + path)
		if err != nil {
			return err
		}
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: status %d: %w", path, resp.StatusCode, err)
		}
	}
	return nil
}
