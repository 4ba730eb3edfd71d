package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Vault is a state directory, a mountpoint, and the daemon between them if one runs.
type Vault struct {
	t     testing.TB
	Base  string // holds what belongs to the vault, unless a test puts it elsewhere
	State string
	Point string   // the mountpoint
	Flags []string // given to stasis-mount beside --state
	Wrap  []string // a command that runs stasis-mount, as prlimit does
	Env   []string // of every command; HOME is in Base
	Net   *Net     // where the daemon and the commands run; nil: with the test
	logs  []string // where daemons logged, for the report of a failure
}

// NewVault makes the directories for a vault. Nothing is mounted yet. When the test
// ends the daemon is killed and the mount is cleared.
func NewVault(t testing.TB) *Vault {
	t.Helper()
	return NewVaultAt(t, filepath.Join(Dir(t), "state"))
}

// NewVaultAt is NewVault with a state directory somewhere else.
func NewVaultAt(t testing.TB, state string) *Vault {
	t.Helper()
	Binary(t, "stasis")
	base := Dir(t)
	v := &Vault{t: t, Base: base, State: state, Point: Mkdir(t, base, "vault")}
	home := Mkdir(t, base, "home")
	v.Env = commandEnv(home)
	t.Cleanup(v.end)
	v.watch()
	return v
}

// commandEnv is what keeps a command from the person's own vaults and settings.
func commandEnv(home string) []string {
	return []string{"HOME=" + home, "XDG_DATA_HOME=", "STATE_DIRECTORY=", "NOTIFY_SOCKET=", "NO_COLOR=1", "LC_ALL=C"}
}

// For is the same vault in the hands of a subtest.
func (v *Vault) For(t testing.TB) *Vault {
	w := *v
	w.t = t
	return &w
}

// Path is a path inside the mount.
func (v *Vault) Path(elements ...string) string {
	return filepath.Join(append([]string{v.Point}, elements...)...)
}

// Settings writes vault.toml.
func (v *Vault) Settings(format string, args ...any) {
	v.t.Helper()
	if err := os.MkdirAll(v.State, 0o700); err != nil {
		v.t.Fatal(err)
	}
	if err := writeSynced(filepath.Join(v.State, "vault.toml"), fmt.Appendf(nil, format, args...)); err != nil {
		v.t.Fatal(err)
	}
}

// Directories writes a vault.toml with directory nodes a, b, c... at the paths.
func (v *Vault) Directories(copies int, paths ...string) {
	v.t.Helper()
	v.Settings("%s", DirectorySettings(copies, paths...))
}

// DirectorySettings is the text of a vault.toml with directory nodes a, b, c... at the
// paths.
func DirectorySettings(copies int, paths ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "copies = %d\n", copies)
	for i, p := range paths {
		fmt.Fprintf(&b, "[[node]]\nname = %q\nkind = \"directory\"\npath = %q\n", string(rune('a'+i)), p)
	}
	return b.String()
}

// TryStart mounts the vault with a daemon in the background.
func (v *Vault) TryStart(flags ...string) Result {
	v.t.Helper()
	v.logs = []string{filepath.Join(v.State, "stasis.log")}
	args := append(append(v.Net.enter(), v.Wrap...), Binary(v.t, "stasis-mount"), "--state", v.State)
	args = append(args, v.Flags...)
	return Run(v.t, Command{Args: append(append(args, flags...), v.Point), Env: v.Env})
}

// Start is TryStart that has to succeed; it gives what was printed.
func (v *Vault) Start(flags ...string) string {
	v.t.Helper()
	r := v.TryStart(flags...)
	if r.Code != 0 {
		v.t.Fatal(r)
	}
	if !v.Mounted() {
		v.t.Fatalf("stasis-mount says it serves, and nothing is mounted\n%v", r)
	}
	return r.Stdout
}

// Stasis runs `stasis ARGS`.
func (v *Vault) Stasis(args ...string) Result {
	v.t.Helper()
	return v.StasisIn(Command{}, args...)
}

// StasisIn runs `stasis ARGS` with the directory, input and limit of a command.
func (v *Vault) StasisIn(c Command, args ...string) Result {
	v.t.Helper()
	c.Args = append(append(v.Net.enter(), Binary(v.t, "stasis")), args...)
	c.Env = append(append([]string{}, v.Env...), c.Env...)
	return Run(v.t, c)
}

// Ask is Stasis for any goroutine: what goes wrong is its answer.
func (v *Vault) Ask(args ...string) (Result, error) {
	return Command{Args: append(append(v.Net.enter(), filepath.Join(runDir, binDir, "stasis")), args...), Env: v.Env}.run()
}

// OK runs `stasis ARGS`, which has to succeed, and gives what it printed.
func (v *Vault) OK(args ...string) string {
	v.t.Helper()
	r := v.Stasis(args...)
	if r.Code != 0 {
		v.t.Fatal(r)
	}
	return r.Stdout
}

// Fails runs `stasis ARGS`, which has to end with the code and say each of the words. It
// must be a sentence of ours on stderr, and no trace of a crash.
func (v *Vault) Fails(code int, words []string, args ...string) Result {
	v.t.Helper()
	r := v.Stasis(args...)
	v.Refused(r, code, words...)
	return r
}

