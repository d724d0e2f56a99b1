package cache_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

const childFolder = "PULLTHROUGH_TEST_CHILD_FOLDER"

// TestMain runs the tests, or a cache in a process of its own that can be
// killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := child(dir, os.Getenv("PULLTHROUGH_TEST_CHILD_UPSTREAM")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(folder, host string) error {
	dir, err := store.OpenDir(folder)
	if err != nil {
		return err
	}
	rules, err := rule.NewSet(rule.Rule{Name: "team", Source: host + "/team/*", Target: "app/*"})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	c := &cache.Cache{Rules: rules, Store: dir, Upstream: &upstream.Client{Hosts: map[string]upstream.Host{host: {PlainHTTP: true}}}}
	go func() { // ends with its parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(l, c)
}

// start runs a cache in a process of its own.
func start(t *testing.T, dir string, up *upstreamtest.Registry) (url string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+dir, "PULLTHROUGH_TEST_CHILD_UPSTREAM="+up.Host())
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
	kill = func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = in.Close() }
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(line), kill
}

func TestKilledAtHalf(t *testing.T) {
	const size = 48 * mib
	up := upstreamtest.NewRegistry(t)
	up.Pace(32 * mib)
	layer := up.AddBlob("team/api", upstreamtest.Bytes(3, size))
	dir := t.TempDir()
	url, kill := start(t, dir, up)
	path := "/v2/app/api/blobs/" + layer.String()
	resp, err := http.Get(url + path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, size/2); err != nil {
		t.Fatal(err)
	}
	kill()
	_ = resp.Body.Close()
	url, _ = start(t, dir, up)
	resp, err = http.Get(url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	v := layer.Verifier()
	n, err := io.Copy(v, resp.Body)
	if err != nil || n != size || !v.Verified() {
		t.Fatalf("after the restart: %d bytes, %v", n, err)
	}
	again := up.BlobBytes(layer) - size
	t.Logf("fetched again: %d bytes", again)
	if again > 8*mib+6*mib { // what the last checkpoint does not vouch for, and what was on its way
		t.Errorf("%d bytes were fetched again", again)
	}
}
