package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// binDir is where the binaries lie in the run directory.
const binDir = "bin"

// peerProgram is the peer daemon.
const peerProgram = "stasis-peer"

// programs are the binaries that tests run.
var programs = []string{"stasis", "stasis-mount", peerProgram}

var build = sync.OnceValue(func() error {
	dir := filepath.Join(runDir, binDir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if built := os.Getenv("STASIS_BIN"); built != "" {
		// Copied, so that a process of ours can be told from another's.
		args := make([]string, 0, len(programs)+1)
		for _, p := range programs {
			args = append(args, filepath.Join(built, p))
		}
		return exec.Command("cp", append(args, dir)...).Run()
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	args := []string{"build", "-o", dir + "/"}
	for _, p := range programs {
		args = append(args, "stasis/cmd/"+p)
	}
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the binaries: %w\n%s", err, out)
	}
	return nil
})

// Binary is the path of a binary of this module, built once in a test process, or
// taken from the directory $STASIS_BIN.
func Binary(t testing.TB, name string) string {
	t.Helper()
	if runDir == "" {
		t.Fatal("this package needs a TestMain that calls harness.Main")
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(runDir, binDir, name)
}
