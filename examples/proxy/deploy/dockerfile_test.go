package deploy

import (
	"bytes"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// stages parses the Dockerfile and fails at everything of which BuildKit warns.
func stages(t *testing.T) []instructions.Stage {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(read(t, "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("Dockerfile: %s", w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, text string, at []parser.Range) {
		t.Errorf("Dockerfile: %s: %s at %v", rule, text, at)
	}})
	found, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 {
		t.Fatalf("the Dockerfile has %d stages", len(found))
	}
	return found
}

// TestImageIsSmallAndUnprivileged: the image is made of what is copied into an empty base, and
// runs as a user that is not root.
func TestImageIsSmallAndUnprivileged(t *testing.T) {
	final := stages(t)[1]
	if final.BaseName != "${BASE}" || !strings.Contains(read(t, "Dockerfile"), "\nARG BASE=scratch\n") {
		t.Errorf("the base is %q", final.BaseName)
	}
	user := ""
	for _, c := range final.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.RunCommand:
			t.Errorf("%s: the base may have no shell", c)
		}
	}
	if user == "" || strings.HasPrefix(user, "0") || strings.Contains(user, "root") {
		t.Errorf("the user is %q", user)
	}
}

// TestImageRuns does what the Dockerfile says without an image: it copies the context as the
// list of ignored files leaves it, runs the commands of the build there, and starts the program
// that the image would have with the arguments that it would have.
func TestImageRuns(t *testing.T) {
	build, final := stages(t)[0], stages(t)[1]
	src, out, etc := filepath.Join(t.TempDir(), "src"), t.TempDir(), t.TempDir()
	copyContext(t, src)
	if err := os.WriteFile(filepath.Join(etc, "ca-certificates.crt"), []byte("certificates\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	moved := strings.NewReplacer("/out/", out+"/", "/etc/ssl/certs/", etc+"/")
	env := os.Environ()
	for _, c := range build.Commands {
		switch c := c.(type) {
		case *instructions.EnvCommand:
			for _, pair := range c.Env {
				env = append(env, pair.Key+"="+pair.Value)
			}
		case *instructions.RunCommand:
			cmd := exec.CommandContext(t.Context(), "sh", "-c", moved.Replace(strings.Join(c.CmdLine, " ")))
			cmd.Dir, cmd.Env = src, env
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", c, err, text)
			}
		}
	}
	image := map[string]string{} // what the image has, by path, and where it is here
	var command []string
	for _, c := range final.Commands {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			from := moved.Replace(c.SourcePaths[0])
			if _, err := os.Stat(from); err != nil {
				t.Errorf("%s: %v", c, err)
			}
			image[c.DestPath] = from
		case *instructions.EntrypointCommand:
			command = append(command, c.CmdLine...)
			wantNoShell(t, c.PrependShell, c)
		case *instructions.CmdCommand:
			command = append(command, c.CmdLine...)
			wantNoShell(t, c.PrependShell, c)
		}
	}
	if image[statePath] == "" || image["/etc/ssl/certs/ca-certificates.crt"] == "" {
		t.Errorf("the image has %v", image)
	}
	program := image[command[0]]
	wantStatic(t, program)
	if command[len(command)-1] != configPath {
		t.Errorf("the image runs %q", command)
	}
	c := move(t, read(t, "systemd/proxy.yaml"), statePath, credentialsPath)
	args := append(slices.Clone(command[1:len(command)-1]), c.file, "-check")
	if text, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil || !bytes.HasPrefix(text, []byte("ok: ")) {
		t.Errorf("%s %q: %v: %s", program, args, err, text)
	}
}

// wantNoShell fails if a command needs a shell, which the base may not have.
func wantNoShell(t *testing.T, shell bool, command instructions.Command) {
	t.Helper()
	if shell {
		t.Errorf("%s needs a shell; write it as a list", command)
	}
}

// copyContext copies the root of the repository, without what is ignored.
func copyContext(t *testing.T, to string) {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(read(t, "Dockerfile.dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join("..", "..", "..")
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, name)
		if err != nil || rel == "." || d.IsDir() {
			if err == nil && (rel == ".git" || rel == ".ci") {
				return fs.SkipDir
			}
			return err
		}
		skip, err := ignored.MatchesOrParentMatches(rel)
		if err != nil || skip {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(rel)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []string{"examples/proxy/main.go", "cache/cache.go"} {
		if _, err := os.Stat(filepath.Join(to, kept)); err != nil {
			t.Errorf("the context lacks a file: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(to, path.Join("internal", "bench"))); err == nil {
		t.Error("the context has internal/bench, which the program does not need")
	}
}

// wantStatic fails if a program needs a dynamic linker, which the base does not have.
func wantStatic(t *testing.T, program string) {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program is linked dynamically")
		}
	}
}
