package integration

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// makeInstall runs a target of the Makefile with the programs that are built already.
func makeInstall(t *testing.T, target string, variables ...string) {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is missing")
	}
	args := append([]string{"make", "-s", "-C", "..", target, "GO=true", "BIN=" + filepath.Dir(harness.Binary(t, "stasis"))}, variables...)
	harness.Must(t, args...)
}

// files gives the files below dir, with their modes.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(dir, path) // it is below
		all = append(all, fmt.Sprintf("%o %s", info.Mode().Perm(), rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What install put there uninstall takes away, and nothing else.
func TestInstallAndUninstall(t *testing.T) {
	dir := harness.Dir(t)
	others := []string{"/opt/s/bin/other", "/opt/s/lib/systemd/system/other.service", "/var/lib/stasis/srv-vault/vault.toml", "/home/ann/.local/share/stasis/vault/key"}
	for _, path := range others {
		harness.Mkdir(t, filepath.Dir(dir+path))
		harness.Write(t, "kept\n", dir+path)
	}
	before := files(t, dir)
	for range 2 { // the second over the first
		makeInstall(t, "install", "DESTDIR="+dir, "PREFIX=/opt/s")
	}
	got := strings.Join(files(t, dir), "\n")
	for _, path := range []string{"755 opt/s/bin/stasis", "755 opt/s/bin/stasis-mount", "755 opt/s/bin/stasis-peer",
		"644 opt/s/lib/systemd/system/stasis-peer.service", "644 opt/s/lib/systemd/system/stasis-mount@.service", "644 opt/s/lib/systemd/user/stasis-mount@.service"} {
		if !strings.Contains(got+"\n", path+"\n") {
			t.Errorf("install has not put %s there:\n%s", path, got)
		}
		if unit := filepath.Join(dir, path[4:]); strings.HasPrefix(path, "644") {
			if text := harness.Read(t, unit); !strings.Contains(text, "\nExecStart=/opt/s/bin/stasis-") || strings.Contains(text, "/usr/local") {
				t.Errorf("%s calls another program:\n%s", path, text)
			}
		}
	}
	for range 2 { // the second has nothing to do
		makeInstall(t, "uninstall", "DESTDIR="+dir, "PREFIX=/opt/s")
	}
	if after := files(t, dir); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("before there was %v, after uninstall there is %v", before, after)
	}
	if _, err := os.Stat(dir + "/opt/s/lib/systemd/user"); err == nil {
		t.Error("uninstall left an empty directory of units")
	}
}

// systemd reads the units as they are meant.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is missing")
	}
	prefix := harness.Dir(t)
	makeInstall(t, "install", "PREFIX="+prefix)
	for unit, flags := range map[string][]string{"system/stasis-peer.service": nil, "system/stasis-mount@.service": nil, "user/stasis-mount@.service": {"--user"}} {
		args := append([]string{"systemd-analyze", "verify", "--man=no"}, flags...)
		r := harness.Run(t, harness.Command{Args: append(args, filepath.Join(prefix, "lib/systemd", unit)), Env: []string{"XDG_RUNTIME_DIR=" + prefix, "HOME=" + prefix}})
		if r.Code != 0 || strings.Contains(r.Stdout+r.Stderr, "stasis") {
			t.Error(r)
		}
	}
}

// manager is what a service manager hears of a daemon.
type manager struct {
	t      *testing.T
	socket *net.UnixConn
	heard  string
}

func newManager(t *testing.T, path string) *manager {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &manager{t: t, socket: c}
}

// await waits until a line was heard that begins so, and gives what follows.
func (m *manager) await(line string) string {
	m.t.Helper()
	if err := m.socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		if _, after, found := strings.Cut(m.heard, "\n"+line); found {
			after, _, _ = strings.Cut(after, "\n")
			return after
		}
		n, err := m.socket.Read(buf)
		if err != nil {
			m.t.Fatalf("the service manager has not heard %q but%s: %v", line, m.heard, err)
		}
		m.heard += "\n" + string(buf[:n])
	}
}

// The daemon does what its units say: it tells the service manager when it serves and when it
// ends, ends by SIGTERM with nothing mounted, and says who keeps it.
func TestMountAsAService(t *testing.T) {
	for _, kind := range []string{"system", "user"} {
		t.Run(kind, func(t *testing.T) {
			v := harness.NewVault(t)
			m := newManager(t, filepath.Join(v.Base, "notify"))
			unit := harness.Read(t, "../cmd/stasis-mount/units", kind, "stasis-mount@.service")
			_, start, _ := strings.Cut(unit, "\nExecStart=/usr/local/bin/")
			start, _, _ = strings.Cut(start, "\n")
			words := strings.Fields(strings.NewReplacer("%f", v.Point, "%h", v.Base, "%I", filepath.Base(v.Point)).Replace(start))
			cmd := exec.Command(harness.Binary(t, words[0]), words[1:]...)
			cmd.Env = append(append(os.Environ(), v.Env...), "NOTIFY_SOCKET="+filepath.Join(v.Base, "notify"), "HOME="+v.Base)
			v.State = filepath.Join(v.Base, "lib")
			if kind == "system" {
				cmd.Env = append(cmd.Env, "STATE_DIRECTORY="+v.State)
			}
			var log strings.Builder
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			m.await("STATUS=opens the vault of " + v.Point)
			m.await("READY=1")
			if pid := m.await("MAINPID="); pid != fmt.Sprint(cmd.Process.Pid) {
				t.Errorf("MAINPID=%s, and it is %d", pid, cmd.Process.Pid)
			}
			m.await("STATUS=serves " + v.Point)
			if strings.Contains(m.heard, "STOPPING=1") {
				t.Errorf("it ends when it has just begun: %s", m.heard)
			}
			kindOf, source := harness.MountedAs(v.Point)
			if kindOf != "fuse.stasis" || (source == v.State) != (kind == "system") {
				t.Errorf("mounted as %s from %s", kindOf, source)
			}
			harness.Write(t, "content\n", v.Point, "file")

			sleeper := exec.Command("sleep", "60")
			sleeper.Dir = v.Point
			if err := sleeper.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = sleeper.Process.Kill() }) // it may have ended
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			m.await("STOPPING=1")
			who := fmt.Sprintf("sleep (pid %d) works in %s", sleeper.Process.Pid, v.Point)
			if said := m.await("STATUS=in use: "); !strings.Contains(said, who) {
				t.Errorf("the service manager hears that %s, want %s", said, who)
			}
			if err := sleeper.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = sleeper.Wait() // it was killed
			m.await("STATUS=closes the vault")
			if err := cmd.Wait(); err != nil {
				t.Errorf("after SIGTERM: %v", err)
			}
			if !strings.Contains(log.String(), who) {
				t.Errorf("the log says nothing about %s:\n%s", who, log.String())
			}
			v.AwaitEnd()
		})
	}
}
