package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestCommandsOfTheDocument runs every command of API.md, in order, in a folder that has what
// the document says.
func TestCommandsOfTheDocument(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl")
	}
	document, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(document), -1)
	if len(blocks) < 2 {
		t.Fatalf("API.md has %d blocks of commands", len(blocks))
	}
	up, dir := upstreamtest.NewRegistry(t), t.TempDir()
	up.AddImage("library/alpine", "3", upstreamtest.Layers(1, 1000))
	if err := os.WriteFile(filepath.Join(dir, "admin-token"), []byte(secretToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.Getenv(binaryVariable), filepath.Join(dir, "proxy")); err != nil {
		t.Fatal(err)
	}
	peers := freeAddress(t)
	p := startProxy(t, fleetOf("listen: "+peers, "self: "+peers, "peers: ["+peers+"]", fleetSecret, fleetPlain)+fmt.Sprintf("listen: 127.0.0.1:0\nstore: dir:%s\nadmin: 127.0.0.1:0\nadminAccess: {token: {file: %q}}\n"+
		"upstreams: [{host: %q, plainHTTP: true}]\nrules: [{name: hub, source: %s/*, target: hub/*}]\n",
		filepath.Join(dir, "store"), filepath.Join(dir, "admin-token"), up.Host(), up.Host()))
	address := adminOf(t, p)
	for _, block := range blocks {
		script := "set -e\n" + strings.ReplaceAll(block[1], "127.0.0.1:5001", address)
		cmd := exec.Command("sh", "-xc", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "PROXY_TOKEN=", "no_proxy=*")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
	}
}
