package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stasis/integration/harness"
)

// A file manager works in a vault as on a disk. Nautilus, Thunar and their kin all reach
// files through GIO, whose command this uses: it must offer and find the trash at the top of
// the mount, save over a file, show the vault in the side pane and eject it there, and leave
// nothing behind that the person did not make.
func TestFileManager(t *testing.T) {
	if _, err := exec.LookPath("gio"); err != nil {
		if harness.Soak() {
			t.Fatal("gio is missing: install libglib2.0-bin")
		}
		t.Skip("gio is missing; it is in the package libglib2.0-bin")
	}
	v := harness.NewVault(t)
	home := filepath.Join(v.Base, "home")
	v.Point = harness.Mkdir(t, home, "vault") // mounts below the home directory are shown
	v.Start()
	gio := func(args ...string) string {
		t.Helper()
		// Without a session bus: what is tested is the code in each program, and the daemons
		// of a desktop would watch every other mount of this machine.
		env := append([]string{"GIO_USE_VFS=local", "GIO_USE_VOLUME_MONITOR=unix", "DBUS_SESSION_BUS_ADDRESS=disabled:"}, v.Env...)
		r := harness.Run(t, harness.Command{Args: append([]string{"gio"}, args...), Env: env, Dir: v.Base})
		if r.Code != 0 {
			t.Fatal(r)
		}
		return r.Stdout
	}
	says := func(what, out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%s says nothing about %q:\n%s", what, w, out)
			}
		}
	}
	says("the list of mounts", gio("mount", "-l"), "file://"+v.Point)
	says("the filesystem", gio("info", "-f", v.Point), "filesystem::remote: FALSE")

	const size = 300_000
	number := harness.Seed(t)
	outside := filepath.Join(v.Base, "picture")
	if err := harness.WriteFile(outside, number, size, false); err != nil {
		t.Fatal(err)
	}
	gio("mkdir", v.Path("holiday"))
	gio("copy", "-p", outside, v.Path("holiday", "copied"))
	gio("rename", v.Path("holiday", "copied"), "a name with spaces, ümläüt")
	gio("move", v.Path("holiday", "a name with spaces, ümläüt"), v.Path("picture"))
	harness.HasContent(t, v.Path("picture"), number, size)
	for _, text := range []string{"first\n", "second\n"} { // as an editor saves: a temporary file, renamed
		r := harness.Run(t, harness.Command{Args: []string{"gio", "save", v.Path("notes")}, Env: v.Env, Stdin: text})
		if got := harness.Read(t, v.Path("notes")); r.Code != 0 || got != text {
			t.Fatalf("saved %q, reads %q\n%v", text, got, r)
		}
	}
	says("a file's information", gio("info", v.Path("picture")), "access::can-trash: TRUE", "access::can-rename: TRUE", "access::can-delete: TRUE")

	// The trash of a mount lies at its top: what is trashed is renamed, never copied.
	trash := v.Path(fmt.Sprintf(".Trash-%d", os.Geteuid()))
	before, err := os.Stat(v.Path("picture"))
	if err != nil {
		t.Fatal(err)
	}
	gio("copy", outside, v.Path("holiday", "picture"))
	gio("trash", v.Path("picture"))
	gio("trash", v.Path("holiday"))
	if got := names(t, v.Point); !slices.Equal(got, []string{filepath.Base(trash), "notes"}) {
		t.Errorf("with the rest in the trash the vault lists %q", got)
	}
	after, err := os.Stat(filepath.Join(trash, "files", "picture"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("what was trashed is another file: %v", err)
	}
	says("the trash", harness.Read(t, trash, "info", "picture.trashinfo"), "Path=picture\n")
	says("the trash", harness.Read(t, trash, "info", "holiday.trashinfo"), "Path=holiday\n")
	v.Wait(time.Minute)

	// What is in the trash is kept, and restored from there after a remount as before it.
	v.Unmount()
	v.Start()
	gio("move", filepath.Join(trash, "files", "picture"), v.Path("picture"))
	gio("move", filepath.Join(trash, "files", "holiday"), v.Path("holiday"))
	harness.HasContent(t, v.Path("picture"), number, size)
	harness.HasContent(t, v.Path("holiday", "picture"), number, size)
	if got := names(t, v.Point); !slices.Equal(got, []string{filepath.Base(trash), "holiday", "notes", "picture"}) {
		t.Errorf("after all of it the vault lists %q", got)
	}
	v.Wait(time.Minute)
	v.OK("check", v.Point, "--read")
	gio("mount", "-u", v.Point) // the eject button
	v.AwaitEnd()
}
