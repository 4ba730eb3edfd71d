package statedir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"stasis/cmd/internal/control"
	"stasis/cmd/internal/mounts"
	"stasis/store"
)

// dyingVariable makes the test binary a process like one that was killed and is not gone yet:
// it has the state directory that the variable names and its socket, answers nothing, and is
// gone a moment later.
const dyingVariable = "STASIS_TEST_DYING"

// dyingTime is how long it takes to end.
const dyingTime = 2 * time.Second

func TestMain(m *testing.M) {
	state := os.Getenv(dyingVariable)
	if state == "" {
		os.Exit(m.Run())
	}
	if _, err := tryLock(state); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if _, err := net.Listen("unix", filepath.Join(state, control.SocketName)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	time.Sleep(dyingTime)
	os.Exit(0) // the socket's file stays, as after a kill
}

// dying starts such a process, which is stopped if it is to be.
func dying(t *testing.T, state string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), dyingVariable+"="+state)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // its outcome is no matter
	})
	line := make([]byte, 6)
	if _, err := out.Read(line); err != nil || string(line) != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

// socketDir is a directory with a path that an address of a socket has room for.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "stasis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A process that has the state directory and answers nothing is waited for: it may be ending.
func TestDyingProcessIsWaitedFor(t *testing.T) {
	state := socketDir(t)
	dying(t, state)
	if _, err := Serving(t.Context(), state); !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("beside a process that ends: %v", err)
	}
	dying(t, socketDirAgain(t, state))
	f, err := Lock(t.Context(), state)
	if err != nil {
		t.Fatalf("beside a process that ends: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// socketDirAgain takes away the socket that a process left.
func socketDirAgain(t *testing.T, state string) string {
	t.Helper()
	if err := os.Remove(filepath.Join(state, control.SocketName)); err != nil {
		t.Fatal(err)
	}
	return state
}

// One that is stopped is not waited for to the end: it will not end, and a person must say what
// is to become of it.
func TestStoppedProcessIsNamed(t *testing.T) {
	state := socketDir(t)
	cmd := dying(t, state)
	if err := unix.Kill(cmd.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err := Serving(t.Context(), state)
	if !errors.Is(err, store.Unavailable) || !strings.Contains(err.Error(), fmt.Sprintf("kill -CONT %d", cmd.Process.Pid)) {
		t.Errorf("beside a process that is stopped: %v", err)
	}
	if took := time.Since(start); took > endWait {
		t.Errorf("it took %s to say so", took)
	}
}

type nothing struct{}

func (nothing) Handle(context.Context, string, json.RawMessage, control.Progress) (any, error) {
	return nil, nil
}

// Of several mounts of one vault it is the one that the daemon serves that counts.
func TestMountedAmongSeveral(t *testing.T) {
	state := t.TempDir()
	log, _ := test.NewNullLogger()
	s, err := control.Serve(state, "0:41", nothing{}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mount := func(point, device string) mounts.Mount {
		return mounts.Mount{Root: "/", Point: point, Type: mounts.Type, Source: state, Device: device}
	}
	for want, table := range map[string]mounts.Table{
		"":      {},
		"/live": {mount("/dead", "0:40"), mount("/live", "0:41"), mount("/other", "0:42")},
		"/one":  {mount("/one", "0:40")},
	} {
		if m, ok := Mounted(t.Context(), table, state); m.Point != want || ok != (want != "") {
			t.Errorf("%v: %q, want %q", table, m.Point, want)
		}
	}
	if id, err := Serving(t.Context(), state); err != nil || id.PID != os.Getpid() {
		t.Errorf("%+v, %v", id, err)
	}
}
