package layers

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "stasis"

// root is the module's directory, seen from here.
const root = "../../.."

// below says what each part may import of the module, beside itself. Data flows one
// way: cmd -> fs -> router -> store. The tests of a part keep to it too.
var below = map[string][]string{
	"store":       {},
	"peer":        {"store"},
	"router":      {"store"},
	"fs":          {"router", "store"},
	"cmd":         {"fs", "router", "peer", "store"},
	"integration": {"cmd", "fs", "router", "peer", "store"},
}

// only names libraries that a single package may know.
var only = map[string]string{
	"github.com/hanwen/go-fuse/v2": "fs/mount",
	"go.etcd.io/bbolt":             "store/ledger",
	"github.com/spf13/cobra":       "cmd/stasis",
}

type source struct {
	dir     string // of the package, counted from the module
	path    string
	imports []string
	doc     bool
}

// sources parses every Go file of the module as far as its imports.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		s := source{dir: filepath.Dir(rel), path: rel, doc: f.Doc != nil && !strings.HasSuffix(path, "_test.go")}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func part(dir string) string {
	p, _, _ := strings.Cut(filepath.ToSlash(dir), "/")
	return p
}

// An import upward would make a lower part untestable alone, and the next one a circle.
func TestImportsPointDownward(t *testing.T) {
	for _, s := range sources(t) {
		from := part(s.dir)
		for _, i := range s.imports {
			to, ours := strings.CutPrefix(i, module+"/")
			if !ours {
				continue
			}
			if to := part(to); to != from && !slices.Contains(below[from], to) {
				t.Errorf("%s imports %s: %s may import %v", s.path, i, from, below[from])
			}
			if s.dir == "store" && !strings.HasSuffix(s.path, "_test.go") {
				t.Errorf("%s imports %s: package store imports nothing of ours", s.path, i)
			}
		}
	}
}

// What one package hides, the others can do without when it is exchanged.
func TestLibrariesStayWhereTheyAreHidden(t *testing.T) {
	for _, s := range sources(t) {
		for _, i := range s.imports {
			for library, owner := range only {
				if (i == library || strings.HasPrefix(i, library+"/")) && s.dir != owner && part(s.dir) != "integration" {
					t.Errorf("%s imports %s, which only %s may", s.path, i, owner)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	said := map[string]bool{}
	for _, s := range sources(t) {
		said[s.dir] = said[s.dir] || s.doc
	}
	for dir, ok := range said {
		if !ok {
			t.Errorf("package %s has no comment", dir)
		}
	}
}

func TestTopLevelIsAsAgreed(t *testing.T) {
	allowed := []string{"cmd", "fs", "store", "router", "peer", "integration", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE", "bin"}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong at the top of the repository", e.Name())
		}
	}
}
