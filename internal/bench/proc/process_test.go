package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this program be a server: one that has a child that does nothing, or
// that stays when it is told to end.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "server" {
		server(os.Args[2], os.Args[3])
		return
	}
	os.Exit(m.Run())
}

func server(address, how string) {
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, child.Process.Pid)
		if how == "busy" {
			for begun := time.Now(); time.Since(begun) < 50*time.Millisecond; {
			}
		}
	}))
	_ = child.Process.Kill()
	fmt.Println(err)
	os.Exit(1)
}

// begin starts such a server.
func begin(t *testing.T, how string) (p *Process, address string) {
	t.Helper()
	address, err := FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p, err = Start(t.Context(), Command{Args: []string{os.Args[0], "server", address, how}}, t.TempDir(), "http://"+address+"/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	return p, address
}

// child asks for the child of the server.
func child(t *testing.T, address string) int {
	t.Helper()
	resp, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(b.String())
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// alive reports whether a process runs; one that has ended and that nobody has waited
// for does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// TestStopEndsChildren: nothing of a server is left, whatever its parent does with its
// children.
func TestStopEndsChildren(t *testing.T) {
	p, address := begin(t, "")
	pid := child(t, address)
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the child goes on")
		}
	}
	if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "had ended before") {
		t.Errorf("a second Stop: %v", err)
	}
}

// TestUsage: what a server has used is that of all its processes.
func TestUsage(t *testing.T) {
	p, address := begin(t, "busy")
	if len(p.pids) != 2 {
		t.Errorf("it has %d processes, want 2", len(p.pids))
	}
	before, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		child(t, address)
		after, err := p.CPU()
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is busy, and uses nothing")
		}
	}
	m, err := p.Memory()
	if err != nil || m.Anonymous < 100<<10 || m.RSS <= m.Anonymous {
		t.Errorf("memory %+v, %v", m, err)
	}
	own, err := memoryOf(p.pids[:1])
	if err != nil || own.RSS >= m.RSS {
		t.Errorf("%d of %d bytes are its own, %v", own.RSS, m.RSS, err)
	}
}

// TestServerThatFails: the error has the end of its log, and a file of its configuration
// was there.
func TestServerThatFails(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "config")
	c := Command{Args: []string{"sh", "-c", `cat config; echo "$WORD" >&2; exit 3`}, Env: []string{"WORD=broken"}, Files: map[string]string{file: "the config\n"}}
	_, err := Start(t.Context(), c, folder, "http://127.0.0.1:1/")
	for _, text := range []string{"sh does not start", "exit status 3", "the config\nbroken"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %v, want one with %q", err, text)
		}
	}
}

// TestInterruptedStart: a server that does not answer ends with the context.
func TestInterruptedStart(t *testing.T) {
	folder := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupt := errors.New("an interrupt")
	c := Command{Args: []string{"sh", "-c", `echo $$ >pid.new; mv pid.new pid; exec sleep 1000`}}
	pid := 0
	go func() {
		for ctx.Err() == nil {
			if text, err := os.ReadFile(filepath.Join(folder, "pid")); err == nil {
				pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
				cancel(interrupt)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if _, err := Start(ctx, c, folder, "http://127.0.0.1:1/"); !errors.Is(err, interrupt) {
		t.Errorf("the error is %v, want the interrupt", err)
	}
	if err := syscall.Kill(pid, 0); pid == 0 || !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d goes on: %v", pid, err)
	}
}
