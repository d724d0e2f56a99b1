package pullthrough_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// module is the path of the root module.
const module = "github.com/pullthrough/pullthrough"

// sources parses the files of the root module that are no tests, by folder: for every
// system and without comments. The folders of nested modules are left out.
func sources(t *testing.T, mode parser.Mode) (*token.FileSet, map[string][]*ast.File) {
	fset, folders := token.NewFileSet(), map[string][]*ast.File{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name == ".":
			return nil
		case d.IsDir():
			_, err := os.Stat(filepath.Join(name, "go.mod"))
			if err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(fset, name, nil, mode)
		folder := path.Dir(filepath.ToSlash(name))
		folders[folder] = append(folders[folder], file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fset, folders
}
