package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stasis/integration/harness"
)

const goMain = `package main

import "example/list"

func main() {
	l := list.New()
	for i := range 4 {
		l.PushBack(i)
	}
	println(l.Len())
}
`

// Source, build cache and temporary files of Go lie in the vault. What is built runs, and
// after a mount without the bodies the cache is whole: nothing is built again, and the
// program is the same. With the full counts tests run there too, and this project is built
// to the same bytes as outside.
func TestGoBuild(t *testing.T) {
	v := twoNodes(t)
	src := harness.Mkdir(t, v.Path("example"))
	for _, name := range []string{"container/list", "text/template/parse"} {
		rsync(t, filepath.Join(goRoot(t), "src", name), harness.Mkdir(t, src, filepath.Base(name)))
	}
	harness.Write(t, "module example\n\ngo 1.25\n", src, "go.mod")
	harness.Write(t, goMain, src, "main.go")
	tool := goIn{t, v}
	tool.run(src, "build", "-trimpath", "-o", "first")
	if r := harness.Run(t, harness.Command{Args: []string{filepath.Join(src, "first")}}); r.Code != 0 || r.Stderr != "4\n" {
		t.Errorf("what was built does not do it: %v", r)
	}
	first := harness.Read(t, src, "first")
	if harness.Soak() {
		tool.run(src, "vet", "./...")
		tool.run(src, "test", "-count=1", "./...")
		tool.project()
	}
	onlyNodes(t, v)
	if r := tool.run(src, "build", "-trimpath", "-v", "-o", "second"); r.Stderr != "" {
		t.Errorf("built again, with everything in the cache: %s", r.Stderr)
	}
	if harness.Read(t, src, "second") != first || harness.Read(t, src, "first") != first {
		t.Error("the program is another one after a mount")
	}
	if harness.Soak() {
		tool.run(src, "test", "-count=1", "./...")
	}
	checked(t, v)
}

// goIn runs go with all its files in a vault.
type goIn struct {
	t *testing.T
	v *harness.Vault
}

func (g goIn) run(dir string, args ...string) harness.Result {
	g.t.Helper()
	return g.with([]string{"GOCACHE=" + g.v.Path("cache"), "GOTMPDIR=" + harness.Mkdir(g.t, g.v.Path("tmp")), "GOFLAGS=-mod=mod", "GOPROXY=off"}, dir, args...)
}

func (g goIn) with(env []string, dir string, args ...string) harness.Result {
	g.t.Helper()
	r := harness.Run(g.t, harness.Command{Dir: dir, Env: env, Limit: programLimit, Args: append([]string{"go"}, args...)})
	if r.Code != 0 {
		g.t.Fatal(r)
	}
	return r
}

// project builds this project from a copy in the vault, and outside.
func (g goIn) project() {
	g.t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		g.t.Fatal(err)
	}
	copied := harness.Mkdir(g.t, g.v.Path("project"))
	for _, name := range strings.Fields("cmd fs router store peer") {
		rsync(g.t, filepath.Join(root, name), harness.Mkdir(g.t, copied, name))
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		harness.Write(g.t, harness.Read(g.t, root, name), copied, name)
	}
	outside := harness.Mkdir(g.t, harness.Dir(g.t), "bin")
	build := []string{"build", "-trimpath", "-buildvcs=false", "-o"}
	g.with(nil, root, append(build, outside+"/", "./cmd/...")...)
	g.run(copied, append(build, g.v.Path("bin")+"/", "./cmd/...")...)
	programs, err := os.ReadDir(outside)
	if err != nil || len(programs) == 0 {
		g.t.Fatalf("nothing was built (%v)", err)
	}
	for _, p := range programs {
		if harness.Read(g.t, outside, p.Name()) != harness.Read(g.t, g.v.Path("bin"), p.Name()) {
			g.t.Errorf("%s was built otherwise in the vault", p.Name())
		}
	}
}
