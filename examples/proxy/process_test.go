package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaryVariable names the program that the tests start; TestMain sets it.
const binaryVariable = "PROXY_TEST_BINARY"

// TestMain builds the program once.
func TestMain(m *testing.M) { os.Exit(runTests(m)) }

// runTests is TestMain with working defers. Workers of a fuzz test inherit the
// binary.
func runTests(m *testing.M) int {
	if os.Getenv(binaryVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "proxy-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "proxy")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the proxy: %v\n%s", err, out)
		return 1
	}
	os.Setenv(binaryVariable, path)
	return m.Run()
}

// process is a proxy that runs.
type process struct {
	cmd    *exec.Cmd
	file   string // its configuration
	url    string // where it listens
	out    output // standard output
	log    output // standard error
	done   chan struct{}
	result error // of Wait, once done is closed
}

// startProxy starts the program with a file and waits for its line. The program ends with
// the test.
func startProxy(t *testing.T, file string, env ...string) *process {
	t.Helper()
	p := launch(t, file, env...)
	line := regexp.MustCompile(`^proxy: listening on (https?://\S+), .*\n`)
	p.until(t, "its line", func() bool {
		found := line.FindStringSubmatch(p.out.String())
		if found != nil {
			p.url = found[1]
		}
		return found != nil
	})
	return p
}

// launch starts the program with a file.
func launch(t *testing.T, file string, env ...string) *process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(os.Getenv(binaryVariable), "-config", path), file: path, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.result = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill() // an error means that it has ended
		<-p.done
		if t.Failed() {
			t.Logf("the proxy said:\n%s%s", p.out.String(), p.log.String())
		}
	})
	return p
}

// until waits until a condition holds.
func (p *process) until(t *testing.T, what string, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ready(); {
		select {
		case <-p.done:
			t.Fatalf("waiting for %s: the proxy ended: %v", what, p.result)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: not within 30 s", what)
		}
	}
}

// signal sends SIGTERM.
func (p *process) signal(t *testing.T) {
	t.Helper()
	p.send(t, syscall.SIGTERM)
}

// send sends any signal.
func (p *process) send(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// reload replaces the file, sends SIGHUP and waits until the log says these
// words after what it said before.
func (p *process) reload(t *testing.T, file, words string) {
	t.Helper()
	if err := os.WriteFile(p.file, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	before := len(p.log.String())
	p.send(t, syscall.SIGHUP)
	p.until(t, fmt.Sprintf("%q in the log", words), func() bool { return strings.Contains(p.log.String()[before:], words) })
}

// wantExit fails unless the process ends by itself with this code.
func (p *process) wantExit(t *testing.T, code int) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(50 * time.Second):
		t.Fatal("the proxy does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("the proxy ended with %d, want %d", got, code)
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
