package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// probeVariable tells a test process to try in the directory it names what the system
// keeps from ordinary users.
const probeVariable = "STASIS_TEST_PROBE"

// stranger is the id of a user and a group that nobody in the tests is.
const stranger = 12345

// probe tries things and prints what came of each.
func probe(dir string) int {
	unix.Umask(0o022)
	at := func(name string) string { return filepath.Join(dir, name) }
	mode := func(name string) error {
		var st unix.Stat_t
		if err := unix.Lstat(at(name), &st); err != nil {
			return err
		}
		return fmt.Errorf("mode %o", st.Mode)
	}
	file := func(name string, perm uint32) error {
		return errors.Join(os.WriteFile(at(name), []byte("content"), 0o600), unix.Chmod(at(name), perm))
	}
	if err := file("file", 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	self, group := os.Getuid(), os.Getgid()
	value := make([]byte, 64)
	get := func(name string) error { _, err := unix.Getxattr(at("file"), name, value); return err }
	for _, p := range []struct {
		what string
		do   func() error
	}{
		{"character device", func() error { return unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
		{"block device", func() error { return unix.Mknod(at("sda"), unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0))) }},
		{"fifo", func() error { return unix.Mkfifo(at("fifo"), 0o600) }},
		{"socket", func() error { return unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0) }},
		{"whiteout", func() error { return unix.Mknod(at("whiteout"), unix.S_IFCHR, 0) }},
		{"set trusted", func() error { return unix.Setxattr(at("file"), "trusted.x", value, 0) }},
		{"get trusted", func() error { return get("trusted.x") }},
		{"remove trusted", func() error { return unix.Removexattr(at("file"), "trusted.x") }},
		{"set user", func() error { return unix.Setxattr(at("file"), "user.x", value, 0) }},
		{"get user", func() error { return get("user.x") }},
		{"give to a stranger", func() error { return unix.Chown(at("file"), stranger, -1) }},
		{"give to a strange group", func() error { return unix.Chown(at("file"), -1, stranger) }},
		{"give to itself", func() error { return unix.Chown(at("file"), self, group) }},
		{"set-user-id", func() error { return errors.Join(file("suid", 0o4755), mode("suid")) }},
		{"set-user-id after a write", func() error {
			f, err := os.OpenFile(at("suid"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.Write([]byte("x"))
			return errors.Join(err, f.Close(), mode("suid"))
		}},
		{"set-user-id after a truncate", func() error {
			return errors.Join(file("short", 0o6755), os.Truncate(at("short"), 1), mode("short"))
		}},
		{"sticky file", func() error { return errors.Join(file("sticky", 0o1755), mode("sticky")) }},
		{"in a set-group-id directory", func() error {
			err := errors.Join(unix.Mkdir(at("shared"), 0o755), unix.Chmod(at("shared"), 0o2755), unix.Mkdir(at("shared/in"), 0o755))
			return errors.Join(err, mode("shared/in"))
		}},
		{"write to what is not writable", func() error {
			err := file("fixed", 0o444)
			f, openErr := os.OpenFile(at("fixed"), os.O_WRONLY, 0)
			if openErr == nil {
				openErr = f.Close()
			}
			return errors.Join(err, openErr)
		}},
		{"read the unreadable", func() error {
			err := file("secret", 0)
			_, readErr := os.ReadFile(at("secret"))
			return errors.Join(err, readErr)
		}},
	} {
		fmt.Printf("%s: %s\n", p.what, cameOf(p.do()))
	}
	return 0
}

// cameOf is the number of an error where it has one, without the paths.
func cameOf(err error) string {
	var no syscall.Errno
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &no):
		return unix.ErrnoName(no)
	}
	return err.Error()
}

// sameForUser compares what an ordinary user may do in a vault with what a tmpfs lets the
// same user do, and holds both to what is wanted.
func sameForUser(t *testing.T, s *harness.Space, vault, other string, want map[string]string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Where it lies, others may not go.
	program := filepath.Join(harness.Dir(t), "probe")
	harness.Must(t, "cp", self, program)
	tried := func(dir string) string {
		r := harness.Run(t, s.Enter(harness.Command{Args: []string{program}, Env: []string{probeVariable + "=" + dir}}))
		if r.Code != 0 {
			t.Fatal(r)
		}
		return r.Stdout
	}
	got := tried(vault)
	if expected := tried(other); got != expected {
		t.Errorf("in a vault:\n%s\non tmpfs:\n%s", got, expected)
	}
	for what, outcome := range want {
		if line := what + ": " + outcome + "\n"; !strings.Contains(got, line) {
			t.Errorf("wanted is %sand came\n%s", line, got)
		}
	}
}
