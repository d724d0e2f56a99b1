package peer

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/internal/bench/proc"
)

// setting is that of the tests; addresses and folder are unlike each other.
func setting(folder string) Setting {
	return Setting{Program: "/bin/peer", Folder: folder, Address: "127.0.0.1:1111", Upstream: "127.0.0.1:2222", Catalog: "/catalog"}
}

// command returns the command of a peer.
func command(t *testing.T, name string, s Setting) proc.Command {
	t.Helper()
	i := slices.IndexFunc(All(), func(p Peer) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("there is no peer %q", name)
	}
	return All()[i].Command(s)
}

// text is everything that a command tells its server.
func text(c proc.Command) string {
	all := strings.Join(append(c.Args, c.Env...), " ")
	for path, file := range c.Files {
		all += "\n" + path + "\n" + file
	}
	return all
}

// TestCommands: each server listens where it must, asks the registry, and has all its
// files in its folder.
func TestCommands(t *testing.T) {
	for _, c := range []struct {
		name string
		want []string
	}{
		{Cache, []string{"serve-cache", "-listen 127.0.0.1:1111", "-upstream 127.0.0.1:2222", "-store /folder/store", "-freshness 0s"}},
		{Bare, []string{"serve-bare", "-listen 127.0.0.1:1111", "-catalog /catalog"}},
		{BareAsking, []string{"serve-bare", "-listen 127.0.0.1:1111", "-catalog /catalog", "-ask 127.0.0.1:2222"}},
		{Nginx, []string{"-c /folder/nginx.conf", "listen 127.0.0.1:1111 ", "server 127.0.0.1:2222;", "proxy_cache_path /folder/cache ", "pid /folder/pid;", "daemon off;", "access_log off;", "proxy_cache_lock on;"}},
		{Varnish, []string{"-n /folder/work", "-a 127.0.0.1:1111", "-f /folder/default.vcl", `.host = "127.0.0.1"; .port = "2222";`, "-F"}},
		{Distribution, []string{"serve /folder/registry.yml", `addr: "127.0.0.1:1111"`, `remoteurl: "http://127.0.0.1:2222"`, `rootdirectory: "/folder/data"`, "accesslog: {disabled: true}", "OTEL_TRACES_EXPORTER=none"}},
	} {
		got := command(t, c.name, setting("/folder"))
		if got.Args[0] != "/bin/peer" {
			t.Errorf("%s starts %s", c.name, got.Args[0])
		}
		for _, want := range c.want {
			if !strings.Contains(text(got), want) {
				t.Errorf("%s is not told %q:\n%s", c.name, want, text(got))
			}
		}
		if strings.Contains(text(got), "%!") {
			t.Errorf("%s: a config with a hole:\n%s", c.name, text(got))
		}
		for path := range got.Files {
			if filepath.Dir(path) != "/folder" {
				t.Errorf("%s writes %s", c.name, path)
			}
		}
	}
}

// TestWindow: only this cache is told to trust tags, and bare never asks but as its
// other self.
func TestWindow(t *testing.T) {
	s := setting("/folder")
	s.Window = true
	if got := text(command(t, Cache, s)); !strings.Contains(got, "-freshness 24h") {
		t.Errorf("in a window: %s", got)
	}
	if got := text(command(t, Bare, setting("/folder"))); strings.Contains(got, "-ask") {
		t.Errorf("bare asks: %s", got)
	}
	for _, p := range All() {
		if p.Window != (p.Name == Cache) {
			t.Errorf("%s: Window is %v", p.Name, p.Window)
		}
	}
}

// TestNginxUser: its workers stay those of root only if root starts it.
func TestNginxUser(t *testing.T) {
	s := setting("/folder")
	if got := text(command(t, Nginx, s)); strings.Contains(got, "user ") {
		t.Errorf("a user who is not root:\n%s", got)
	}
	s.Root = true
	if got := text(command(t, Nginx, s)); !strings.Contains(got, "\nuser root;\n") {
		t.Errorf("root:\n%s", got)
	}
}

// TestServersTakeTheirConfigs: those that are installed check what they are given.
func TestServersTakeTheirConfigs(t *testing.T) {
	for _, c := range []struct {
		name, tool string
		check      func(proc.Command) []string
	}{
		{Nginx, "nginx", func(c proc.Command) []string { return append(c.Args, "-t") }},
		{Varnish, "varnishd", func(c proc.Command) []string {
			return append(c.Args[:1:1], "-j", "none", "-C", "-f", c.Args[slices.Index(c.Args, "-f")+1])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := setting(t.TempDir())
			s.Root = os.Getuid() == 0
			if s.Program = Find("", c.tool); s.Program == "" {
				t.Skip(c.tool, "is not installed")
			}
			given := command(t, c.name, s)
			for path, file := range given.Files {
				if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			args := c.check(given)
			cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
			cmd.Dir = s.Folder
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%q: %v\n%s", args, err, out)
			}
		})
	}
}

// TestFind: the folder comes before PATH, and what is nowhere is nothing.
func TestFind(t *testing.T) {
	folder := t.TempDir()
	tool := filepath.Join(folder, "sh")
	if err := os.WriteFile(tool, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := Find(folder, "sh"); got != tool {
		t.Errorf("%q was found, want %q", got, tool)
	}
	if got := Find(t.TempDir(), "sh"); got == "" || got == tool {
		t.Errorf("%q was found on PATH", got)
	}
	if got := Find(folder, "no-such-tool"); got != "" {
		t.Errorf("%q was found", got)
	}
}
