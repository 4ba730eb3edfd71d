package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// A daemon that is stopped and does not answer: commands that only look say so in time,
// with its process id, and no command hangs on the mount.
func TestDaemonThatDoesNotAnswer(t *testing.T) {
	v := harness.NewVault(t)
	v.Start()
	harness.Write(t, "content\n", v.Point, "file")
	pid := v.PID()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) }) // it may have ended
	harness.Eventually(t, returnLimit, "it being stopped", func() (bool, string) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && bytes.Contains(text, []byte(") T ")), string(text)
	})
	r := v.Stasis("why", v.Path("file"))
	v.Refused(r, 1, fmt.Sprint("pid ", pid))
	if r.Took > 15*time.Second {
		t.Errorf("took %s to say so\n%v", r.Took, r)
	}
	if r := v.Stasis("list"); r.Code != 0 || r.Took > 5*time.Second {
		t.Errorf("the list asks no daemon\n%v", r)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := harness.Read(t, v.Path("file")); got != "content\n" {
		t.Errorf("reads %q", got)
	}
	v.Unmount()
}

// A node on a share whose server is gone answers nothing at all. Reads go elsewhere in
// time, writes don't wait for it, the commands say so, and it catches up when the server is
// back.
func TestNodeThatHangs(t *testing.T) {
	share := harness.NewVault(t)
	share.Start()
	v := harness.NewVault(t)
	// The share comes first: it is what is asked first.
	v.Directories(2, share.Path("store"), filepath.Join(v.Base, "b"))
	v.Start()
	number := harness.Seed(t)
	const size = 3 << 20
	for i := range uint64(3) {
		if err := harness.WriteFile(v.Path(fmt.Sprint("file-", i)), number+i, size, true); err != nil {
			t.Fatal(err)
		}
	}
	v.Wait(time.Minute)
	v.Unmount()
	if err := os.RemoveAll(filepath.Join(v.State, "bodies")); err != nil {
		t.Fatal(err)
	}
	v.Start()
	pid := share.PID()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) }) // it may have ended
	within := func(limit time.Duration, what string, do func()) {
		t.Helper()
		start := time.Now()
		do()
		if took := time.Since(start); took > limit {
			t.Errorf("%s took %s with a node that hangs, want at most %s", what, took, limit)
		}
	}
	for i := range uint64(3) {
		path := v.Path(fmt.Sprint("file-", i))
		within(readLimit, "a read", func() { harness.HasContent(t, path, number+i, size) })
	}
	within(readLimit, "a write", func() { harness.Write(t, "late\n", v.Point, "late") })
	within(readLimit, "a synced write", func() {
		if err := harness.WriteFile(v.Path("synced"), number, size, true); err != nil {
			t.Fatal(err)
		}
	})
	within(readLimit, "names", func() { names(t, v.Point) })
	eventuallyNode(t, v, "a", "unreachable")
	within(15*time.Second, "a status", func() { v.OK("status", v.Point) })
	within(15*time.Second, "a check", func() { v.OK("check", v.Point, "--read") })
	within(readLimit, "a wait for one copy", func() { v.OK("wait", v.Path("late"), "--copies", "1") })
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventuallyNode(t, v, "a", "online")
	v.Wait(returnLimit)
	eventuallyCopies(t, v, 2, "late")
	v.OK("check", v.Point, "--read")

	// With the server gone again the vault can be unmounted.
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	within(time.Minute, "an unmount", func() {
		v.Stasis("umount", v.Point)
		harness.Eventually(t, time.Minute, "the mount going away", func() (bool, string) { return !v.Mounted(), "it is mounted" })
	})
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	v.AwaitEnd()
	v.Start()
	eventuallyCopies(t, v, 2, "synced")
	v.OK("check", v.Point, "--read")
	v.Unmount()
	share.Unmount()
}
