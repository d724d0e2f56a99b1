// Package proc starts and ends the servers that are compared, and tells what they
// cost: processor time, memory, and how much others took of the machine meanwhile. It
// reads /proc, and so needs Linux.
package proc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Command is what starts a server.
type Command struct {
	// Args are the program and its arguments.
	Args []string
	// Env is added to the environment.
	Env []string
	// Files are written before, by their paths.
	Files map[string]string
}

// Process is a server that runs, with its children.
type Process struct {
	cmd  *exec.Cmd
	log  string
	pids []int
	done chan struct{} // closed when it has ended
	err  error         // after done
}

// How long a server may take to start and to end.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
)

// Start starts a server whose log goes into a folder, and waits until it answers a GET
// of ready. It ends with Stop, or when this program ends, however that happens.
func Start(ctx context.Context, c Command, folder, ready string) (*Process, error) {
	for path, text := range c.Files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p := &Process{log: filepath.Join(folder, "log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(c.Args[0], c.Args[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = folder, out, out
	p.cmd.Env = append(os.Environ(), c.Env...)
	// A group of its own, so that an interrupt of the terminal reaches this program
	// alone, which then ends the servers in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := p.wait(ctx, ready); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%s does not start: %w%s", filepath.Base(c.Args[0]), err, p.tail())
	}
	return p, nil
}

// wait waits for an answer to a GET, and then learns which processes there are.
func (p *Process) wait(ctx context.Context, ready string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ready, nil)
		if err != nil {
			return err
		}
		if resp, err := web.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				p.pids, err = tree(p.cmd.Process.Pid)
				return err
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %v", p.err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// tail is the end of the log.
func (p *Process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil || len(text) == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(string(text[max(0, len(text)-1000):]))
}

// Stop ends the server: gently, and after a while by force.
func (p *Process) Stop() error {
	select {
	case <-p.done:
		return fmt.Errorf("it had ended before: %v%s", p.err, p.tail())
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	// Children that are left, if any, are in its group.
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// CPU returns the processor time that the server has used so far, in steps of 10 ms.
func (p *Process) CPU() (time.Duration, error) { return usedBy(p.pids) }

// Memory returns what memory the server has now.
func (p *Process) Memory() (Memory, error) { return memoryOf(p.pids) }

// FreeAddress returns an address of loopback on which nobody listens now. Its port is below those
// that a system gives to connections, of which a comparison makes many.
func FreeAddress() (address string, err error) {
	var l net.Listener
	for range 100 {
		if l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20000+rand.IntN(10000))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}
