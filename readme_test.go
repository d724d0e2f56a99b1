package pullthrough_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// readmeNames declares what the README's parts of programs use and do not make.
const readmeNames = `
var (
	ctx                         context.Context
	armID, tenant, hook, secret string
	check                       func(*http.Request, cache.Access) error
	myRegistry                  http.Handler
	rules                       *rule.Set
	dir                         *store.Dir
	far                         store.Store
	config                      *tls.Config
	err                         error
)
`

var (
	goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	coded   = regexp.MustCompile("`[&*]?([A-Za-z]+(?:\\.[A-Za-z]+){1,2})`")
	cells   = regexp.MustCompile(`(?m)^\| ([^|]*) \|`)
)

// TestReadmeCompiles: every Go program and part of one in README and GUIDE compiles.
func TestReadmeCompiles(t *testing.T) {
	var data []byte
	for _, document := range []string{"README.md", "GUIDE.md"} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, text...)
	}
	_, folders := sources(t, 0) // which has the test run again when a source changes
	blocks := goBlock.FindAllStringSubmatch(string(data), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d blocks of Go were found", len(blocks))
	}
	// The files exist for the go command alone, inside of the module.
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	temp, overlay, packages := t.TempDir(), map[string]string{}, []string{}
	for i, block := range blocks {
		name := "readme" + strconv.Itoa(i+1)
		file := filepath.Join(temp, name+".go")
		if err := os.WriteFile(file, []byte(program(t, block[1], folders)), 0o666); err != nil {
			t.Fatal(err)
		}
		overlay[filepath.Join(root, name, "block.go")] = file
		packages = append(packages, "./"+name)
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(list, text, 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", append([]string{"build", "-overlay", list}, packages...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// program makes a package of a block: as it is, or as the body of a function. It is no
// program, so that nothing is linked.
func program(t *testing.T, block string, folders map[string][]*ast.File) string {
	if strings.HasPrefix(block, "package main\n") {
		return strings.Replace(block, "package main", "package readme", 1)
	}
	body := "func _() {\n" + block + "\n"
	parsed, err := parser.ParseFile(token.NewFileSet(), "README.md", "package readme\n"+body+"}", 0)
	if err != nil {
		t.Fatalf("%v in\n%s", err, block)
	}
	for _, statement := range parsed.Decls[0].(*ast.FuncDecl).Body.List {
		if a, ok := statement.(*ast.AssignStmt); ok && a.Tok == token.DEFINE {
			for _, v := range a.Lhs {
				body += "_ = " + v.(*ast.Ident).Name + "\n"
			}
		}
	}
	body = readmeNames + body + "}\n"
	imports := ""
	all := []string{"context", "crypto/tls", "errors", "log/slog", "net/http", "time"}
	for folder := range folders {
		if folder != "." && !strings.Contains(folder, "internal") && !strings.HasPrefix(folder, "examples") {
			all = append(all, module+"/"+folder)
		}
	}
	for _, p := range all {
		if regexp.MustCompile(`\b` + path.Base(p) + `\.[A-Z]`).MatchString(body) {
			imports += "import " + strconv.Quote(p) + "\n"
		}
	}
	return "package readme\n" + imports + body
}

// TestGuideTellsEveryLimit: the table of limits has the fields of cache.Limits.
func TestGuideTellsEveryLimit(t *testing.T) {
	data, err := os.ReadFile("GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(data), "\n| limit | default |")
	table, _, _ = strings.Cut(table, "\n\n")
	var told, want []string
	for _, cell := range cells.FindAllStringSubmatch(table, -1) {
		for name := range strings.SplitSeq(strings.Trim(cell[1], "`"), "`, `") {
			told = append(told, name)
		}
	}
	for _, line := range exported(t) {
		if field, ok := strings.CutPrefix(line, "cache: type Limits, "); ok {
			want = append(want, strings.Fields(field)[0])
		}
	}
	slices.Sort(told)
	if told = slices.DeleteFunc(told, func(s string) bool { return strings.HasPrefix(s, "--") }); !slices.Equal(told, want) {
		t.Errorf("the table has\n%v, cache.Limits has\n%v", told, want)
	}
}

// TestDocumentsNameWhatExists: a name such as `cache.Guard`, `Cache.Delete` or
// `upstream.Host.Redirects` in a document is one that a package exports.
func TestDocumentsNameWhatExists(t *testing.T) {
	packages, types, names := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, line := range exported(t) {
		folder, what, _ := strings.Cut(line, ": ")
		kind, what, _ := strings.Cut(what, " ")
		name := regexp.MustCompile(`^\w+`).FindString(what)
		pkg := path.Base(folder)
		packages[pkg], names[pkg+"."+name] = true, true
		if kind != "type" {
			continue
		}
		types[name] = true
		if _, member, ok := strings.Cut(what, ", "); ok {
			member = strings.TrimPrefix(strings.TrimPrefix(member, "embeds "), "method ")
			member = strings.TrimPrefix(strings.TrimPrefix(member, "("+name+") "), "(*"+name+") ")
			member = regexp.MustCompile(`^\w+`).FindString(member)
			names[name+"."+member], names[pkg+"."+name+"."+member] = true, true
		}
	}
	for _, document := range []string{"README.md", "GUIDE.md", "SECURITY.md", "CONTRIBUTING.md"} {
		data, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range coded.FindAllStringSubmatch(string(data), -1) {
			first, _, _ := strings.Cut(found[1], ".")
			if (packages[first] || types[first]) && !names[found[1]] {
				t.Errorf("%s names %s, which does not exist", document, found[1])
			}
		}
	}
}
