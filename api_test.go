package pullthrough_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/printer"
	"go/token"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the packages export into "+apiFile)

// apiFile has what the packages export, a line for each name.
const apiFile = "testdata/api.txt"

// TestAPI: a change of what the packages export is seen in a review, as a change of
// testdata/api.txt.
func TestAPI(t *testing.T) {
	got := exported(t)
	if *update {
		if err := os.WriteFile(apiFile, []byte(strings.Join(got, "\n")+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(apiFile)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	var changes []string
	for _, line := range want {
		if _, found := slices.BinarySearch(got, line); !found {
			changes = append(changes, "- "+line)
		}
	}
	for _, line := range got {
		if _, found := slices.BinarySearch(want, line); !found {
			changes = append(changes, "+ "+line)
		}
	}
	if len(changes) > 0 || !slices.Equal(got, want) {
		slices.SortFunc(changes, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
		t.Errorf("what the packages export has changed. If it should, run\n\n\tgo test . -run TestAPI -update\n\nand tell users in CHANGELOG.md.\n\n%s", strings.Join(changes, "\n"))
	}
}

// exported returns a sorted line for each exported name of the public packages.
func exported(t *testing.T) []string {
	fset, folders := sources(t, 0)
	var lines []string
	for folder, files := range folders {
		if folder == "." || files[0].Name.Name == "main" || slices.Contains(strings.Split(folder, "/"), "internal") || strings.HasPrefix(folder, "examples/") {
			continue
		}
		p, err := doc.NewFromFiles(fset, files, path.Join(module, folder))
		if err != nil {
			t.Fatal(err)
		}
		s := surface{folder: folder, fset: fset}
		s.values("const", p.Consts)
		s.values("var", p.Vars)
		s.funcs("", p.Funcs)
		for _, typ := range p.Types {
			s.typ(typ)
		}
		lines = append(lines, s.lines...)
	}
	slices.Sort(lines)
	return slices.Compact(lines) // what is declared for several systems
}

// surface gathers the lines of one package.
type surface struct {
	folder string
	fset   *token.FileSet
	lines  []string
}

func (s *surface) add(format string, args ...any) {
	s.lines = append(s.lines, s.folder+": "+strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// text is the source of an expression in one line.
func (s *surface) text(node ast.Expr) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, s.fset, node); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// values adds constants with their values and variables without.
func (s *surface) values(kind string, groups []*doc.Value) {
	for _, group := range groups {
		var typ ast.Expr
		for place, spec := range group.Decl.Specs {
			v := spec.(*ast.ValueSpec)
			if v.Type != nil || len(v.Values) > 0 {
				typ = v.Type
			}
			for i, name := range v.Names {
				if !name.IsExported() {
					continue
				}
				line := kind + " " + name.Name
				if typ != nil {
					line += " " + s.text(typ)
				}
				switch {
				case kind == "const" && len(v.Values) > i:
					line += " = " + s.text(v.Values[i])
				case kind == "const":
					line += fmt.Sprintf(" // %d in its group", place)
				}
				s.add("%s", line)
			}
		}
	}
}

// funcs adds functions, or the methods of a type.
func (s *surface) funcs(of string, all []*doc.Func) {
	for _, f := range all {
		signature := strings.TrimPrefix(s.text(f.Decl.Type), "func")
		if of == "" {
			s.add("func %s%s", f.Name, signature)
			continue
		}
		recv := of
		if strings.HasPrefix(f.Recv, "*") {
			recv = "*" + of
		}
		s.add("type %s, method (%s) %s%s", of, recv, f.Name, signature)
	}
}

// typ adds a type with its fields and methods, and what go/doc keeps with it.
func (s *surface) typ(t *doc.Type) {
	s.values("const", t.Consts)
	s.values("var", t.Vars)
	s.funcs("", t.Funcs)
	for _, spec := range t.Decl.Specs {
		spec := spec.(*ast.TypeSpec)
		switch typ := spec.Type.(type) {
		case *ast.StructType:
			s.add("type %s struct", t.Name)
			s.fields(t.Name, typ.Fields, false)
		case *ast.InterfaceType:
			s.add("type %s interface", t.Name)
			s.fields(t.Name, typ.Methods, true)
			if typ.Incomplete {
				s.add("type %s, with unexported methods", t.Name)
			}
		default:
			alias := ""
			if spec.Assign.IsValid() {
				alias = "= "
			}
			s.add("type %s %s%s", t.Name, alias, s.text(spec.Type))
		}
	}
	s.funcs(t.Name, t.Methods)
}

// fields adds what a struct or an interface has.
func (s *surface) fields(of string, list *ast.FieldList, iface bool) {
	for _, f := range list.List {
		tag := ""
		if f.Tag != nil {
			tag = " " + f.Tag.Value
		}
		if len(f.Names) == 0 {
			s.add("type %s, embeds %s%s", of, s.text(f.Type), tag)
		}
		for _, name := range f.Names {
			s.add("type %s, %s%s%s", of, name.Name, s.member(f.Type, iface), tag)
		}
	}
}

// member is what follows the name of a field, or that of an interface's method.
func (s *surface) member(typ ast.Expr, iface bool) string {
	if iface {
		return strings.TrimPrefix(s.text(typ), "func")
	}
	return " " + s.text(typ)
}
