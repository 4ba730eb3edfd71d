package integration

import (
	"fmt"
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
