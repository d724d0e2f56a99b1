package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/remote"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook/webhooktest"
)

// control is a proxy that runs, and those who act on it by commands.
type control struct {
	t     *testing.T
	p     *process
	up    *upstreamtest.Registry
	store string
	flags []string // that lead to the proxy
	said  bytes.Buffer
}

// newControl starts a proxy with an admin address and a token. At the end it looks for the token
// in all that was printed.
func newControl(t *testing.T, more ...string) *control {
	t.Helper()
	t.Setenv("PROXY_TOKEN", "")
	t.Setenv("PROXY_ADMIN", "")
	k := &control{t: t, up: upstreamtest.NewRegistry(t), store: filepath.Join(t.TempDir(), "store")}
	more = append([]string{"admin: 127.0.0.1:0", "adminAccess: {token: {value: " + secretToken + "}}", "store: dir:" + k.store}, more...)
	k.p = startProxy(t, file(k.up, more...))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(secretToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k.flags = []string{"-admin", adminOf(t, k.p), "-token-file", token}
	t.Cleanup(func() {
		if said := k.said.String() + k.p.out.String() + k.p.log.String(); strings.Contains(said, secretToken) {
			t.Errorf("the token was told:\n%s", said)
		}
	})
	return k
}

// run runs a command with more flags after its name.
func (k *control) run(flags []string, args ...string) (out, err string, code int) {
	k.t.Helper()
	words := 1
	if args[0] == "store" {
		words = 2
	}
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(k.t.Context(), 60*time.Second)
	defer cancel()
	code = run(ctx, nil, append(append(append([]string{}, args[:words]...), flags...), args[words:]...), &stdout, &stderr)
	k.said.Write(stdout.Bytes())
	k.said.Write(stderr.Bytes())
	return stdout.String(), stderr.String(), code
}

// want fails unless a command ends with a code and prints all of these words.
func (k *control) want(code int, words string, args ...string) string {
	k.t.Helper()
	out, err, got := k.run(k.flags, args...)
	if got != code {
		k.t.Errorf("proxy %q: exit code %d, want %d: %s%s", args, got, code, out, err)
	}
	for word := range strings.SplitSeq(words, "|") {
		if !strings.Contains(out+err, word) {
			k.t.Errorf("proxy %q: %q is not in\n%s%s", args, word, out, err)
		}
	}
	if code == exitOK && err != "" {
		k.t.Errorf("proxy %q: it complains: %s", args, err)
	}
	return out
}

// TestCommands: every command does what it says, with its exit code, and with -json prints JSON.
func TestCommands(t *testing.T) {
	hook := webhooktest.New(t)
	k := newControl(t, "webhooks: [{name: scanner, url: "+hook.URL()+"}]", "eviction: {maxBytes: 1GiB}")
	img := k.up.AddImage("team/app", "v1", upstreamtest.Layers(2, 1<<16))
	k.up.AddImage("team/app", "latest", upstreamtest.Layers(1, 1<<15))

	k.want(exitOK, "0 copies", "copies")
	k.want(exitOK, "0 held", "held")
	k.want(exitOK, "nothing complete is stored, so a pull streams", "explain", "local/team/app:v1")
	k.want(exitOK, "local/team/app:v1: done, 128.2 KiB, "+img.Digest.String()+"|local/team/app: done, 32.2 KiB", "prefetch", "local/team/app:v1", "local/team/app")
	k.want(exitOK, "a complete copy is here|digest  "+img.Digest.String(), "explain", "local/team/app@"+img.Digest.String())
	k.want(exitOK, "images copied                    2|copies now                       0", "stats")
	k.want(exitOK, "repositories  1|content ", "store", "size")
	k.want(exitOK, "REPOSITORY      RULE   BYTES\nlocal/team/app  local  ", "store", "ls")
	k.want(exitOK, "local/team/app  local", "store", "ls", "-largest")
	k.want(exitOK, "v1      "+img.Digest.String()+"|MANIFEST", "store", "ls", "local/team/app")
	k.want(exitOK, "local  "+k.up.Host()+"/*  local/*", "rules")
	k.want(exitOK, "checked, faults: 0", "check", "-rate", "-1")
	k.want(exitOK, "evicted: 0 images, 0 B", "evict")
	k.want(exitOK, "copies that are tried again: 0", "retry", "local/team/app")
	k.want(exitOK, "copies that are tried again: 0", "retry", "-all")

	k.p.until(t, "deliveries", func() bool { return len(hook.Deliveries()) >= 4 })
	// An event waits in the outbox until the receiver's answer has come back.
	k.p.until(t, "the answers to them", func() bool {
		out, _, _ := k.run(k.flags, "receivers")
		return strings.Contains(out, "scanner   0")
	})
	k.want(exitOK, "scanner   0", "receivers")
	event := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(k.want(exitOK, "push", "deliveries", "scanner", "-limit", "1"))
	k.want(exitOK, "with status 200", "ping", "scanner")
	before := len(hook.Deliveries())
	k.want(exitOK, "the next one", "resend", "scanner", event)
	k.p.until(t, "the event again", func() bool { return len(hook.Deliveries()) > before })

	k.want(exitOK, "deleted local/team/app:v1", "delete", "local/team/app:v1")
	k.want(remote.ExitNotThere, "NOT_FOUND: nothing of local/team/app:v1", "delete", "local/team/app:v1")
	k.want(exitOK, "deleted", "delete", "local/team/app@"+img.Digest.String())
	k.want(exitOK, "deleted local/team/app", "delete", "-all", "local/team/app")
	k.want(exitOK, "REPOSITORY", "store", "ls")

	for _, args := range [][]string{
		{"copies"}, {"held"}, {"explain", "local/team/app"}, {"stats"}, {"store", "size"}, {"store", "ls"}, {"rules"}, {"receivers"}, {"deliveries", "scanner"},
		{"prefetch", "local/team/app:v1"}, {"check"}, {"evict"}, {"retry", "-all"}, {"ping", "scanner"}, {"delete", "local/team/app:v1"},
	} {
		out := k.want(exitOK, "{", append(args, "-json")...)
		for line := range strings.Lines(out) {
			if !json.Valid([]byte(line)) {
				t.Errorf("proxy %q -json: %q is no JSON", args, line)
			}
		}
	}
}

// TestCommandsThatFail: each kind of failure has its exit code and a text that names it.
func TestCommandsThatFail(t *testing.T) {
	k := newControl(t, "webhooks: [{name: dead, url: http://127.0.0.1:1}]")
	k.want(exitUsage, "\"local/app:\" has no tag", "explain", "local/app:")
	k.want(exitUsage, "\"local/app@\" has no", "delete", "-all", "local/app@")
	k.want(exitUsage, "NAME_INVALID", "explain", "local//app")
	k.want(remote.ExitNotThere, "MANIFEST_UNKNOWN|does not exist", "prefetch", "local/app:v1")
	k.want(remote.ExitNotThere, "NOT_FOUND: no such receiver", "ping", "nobody")
	k.want(exitFault, "the ping failed", "ping", "dead")
	k.want(remote.ExitNotThere, "no such event", "resend", "dead", "42")
	k.want(remote.ExitNotThere, "no such receiver", "deliveries", "nobody")
	k.want(exitUsage, `state: "what" is none of`, "copies", "-state", "what")
	k.want(exitUsage, "usage: proxy explain", "explain")
	k.want(exitUsage, "usage: proxy prefetch", "prefetch")
	k.want(exitUsage, "usage: proxy stats", "stats", "more")
	k.want(exitUsage, "flag provided but not defined", "stats", "-token", secretToken[:3])
	k.want(exitUsage, "give REPOSITORY", "retry")
	k.want(exitUsage, "give REPOSITORY", "retry", "-all", "local/app")
	k.want(exitUsage, "give REPOSITORY:TAG", "delete", "local/app")
	k.want(exitUsage, "give REPOSITORY:TAG", "delete", "-all", "local/app:v1")

	address := k.flags[1]
	none, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	none.Close()
	wrong, text := filepath.Join(t.TempDir(), "wrong"), filepath.Join(t.TempDir(), "text")
	for file, content := range map[string]string{wrong: "another-token-0123456789", text: "two words and more than sixteen"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		flags []string
		code  int
		words string
	}{
		{[]string{"-admin", address}, remote.ExitRefused, "UNAUTHORIZED: this needs a token"},
		{[]string{"-admin", address, "-token-file", wrong}, remote.ExitRefused, "UNAUTHORIZED: the token is wrong"},
		{[]string{"-admin", address, "-token-file", text}, exitUsage, "a space"},
		{[]string{"-admin", address, "-token-file", "/nowhere"}, exitUsage, "/nowhere"},
		{[]string{"-admin", none.Addr().String()}, remote.ExitUnreachable, "the proxy cannot be reached"},
		{[]string{"-admin", "ftp://x"}, exitUsage, "is no admin address"},
		{[]string{"-admin", "http://user:pass@x"}, exitUsage, "is no admin address"},
		{[]string{"-admin", strings.TrimPrefix(k.p.url, "http://")}, exitFault, "is no admin address of a proxy"},
		{nil, exitUsage, "which proxy?"},
		{[]string{"-config", "/nowhere.yaml"}, exitUsage, "/nowhere.yaml: cannot be read"},
		{[]string{"-admin", address, "-cert", wrong, "-key", wrong}, exitUsage, "-cert and -key"},
		{[]string{"-admin", address, "-ca", wrong}, exitUsage, "no certificate in PEM form"},
	} {
		out, err, code := k.run(test.flags, "evict")
		if code != test.code || !strings.Contains(err, test.words) || out != "" {
			t.Errorf("proxy evict %q: exit code %d, want %d: %s%s", test.flags, code, test.code, out, err)
		}
	}
	k.p.signal(t)
	k.p.wantExit(t, exitOK)
	k.want(remote.ExitUnreachable, "cannot be reached", "stats")
}

// TestCommandsFindTheProxy: the address and the token come from flags, the environment, or the
// file of the proxy; a token of the file goes nowhere else.
func TestCommandsFindTheProxy(t *testing.T) {
	k := newControl(t)
	address := k.flags[1]
	config := configFile(t, "admin: "+address+"\nadminAccess: {token: {value: "+secretToken+"}}\n")
	evict := func(code int, flags ...string) {
		t.Helper()
		if out, err, got := k.run(flags, "evict"); got != code {
			t.Errorf("evict %q: exit code %d, want %d: %s%s", flags, got, code, out, err)
		}
	}
	evict(exitOK, "-config", config)
	evict(remote.ExitRefused, "-admin", address, "-config", config)
	t.Setenv("PROXY_ADMIN", address)
	evict(remote.ExitRefused)
	t.Setenv("PROXY_TOKEN", secretToken)
	evict(exitOK)
	evict(exitOK, "-admin", "http://"+address+"/")
	for _, args := range [][]string{{"store", "ls"}, {"store", "check"}, {"store", "size"}} {
		if out, err, code := k.run(nil, args...); code != exitOK {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, err)
		}
	}
	if _, err, code := k.run(nil, "store", "ls", k.store); code != exitFault || !strings.Contains(err, "stop the proxy first") {
		t.Errorf("a folder must stay a folder: exit code %d, %s", code, err)
	}
}

// TestHelp: help lists every command, and describes each.
func TestHelp(t *testing.T) {
	var out, stderr bytes.Buffer
	if code := run(t.Context(), nil, []string{"help"}, &out, &stderr); code != exitOK || stderr.Len() > 0 {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
	for _, c := range commands() {
		if !strings.Contains(out.String(), fmt.Sprintf("\n  %-11s ", c.name)) {
			t.Errorf("%s is not in\n%s", c.name, &out)
		}
		var one bytes.Buffer
		code := run(t.Context(), nil, append([]string{"help"}, strings.Fields(c.name)...), &one, &stderr)
		if code != exitOK && c.name != "store" || !strings.Contains(one.String(), "usage: proxy ") {
			t.Errorf("help %s: exit code %d, %s", c.name, code, &one)
		}
	}
	for _, args := range [][]string{{"nonsense"}, {"help", "nonsense"}} {
		stderr.Reset()
		if code := run(t.Context(), nil, args, &out, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "nonsense") {
			t.Errorf("%q: exit code %d, %s", args, code, &stderr)
		}
	}
}
