package deploy

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const unitName = "pullthrough.service"

// The paths that the unit and its configuration name.
const (
	binaryPath      = "/usr/local/bin/pullthrough-proxy"
	configPath      = "/etc/pullthrough/proxy.yaml"
	statePath       = "/var/lib/pullthrough"
	credentialsPath = "/run/credentials/" + unitName
)

// unit has the lines of the unit of systemd, by key.
type unit map[string][]string

// readUnit reads the unit.
func readUnit(t *testing.T) unit {
	t.Helper()
	u := unit{}
	for line := range strings.Lines(read(t, "systemd/"+unitName)) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

// TestUnitIsSound: systemd understands every line of the unit, and finds it well locked up.
func TestUnitIsSound(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "apt-get install -y systemd")
	// systemd looks for the program, which is not installed here.
	text := strings.ReplaceAll(read(t, "systemd/"+unitName), binaryPath, os.Getenv(binaryVariable))
	file := filepath.Join(t.TempDir(), unitName)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", file},
		{"security", "--offline=true", "--threshold=15", "--no-pager", file}, // 1.5 of 10
	} {
		out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput()
		if err != nil || strings.Contains(string(out), unitName+":") && args[0] == "verify" {
			t.Errorf("systemd-analyze %s: %v: %s", args[0], err, out)
		}
	}
}

// TestUserOfTheUnit: systemd-sysusers makes the user that the unit names.
func TestUserOfTheUnit(t *testing.T) {
	sysusers := tool(t, "systemd-sysusers", "apt-get install -y systemd")
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), sysusers, "--root="+root, "-") // a file would be looked up below root
	cmd.Stdin = strings.NewReader(read(t, "systemd/sysusers.conf"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	users, err := os.ReadFile(filepath.Join(root, "etc", "passwd"))
	if err != nil {
		t.Fatal(err)
	}
	if want := readUnit(t)["User"][0] + ":"; !strings.Contains("\n"+string(users), "\n"+want) {
		t.Errorf("no user %s was made: %s", want, users)
	}
}

// TestUnitAndItsFileAgree: the folders and secrets that the configuration names are those that
// systemd makes for the service.
func TestUnitAndItsFileAgree(t *testing.T) {
	u, text := readUnit(t), read(t, "systemd/proxy.yaml")
	if got := path.Join("/var/lib", u["StateDirectory"][0]); got != statePath {
		t.Errorf("StateDirectory is %s, want %s", got, statePath)
	}
	if !strings.Contains(text, "store: dir:"+statePath+"/") {
		t.Errorf("the store is not below %s:\n%s", statePath, text)
	}
	var loaded []string
	for _, line := range u["LoadCredential"] {
		name, _, _ := strings.Cut(line, ":")
		loaded = append(loaded, name)
	}
	var used []string
	for _, found := range regexp.MustCompile(`file: (/[^}\s]+)`).FindAllStringSubmatch(text, -1) {
		dir, name := path.Split(found[1])
		if path.Clean(dir) != credentialsPath {
			t.Errorf("%s is not in %s", found[1], credentialsPath)
		}
		used = append(used, name)
	}
	if !slices.Equal(loaded, used) || len(used) == 0 {
		t.Errorf("the unit loads %v, the configuration reads %v", loaded, used)
	}
}

// TestUnitsCommands: the commands of the unit start the proxy, check its file, have it read
// the file again, and end it.
func TestUnitsCommands(t *testing.T) {
	u, c := readUnit(t), move(t, read(t, "systemd/proxy.yaml"), statePath, credentialsPath)
	args := func(line string) []string {
		words := strings.Fields(line)
		if words[0] != binaryPath || !slices.Contains(words, configPath) {
			t.Fatalf("the command is %q", line)
		}
		words[slices.Index(words, configPath)] = c.file
		return words[1:]
	}
	reloads := u["ExecReload"]
	if len(u["ExecStart"]) != 1 || len(reloads) != 2 || reloads[1] != "/bin/kill -HUP $MAINPID" {
		t.Fatalf("the commands are %q and %q", u["ExecStart"], reloads)
	}
	p := c.start(t, args(u["ExecStart"][0])...)
	check := exec.CommandContext(t.Context(), os.Getenv(binaryVariable), args(reloads[0])...)
	if out, err := check.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "ok: ") {
		t.Errorf("%s: %v: %s", reloads[0], err, out)
	}
	if err := os.WriteFile(c.file, []byte(strings.Replace(c.text, "target: hub/*", "target: other/*", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.hangUp(t)
	p.terminate(t)
}
