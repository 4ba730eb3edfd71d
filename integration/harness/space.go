package harness

import (
	"bufio"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Space is a mount namespace: what is mounted in it nobody else sees, and it goes with
// the test. So a test may have its own /etc/fstab, its own /dev/fuse.
type Space struct {
	holder *exec.Cmd
	own    bool // its users are its own too
	uid    int  // who runs commands in it, if they are not its own
}

// NewSpace makes a mount namespace and sets it up by a shell script, which runs in it as
// root.
func NewSpace(t testing.TB, setup string) *Space {
	t.Helper()
	NeedRoot(t)
	return newSpace(t, setup)
}

// NewUserSpace is NewSpace for an ordinary user: in a user namespace of its own the caller
// is root, and only there. It skips the test where the system lets nobody have one.
func NewUserSpace(t testing.TB, setup string) *Space {
	t.Helper()
	if out, err := exec.Command("unshare", "-Urm", "true").CombinedOutput(); err != nil {
		t.Skipf("user namespaces are not to be had: %s", strings.TrimSpace(string(out)))
	}
	if unix.Access("/dev/fuse", unix.R_OK|unix.W_OK) != nil {
		t.Skip("only root may use /dev/fuse here")
	}
	s := newSpace(t, setup, "--user", "--map-root-user")
	s.own = true
	return s
}

func newSpace(t testing.TB, setup string, flags ...string) *Space {
	t.Helper()
	script := "set -e\n" + setup + "\necho ready\nexec cat >/dev/null\n"
	holder := exec.Command("unshare", append(append([]string{"--mount", "--propagation", "private"}, flags...), "sh", "-c", script)...)
	var stderr strings.Builder
	holder.Stderr = &stderr
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// It ends when nothing more can come, whatever its code then is.
		in.Close()
		_ = holder.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && err != io.EOF || line != "ready\n" {
		in.Close()
		_ = holder.Wait() // so that stderr is complete
		t.Fatalf("set up a mount namespace: %v %q\n%s", err, line, stderr.String())
	}
	return &Space{holder: holder}
}

// As is the same space with commands that run as another user.
func (s *Space) As(uid int) *Space {
	other := *s
	other.uid = uid
	return &other
}

// Enter is a command that runs in the space, in its root directory.
func (s *Space) Enter(c Command) Command {
	enter := []string{"nsenter", "--mount", "--target", strconv.Itoa(s.holder.Process.Pid)}
	switch {
	case s.own:
		enter = append(enter, "--user", "--preserve-credentials")
	case s.uid != 0:
		enter = append(enter, "--setuid", strconv.Itoa(s.uid), "--setgid", strconv.Itoa(s.uid))
	}
	c.Args = append(append(enter, "--"), c.Args...)
	return c
}
