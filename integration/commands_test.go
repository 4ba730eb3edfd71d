package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

// A vault that is not mounted answers for itself, and can be cared for.
func TestCommandsWithoutMount(t *testing.T) {
	v := twoNodes(t)
	harness.Write(t, "content\n", v.Point, "file")
	v.Wait(time.Minute)
	v.Unmount()
	for _, args := range [][]string{
		{"status", v.State, "--exit-code"}, {"check", v.State}, {"check", v.State, "--read"}, {"node", "list", v.State},
		{"find", v.State, "--state", "open,pending,short,unplaced"}, {"backup", v.State, filepath.Join(v.Base, "backup")},
		{"node", "add", v.State, "c", "directory", filepath.Join(v.Base, "c")},
	} {
		v.OK(args...)
	}
	if got := len(v.Status().Nodes); got != 3 {
		t.Errorf("%d nodes after one was added to a vault that is not mounted", got)
	}
	exported := v.OK("key", "export", v.State)
	if !strings.Contains(harness.Read(t, v.State, "key"), strings.TrimSpace(exported)) {
		t.Errorf("the key exported is not the one in the state directory")
	}
	v.OK("node", "remove", v.State, "b", "--force")
	v.Start()
	eventuallyCopies(t, v, 2, "file")
	if got := v.Xattr("nodes", "file"); got != "a,c" {
		t.Errorf("after b was removed the file is on %q", got)
	}
	v.OK("check", v.Point, "--read")
	if strings.Contains(v.Log(), strings.TrimSpace(exported)) {
		t.Error("the key is in the log")
	}
	v.Unmount()
}

// The help names what there is and nothing that is still to come, and each command has
// help of its own.
func TestHelp(t *testing.T) {
	v := harness.NewVault(t)
	help := v.OK("--help")
	for _, command := range []string{"status", "list", "find", "why", "wait", "check", "umount", "node", "peer", "policy", "pause", "resume", "key", "backup", "restore", "completion", "version"} {
		if !strings.Contains(help, "\n  "+command) {
			t.Errorf("the help lacks %s:\n%s", command, help)
		}
		if text := v.OK(command, "--help"); !strings.Contains(text, "Usage: stasis "+command) {
			t.Errorf("%s --help says %s", command, text)
		}
	}
	for _, later := range []string{"drain", "replace", "rebalance", "scrub", "recover"} {
		if strings.Contains(help+v.OK("node", "--help"), "\n  "+later+" ") {
			t.Errorf("the help names %s, which is not built", later)
		}
		v.Fails(2, []string{later}, later)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := filepath.Join(v.Base, shell)
		harness.Write(t, v.OK("completion", shell), script)
		if shell == "bash" {
			harness.Must(t, "bash", "-n", script)
		}
	}
	if got := v.OK("version"); !strings.HasPrefix(got, "stasis ") {
		t.Errorf("version says %q", got)
	}
	for _, flag := range []string{"--help", "--version"} {
		r := harness.Run(t, harness.Command{Args: []string{harness.Binary(t, "stasis-mount"), flag}, Env: v.Env})
		if r.Code != 0 || !strings.Contains(r.Stdout, "stasis-mount") {
			t.Errorf("%v", r)
		}
	}
	if r := v.Stasis(); r.Code != 0 || r.Stdout != help {
		t.Errorf("`stasis` alone should print the help\n%v", r)
	}
}

// Everything a vault is made of may be moved together, and the vault goes on.
func TestMovedStateDirectory(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	harness.Write(t, "content\n", v.Point, "file")
	v.Wait(time.Minute)
	v.Unmount()
	moved := filepath.Join(v.Base, "moved")
	if err := os.Rename(v.State, moved); err != nil {
		t.Fatal(err)
	}
	v.State = moved
	v.Start()
	if got := harness.Read(t, v.Path("file")); got != "content\n" {
		t.Errorf("reads %q", got)
	}
	v.OK("check", v.Point, "--read")
	v.Unmount()
}
