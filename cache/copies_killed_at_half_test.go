package cache_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// The environment of a cache in a process of its own.
const (
	childFolder   = "PULLTHROUGH_TEST_CHILD_FOLDER"
	childUpstream = "PULLTHROUGH_TEST_CHILD_UPSTREAM"
	childHook     = "PULLTHROUGH_TEST_CHILD_HOOK" // where events go; empty: nowhere
)

// TestMain runs the tests, or a cache in a process of its own that can be
// killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := child(dir, os.Getenv(childUpstream), os.Getenv(childHook)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child serves until SIGTERM, or until its parent is gone.
func child(folder, host, hook string) (err error) {
	dir, err := store.OpenDir(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: host + "/team/*", Target: "app/*"})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c := &cache.Cache{Rules: rules, Store: dir, Upstream: &upstream.Client{Hosts: map[string]upstream.Host{host: {PlainHTTP: true}}}}
	outbox := &webhook.Outbox{Records: dir, FirstPause: 10 * time.Millisecond}
	if hook != "" {
		outbox.Receivers = []webhook.Receiver{{Name: "parent", Sink: &webhook.HTTP{URL: hook}}}
		c.Events = outbox
	}
	if err := errors.Join(outbox.Start(context.Background()), c.Start(context.Background())); err != nil {
		return err
	}
	go func() { // ends with its parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	server := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute}
	term, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		fmt.Println(l.Addr())
		_ = server.Serve(l)
	}()
	<-term.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), c.Shutdown(ctx), outbox.Shutdown(ctx))
}

// process is a cache in a process of its own.
type process struct {
	url string
	cmd *exec.Cmd
	in  io.Closer
}

// kill ends it at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.in.Close()
}

// end ends it as an operator would.
func (p *process) end() error {
	defer p.in.Close()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.cmd.Wait()
}

// start runs a cache in a process of its own.
func start(t *testing.T, dir string, up *upstreamtest.Registry, hook string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+dir, childUpstream+"="+up.Host(), childHook+"="+hook)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, in: in}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	p.url = "http://" + strings.TrimSpace(line)
	return p
}

// halfPace is how many bytes a second come while a process is killed at half.
const halfPace = 32 * mib

// vouchedFor is how many bytes of the beginning of a blob a dead process has left for the next.
func vouchedFor(t *testing.T, folder, host string, blob ocispec.Descriptor) int64 {
	t.Helper()
	dir, err := store.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	spool, err := dir.Spool(t.Context(), "app/api", store.Info{Descriptor: blob, Source: "http://" + host + "/team/api"})
	if err != nil {
		t.Fatal(err)
	}
	left := spool.(store.Checkpointer)
	defer func() { _ = left.Keep() }()
	return left.Progress().Front
}

// killedAtHalf starts a process, and kills it when half of a blob has come to its client. It
// returns how much of the blob the dead process vouches for. Where the disk was too slow for it
// to vouch for anything, the next process gets more time until it is killed.
func killedAtHalf(t *testing.T, folder string, up *upstreamtest.Registry, blob ocispec.Descriptor) int64 {
	t.Helper()
	for pause := time.Duration(0); ; pause = 2*pause + 100*time.Millisecond {
		up.Pace(halfPace)
		p := start(t, folder, up, "")
		resp, err := http.Get(p.url + "/v2/app/api/blobs/" + blob.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, blob.Size/2); err != nil {
			t.Fatal(err)
		}
		up.Pace(1)
		time.Sleep(pause) // it comes no further while the disk has its time
		p.kill()
		_ = resp.Body.Close()
		for up.Open() > 0 {
			time.Sleep(time.Millisecond) // polls a condition; the test's deadline is the failure
		}
		up.Pace(halfPace)
		kept := vouchedFor(t, folder, up.Host(), blob)
		if kept > 0 {
			return kept
		}
		if pause > time.Minute {
			t.Fatal("nothing is vouched for")
		}
	}
}

// What a process that is killed vouches for is not fetched again.
func TestKilledAtHalf(t *testing.T) {
	const size = 48 * mib
	up := upstreamtest.NewRegistry(t)
	layer := up.AddBlob("team/api", upstreamtest.Bytes(3, size))
	dir := t.TempDir()
	kept := killedAtHalf(t, dir, up, ocispec.Descriptor{Digest: layer, Size: size})
	sent := up.BlobBytes(layer)
	p := start(t, dir, up, "")
	resp, err := http.Get(p.url + "/v2/app/api/blobs/" + layer.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	v := layer.Verifier()
	n, err := io.Copy(v, resp.Body)
	if err != nil || n != size || !v.Verified() {
		t.Fatalf("after the restart: %d bytes, %v", n, err)
	}
	rest := up.BlobBytes(layer) - sent
	t.Logf("kept: %d of %d bytes that were sent; fetched then: %d", kept, sent, rest)
	if rest > size-kept+6*mib { // and what further connections bring in vain
		t.Errorf("%d bytes were kept, and %d fetched then", kept, rest)
	}
}
