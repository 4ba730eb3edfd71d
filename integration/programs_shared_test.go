package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"stasis/integration/harness"
)

// copiesLimit bounds how long what a program wrote may take to have its copies: with the
// full counts that is gigabytes.
const copiesLimit = 10 * time.Minute

// soakProgram is for tests of programs that only `make soak` installs: they are run where
// the program is here.
func soakProgram(t *testing.T, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	switch {
	case err == nil:
	case harness.Soak():
		t.Fatalf("%s is missing; `make soak` installs it", program)
	default:
		t.Skipf("%s is missing; `make soak` installs it", program)
	}
}

// onlyNodes mounts a vault again without its bodies: everything that is read from then on
// comes from the nodes.
func onlyNodes(t *testing.T, v *harness.Vault) {
	t.Helper()
	v.Wait(copiesLimit)
	v.Unmount()
	if err := os.RemoveAll(filepath.Join(v.State, "bodies")); err != nil {
		t.Fatal(err)
	}
	v.Start()
}

// checked has the vault verify every byte, and ends it.
func checked(t *testing.T, v *harness.Vault) {
	t.Helper()
	v.Wait(copiesLimit)
	if r := v.StasisIn(harness.Command{Limit: copiesLimit}, "check", v.Point, "--read"); r.Code != 0 {
		t.Error(r)
	}
	v.Unmount()
}

// byNobody begins a command that nobody runs.
var byNobody = []string{"setpriv", fmt.Sprintf("--reuid=%d", nobody), fmt.Sprintf("--regid=%d", nobody), "--clear-groups"}

// forOthers is a vault with two nodes that lets other users in.
func forOthers(t *testing.T) *harness.Vault {
	t.Helper()
	v := harness.NewVault(t)
	v.Flags = []string{"--allow-other"}
	v.Directories(2, filepath.Join(v.Base, "a"), filepath.Join(v.Base, "b"))
	v.Start()
	return v
}

// ownedByNobody makes a directory that belongs to nobody.
func ownedByNobody(t *testing.T, path string) string {
	t.Helper()
	harness.Mkdir(t, path)
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	return path
}
