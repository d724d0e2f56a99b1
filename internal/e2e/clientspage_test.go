package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// pageHost is the proxy's address in the pages of examples/proxy.
const pageHost = "127.0.0.1:5000"

// TestClientsPage does what CLIENTS.md says for each client: it writes the files and runs the
// commands. A section whose client is missing is skipped, in CI too unless the page says that
// it is run there.
func TestClientsPage(t *testing.T) {
	sections := readPage(t, "CLIENTS.md")
	config := sections[0].files["proxy.yaml"]
	prepare := map[string]func(*testing.T, *visit){
		"Logging in": withAccess,
		"containerd": withContainerd,
		"Kubernetes": withCRI,
		"docker":     withDocker,
		"podman":     withContainersStorage,
		"buildah":    withContainersStorage,
		"skopeo":     withRegistriesConf,
		"BuildKit":   withBuildKit,
		"crane":      nil,
		"oras":       nil,
		"regctl":     nil,
		"helm":       withChart,
		"notation":   withSignature,
	}
	hub := newHub(t)
	for _, s := range sections[1:] {
		if s.name == "Others" {
			continue // it says that nobody runs them
		}
		t.Run(s.name, func(t *testing.T) {
			ready, known := prepare[s.name]
			if !known {
				t.Fatal("nobody runs what this section says")
			}
			if from := regexp.MustCompile(`The file is \[\w+'s\]\(#(\w+)\)`).FindStringSubmatch(s.text); from != nil {
				s.files = sectionOf(t, sections, from[1]).files
			}
			v := newVisit(t, hub, s, config)
			if ready != nil {
				ready(t, v)
			}
			v.run(t)
		})
	}
}

// visit is one client's: what its section says, moved to folders and ports of the test.
type visit struct {
	section
	hub     *hub
	stack   *stack
	root    string // where the files are, whose paths are absolute in the page
	dir     string // where the commands run
	env     []string
	replace []string // old and new, in files and commands
	pulls   bool     // whether the commands pull the image of the hub
}

// newVisit writes the files of a section and starts the proxy.
func newVisit(t *testing.T, h *hub, s section, config string) *visit {
	t.Helper()
	v := &visit{section: s, hub: h, root: t.TempDir(), dir: t.TempDir(), pulls: true}
	program := strings.ToLower(s.name)
	switch s.name {
	case "Logging in":
		program = "crane"
	case "Kubernetes":
		program = "crictl"
	case "BuildKit":
		program = "buildctl"
	}
	v.need(t, program)
	for _, b := range block.FindAllStringSubmatch(s.text, -1) {
		if b[1] == "" && b[2] == "yaml" {
			config += b[3] // lines at the end of the file
		}
	}
	v.stack = h.serve(t, config)
	h.wire.take()
	v.replace = []string{pageHost, v.stack.host, " /etc/", " " + v.root + "/etc/", `"/etc/`, `"` + v.root + "/etc/"}
	v.env = append(os.Environ(), "HOME="+v.dir)
	for path, text := range s.files {
		write(t, v.root, path, v.moved(text))
	}
	return v
}

// need skips the test if a program is missing. If the page says that CI runs the section, the
// program must be there.
func (v *visit) need(t *testing.T, name string) string {
	t.Helper()
	if strings.Contains(v.text, "Run in CI: no.") {
		path, err := lookUp(name)
		if err != nil {
			t.Skip(err)
		}
		return path
	}
	return tool(t, name)
}

// moved puts folders and ports of the test in the place of those of the page.
func (v *visit) moved(text string) string { return strings.NewReplacer(v.replace...).Replace(text) }

// file is the path of a file of the section.
func (v *visit) file(path string) string { return filepath.Join(v.root, path) }

// run runs the commands.
func (v *visit) run(t *testing.T) {
	t.Helper()
	path := os.Getenv("E2E_BIN") + string(os.PathListSeparator) + os.Getenv("PATH")
	for _, line := range v.commands {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		cmd := exec.CommandContext(ctx, "sh", "-c", v.moved(line))
		cmd.Dir, cmd.Env = v.dir, append(slices.Clone(v.env), "PATH="+path)
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	if v.pulls {
		v.hub.wantPulled(t)
	} else if len(v.hub.wire.take()) == 0 {
		t.Error("nothing was asked at the hub")
	}
	v.stack.wantGentleEnd(t)
}

// TestClientsPageSaysWhatRuns: the versions that the page says CI runs are those that .ci/run
// installs.
func TestClientsPageSaysWhatRuns(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	says := regexp.MustCompile(`Run in CI: (?:[a-z ]+)?(\d+\.\d+\.\d+)\.\n`)
	n := 0
	for _, s := range readPage(t, "CLIENTS.md")[1:] {
		version := says.FindStringSubmatch(s.text)
		if version == nil {
			if s.name != "Others" && !strings.Contains(s.text, "Run in CI: ") {
				t.Errorf("%s: the page does not say whether CI runs it", s.name)
			}
			continue
		}
		n++
		if want := "\n" + s.name + "=v" + version[1] + "\n"; !strings.Contains(string(data), want) {
			t.Errorf(".ci/run has no line %q", want)
		}
	}
	if n < 4 {
		t.Errorf("CI runs %d of the sections", n)
	}
}
