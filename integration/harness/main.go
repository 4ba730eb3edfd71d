package harness

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// janitorVariable tells a process that it is the janitor of the run directory it names.
const janitorVariable = "STASIS_TEST_JANITOR"

// parallel is how many tests run at a time of those that say that they may.
const parallel = 5

// runDir is the run directory, "" before Main.
var runDir string

// Main is the TestMain of a package that uses this one: it makes the run directory, runs
// the tests, and clears and reports what they left.
func Main(m *testing.M) {
	if dir := os.Getenv(janitorVariable); dir != "" {
		os.Exit(beJanitor(dir))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := require(); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "stasis-test-")
	if err == nil {
		runDir, err = filepath.EvalSymlinks(dir)
	}
	if err == nil {
		err = os.Chmod(runDir, 0o755) // other users pass through to their mounts
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration: make the run directory:", err)
		return 1
	}
	dismiss, err := callJanitor(runDir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration: start the janitor:", err)
		return 1
	}
	// What runs in parallel waits most of its time. A flag of the person's comes later, and counts.
	if err := flag.Set("test.parallel", strconv.Itoa(parallel)); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	fmt.Printf("STASIS_SEED=%d\n", seed)
	code := m.Run()
	left := sweep(runDir)
	dismiss()
	for _, l := range left {
		fmt.Println("integration: a test left", l)
	}
	if len(left) > 0 && code == 0 {
		code = 1
	}
	return code
}

// require says what is missing for these tests to mean anything.
func require() error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return errors.New("these tests mount filesystems and /dev/fuse is missing: `modprobe fuse`, or give the container `--device /dev/fuse --cap-add SYS_ADMIN`")
	}
	if os.Getenv("CI") != "" && os.Geteuid() != 0 {
		return errors.New("these tests set up loop devices; run them as root")
	}
	for _, program := range []string{"rsync", "fusermount3"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing; `make test` installs it", program)
		}
	}
	return nil
}

// NeedRoot skips a test that sets up filesystems, where it may not. Main fails instead
// where tests run unattended.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to set up filesystems of its own")
	}
}

// callJanitor starts a process that sweeps the run directory when this one is gone.
func callJanitor(dir string) (dismiss func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), janitorVariable+"="+dir)
	cmd.Stdin = r
	cmd.Dir = "/"
	// In a group of its own: ^C at a terminal is not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r.Close()
	return func() {
		w.Close()
		// What it found is what sweep found just before.
		_ = cmd.Wait()
	}, nil
}

func beJanitor(dir string) int {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return 1
	}
	sweep(dir)
	return 0
}
