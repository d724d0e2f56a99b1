package gate_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/gate"
)

// script is a command that runs a text of sh.
func script(text string, args ...string) *gate.Command {
	return &gate.Command{Args: append([]string{"sh", "-c", text, "gate"}, args...)}
}

var question = gate.Question{Rule: "hub", Source: "docker.io/library/alpine", Repository: "hub/library/alpine", Tag: "3.22", Digest: "sha256:1", MediaType: "m", Size: 7, Former: "sha256:0"}

func TestCommandAnswers(t *testing.T) {
	for name, row := range map[string]struct {
		command *gate.Command
		want    gate.Answer
		fails   string
	}{
		"admits":            {command: script("exit 0"), want: gate.Answer{Admitted: true}},
		"admits noisily":    {command: script("echo out; echo err >&2; exit 0"), want: gate.Answer{Admitted: true}},
		"refuses":           {command: script("echo out; echo 'CVE-1 is in it' >&2; echo more >&2; exit 3"), want: gate.Answer{Reason: "CVE-1 is in it"}},
		"says nothing":      {command: script("exit 3"), want: gate.Answer{Reason: "exit code 3"}},
		"empty lines first": {command: script("printf '\\n \\n\\033[31mred\\007 text\\n' >&2; exit 1"), want: gate.Answer{Reason: "[31mred text"}},
		"says much":         {command: script("head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1"), want: gate.Answer{Reason: strings.Repeat("x", 200)}},
		"writes much":       {command: script("head -c 10000000 /dev/zero; exit 0"), want: gate.Answer{Admitted: true}},
		"kills itself":      {command: script("kill -9 $$"), fails: "signal: killed"},
		"is not there":      {command: &gate.Command{Args: []string{"./nowhere"}}, fails: "no such file"},
		"is nothing":        {command: &gate.Command{}, fails: "no program"},
	} {
		got, err := row.command.Ask(t.Context(), question)
		if row.fails != "" {
			if err == nil || !strings.Contains(err.Error(), row.fails) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			continue
		}
		if err != nil || got != row.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, row.want)
		}
	}
}

// TestCommandSeesTheQuestion: on its standard input, and nothing of the environment that
// might be a credential.
func TestCommandSeesTheQuestion(t *testing.T) {
	t.Setenv("HUB_PASSWORD", "hunter2")
	file := filepath.Join(t.TempDir(), "seen")
	if a, err := script(`cat > "$1"; env > "$1.env"`, file).Ask(t.Context(), question); err != nil || !a.Admitted {
		t.Fatal(a, err)
	}
	data, err := os.ReadFile(file)
	var got gate.Question
	if err != nil || json.Unmarshal(data, &got) != nil || got != question {
		t.Errorf("%s, %v", data, err)
	}
	for _, key := range []string{"rule", "source", "repository", "tag", "digest", "mediaType", "size", "former"} {
		if !strings.Contains(string(data), `"`+key+`":`) {
			t.Errorf("no %s in %s", key, data)
		}
	}
	env, err := os.ReadFile(file + ".env")
	if err != nil || strings.Contains(string(env), "hunter2") || !strings.Contains(string(env), "PATH=") {
		t.Errorf("%s, %v", env, err)
	}
}

// TestCommandThatHangs is killed, with what it has started.
func TestCommandThatHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		for ctx.Err() == nil { // until it has started what it waits for
			if data, _ := os.ReadFile(file); strings.HasSuffix(string(data), "\n") {
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	_, err := script(`sleep 600 & echo $! > "$1"; wait`, file).Ask(ctx, question)
	if err == nil || !strings.Contains(err.Error(), "in time") {
		t.Error(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what the command has started lives on")
		}
	}
}

// alive reports whether a process runs. One that was killed and that nobody waits for does
// not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

func TestCommandCheck(t *testing.T) {
	for _, c := range []*gate.Command{{}, {Args: []string{"no-such-program-anywhere"}}, {Args: []string{"/dev/null"}}} {
		if err := c.Check(); err == nil || strings.Contains(err.Error(), "%!") {
			t.Errorf("%v: %v", c.Args, err)
		}
	}
	if err := script("exit 1").Check(); err != nil {
		t.Error(err)
	}
}
