package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// adminHost is the proxy's admin address in the pages of examples/proxy.
const adminHost = "127.0.0.1:5001"

// TestProxyReadme does what the README of examples/proxy says to somebody who begins: it builds
// the proxy, writes the file, and runs every command in the order of the page, with Docker Hub
// played by a registry on this machine.
func TestProxyReadme(t *testing.T) {
	for _, program := range []string{"crane", "curl"} {
		tool(t, program)
	}
	s := sectionOf(t, readPage(t, "README.md"), "Five minutes")
	hub, home := newHub(t), t.TempDir()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	move := strings.NewReplacer(pageHost, freeAddress(t), adminHost, freeAddress(t),
		"git clone https://github.com/pullthrough/pullthrough", "ln -s "+root+" pullthrough")
	write(t, home, "proxy.yaml", move.Replace(s.files["proxy.yaml"]))
	script := move.Replace(strings.Join(s.commands, "\n"))
	if strings.Contains(script, "git clone") || !strings.Contains(script, "ln -s") {
		t.Fatalf("the page clones something else:\n%s", script)
	}
	cmd := exec.Command("sh", "-e", "-c", script)
	cmd.Dir = home
	cmd.Env = append(append(os.Environ(), hub.env...), "HOME="+home, "GOFLAGS=-buildvcs=false",
		"PATH="+os.Getenv("E2E_BIN")+":"+os.Getenv("PATH"),
		"GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"))
	out, err := runGroup(t, cmd)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// What SIGHUP does is not looked for: SIGTERM follows at once, and may come first.
	for _, words := range []string{
		"ok: 1 rule", "proxy: listening on http://", "\nok\n", "ache-Status: pullthrough",
		"hub/library/alpine", alpineTag, "checked, faults: 0",
	} {
		if !strings.Contains(out, words) {
			t.Errorf("the commands did not print %q:\n%s", words, out)
		}
	}
	for _, name := range []string{"alpine.tar", "again.tar"} {
		if info, err := os.Stat(filepath.Join(home, name)); err != nil || info.Size() == 0 {
			t.Errorf("no image: %v", err)
		}
	}
	hub.wantPulled(t)
}

// runGroup runs a command, and ends what it left running in the background. It returns what all
// of them printed.
func runGroup(t *testing.T, cmd *exec.Cmd) (string, error) {
	t.Helper()
	// A file, since a pipe is open as long as one of them runs.
	printed, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = printed, printed, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // an error means that none is left
	late := time.AfterFunc(10*time.Minute, kill)
	err = cmd.Wait()
	late.Stop()
	kill()
	out, readErr := os.ReadFile(printed.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(out), err
}

// goEnv asks the go command for a variable.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(command(t, "go", "env", name))
}

// TestProxyReadmeTellsTrouble: crane prints what the README says for each trouble.
func TestProxyReadmeTellsTrouble(t *testing.T) {
	crane := tool(t, "crane")
	text := sectionOf(t, readPage(t, "README.md"), "What clients print").text
	hub := newHub(t)
	refused := http.NewServeMux()
	refused.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		switch user, _, ok := r.BasicAuth(); {
		case strings.Contains(r.URL.Path, "/limited/"):
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
		case ok && user == "alice", !ok:
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	server := httptest.NewServer(refused)
	t.Cleanup(server.Close)
	host, dead := strings.TrimPrefix(server.URL, "http://"), freeAddress(t)
	s := hub.serve(t, fmt.Sprintf(`listen: %s
store: dir:images
rules:
  - {name: docker-hub, source: docker.io/*, target: hub/*}
  - {name: private, source: %[2]s/private/app, target: private/app}
  - {name: login, source: %[2]s/login/app, target: login/app, credentials: alice}
  - {name: dead, source: %[3]s/app, target: dead/app}
  - {name: limited, source: %[2]s/limited/app, target: limited/app}
credentials:
  - {name: alice, loginServer: '%[2]s', username: {value: alice}, password: {value: wrong}}
upstreams:
  - {host: '%[2]s', plainHTTP: true}
  - {host: '%[3]s', plainHTTP: true}
`, pageHost, host, dead))
	names := strings.NewReplacer("private.example.com/app", host+"/private/app", "login.example.com/app", host+"/login/app",
		"dead.example.com/app", dead+"/app", "limited.example.com/app", host+"/limited/app")
	asks := map[string][]string{
		"nosuch/app":  {"manifest", s.host + "/nosuch/app:v1"},
		"alpine:nope": {"manifest", s.host + "/hub/library/alpine:nope"},
		"private.exa": {"manifest", s.host + "/private/app:v1"},
		"login.examp": {"manifest", s.host + "/login/app:v1"},
		"dead.exampl": {"manifest", s.host + "/dead/app:v1"},
		"limited.exa": {"manifest", s.host + "/limited/app:v1"},
		"be written ": {"copy", hub.registry + "/" + alpine + ":" + alpineTag, s.host + "/hub/library/alpine:x"},
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		want := names.Replace(row[1])
		asked := false
		for part, args := range asks {
			if !strings.Contains(row[1], part) {
				continue
			}
			asked = true
			delete(asks, part)
			// crane asks some things more than once, and the wait gets shorter.
			pattern := strings.Replace(regexp.QuoteMeta(want), "in 30 s", `in (30|2\d) s`, 1)
			_, err := try(t, crane, args...)
			if err == nil || !regexp.MustCompile(pattern).MatchString(err.Error()) {
				t.Errorf("crane %q: %v, want %q", args, err, want)
			}
		}
		if !asked && strings.Contains(row[1], "'") {
			t.Errorf("nobody tries %q", row[1])
		}
	}
	if len(asks) > 0 {
		t.Errorf("the page does not say %v", asks)
	}
	s.wantGentleEnd(t)
}