// Refused checks that a command ended with the code and a sentence that has the words.
func (v *Vault) Refused(r Result, code int, words ...string) {
	v.t.Helper()
	if r.Code != code {
		v.t.Errorf("exit code %d, want %d\n%v", r.Code, code, r)
		return
	}
	for _, w := range words {
		if !strings.Contains(r.Stderr, w) {
			v.t.Errorf("nothing about %q\n%v", w, r)
		}
	}
	if n := strings.Count(strings.TrimSpace(r.Stderr), "\n"); n > 2 || len(strings.TrimSpace(r.Stderr)) < 12 ||
		strings.Contains(r.Stderr, "goroutine ") || strings.Contains(r.Stderr, "panic") {
		v.t.Errorf("not a sentence for a person\n%v", r)
	}
}

// Wait runs `stasis wait` on the whole vault, or on paths inside it, and has it succeed.
func (v *Vault) Wait(limit time.Duration, paths ...string) {
	v.t.Helper()
	args := []string{"wait"}
	for _, p := range paths {
		args = append(args, v.Path(p))
	}
	if len(paths) == 0 {
		args = append(args, v.Point)
	}
	if r := v.StasisIn(Command{Limit: limit}, args...); r.Code != 0 {
		v.t.Fatal(r)
	}
}

// Mounted reports whether a vault is mounted at the mountpoint, served or not.
func (v *Vault) Mounted() bool {
	for _, m := range mountTable() {
		if m.point == v.Point && m.kind == "fuse.stasis" {
			return true
		}
	}
	return false
}

// PID is the process id of the daemon, 0 if none runs.
func (v *Vault) PID() int {
	for _, p := range processesOf(runDir) {
		if strings.HasPrefix(p.command, filepath.Join(runDir, binDir, "stasis-mount")) && strings.Contains(p.command+" ", " "+v.Point+" ") {
			return p.pid
		}
	}
	return 0
}

// Kill kills the daemon as kill -9 does; its mount stays behind, dead.
func (v *Vault) Kill() {
	v.t.Helper()
	pid := v.PID()
	if pid == 0 {
		v.t.Fatal("no daemon to kill")
	}
	if !killAndWait(pid) {
		v.t.Fatalf("daemon %d is still there after %s", pid, endLimit)
	}
}

// Unmount unmounts by `stasis umount` and waits for the daemon to end.
func (v *Vault) Unmount() {
	v.t.Helper()
	v.OK("umount", v.Point)
	v.AwaitEnd()
}

// AwaitEnd waits until neither mount nor daemon is left.
func (v *Vault) AwaitEnd() {
	v.t.Helper()
	Eventually(v.t, endLimit, "the end of the daemon", func() (bool, string) {
		pid, mounted := v.PID(), v.Mounted()
		return pid == 0 && !mounted, fmt.Sprintf("pid %d, mounted: %v", pid, mounted)
	})
}

// AwaitEndOf waits until a daemon that was killed is gone.
func (v *Vault) AwaitEndOf(pid int) {
	v.t.Helper()
	Eventually(v.t, endLimit, "the end of the daemon", func() (bool, string) { return !running(pid), fmt.Sprintf("pid %d is there", pid) })
}

// Detach takes away the mount that a killed daemon left.
func (v *Vault) Detach() {
	v.t.Helper()
	if err := unix.Unmount(v.Point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		v.t.Fatalf("detach %s: %v", v.Point, err)
	}
}

// Log is the end of the daemon's log.
func (v *Vault) Log() string {
	var b strings.Builder
	for _, l := range v.logs {
		text, err := os.ReadFile(l)
		if err != nil {
			fmt.Fprintf(&b, "(no log: %v)\n", err)
			continue
		}
		b.Write(text[max(0, len(text)-logTail):])
	}
	return b.String()
}

// Xattr is the answer to an extended attribute of a path inside the mount, "" if there
// is none.
func (v *Vault) Xattr(name string, elements ...string) string {
	buf := make([]byte, 4096)
	n, err := unix.Lgetxattr(v.Path(elements...), "user.stasis."+name, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// Copies is how many durable copies a file says it has.
func (v *Vault) Copies(elements ...string) int {
	v.t.Helper()
	n, err := strconv.Atoi(v.Xattr("copies", elements...))
	if err != nil {
		v.t.Fatalf("user.stasis.copies of %s: %v", v.Path(elements...), err)
	}
	return n
}

// watch ends the daemon of a test that takes too long: its log then says where it stood.
func (v *Vault) watch() {
	limit := testLimit
	if Soak() {
		limit = soakLimit
	}
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
			return
		case <-time.After(limit):
		}
		v.t.Errorf("the vault is in use for %s; its daemon is killed", limit)
		if pid := v.PID(); pid != 0 {
			_ = unix.Kill(pid, unix.SIGQUIT)
			time.Sleep(dumpTime)
			killAndWait(pid)
		}
	}()
	v.t.Cleanup(func() { close(done); <-ended })
}

// end leaves nothing behind.
func (v *Vault) end() {
	if v.t.Failed() {
		v.t.Logf("the log of %s ends:\n%s", v.State, v.Log())
	}
	if pid := v.PID(); pid != 0 && !killAndWait(pid) {
		v.t.Errorf("daemon %d can't be killed", pid)
	}
	for v.Mounted() {
		if err := unix.Unmount(v.Point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			v.t.Errorf("clear %s: %v", v.Point, err)
			return
		}
	}
}
