package integration

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// capabilities is the value of security.capability of a program that may bind any port.
var capabilities = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// victims are programs that an ordinary user may write to, which nobody in his senses
// leaves about: of every way to change them that user must gain nothing.
var victims = map[string]struct {
	mode    uint32
	owner   int
	capable bool
}{
	"suid":         {mode: 0o4777},
	"sgid":         {mode: 0o2777},
	"both":         {mode: 0o6777},
	"sgid-no-exec": {mode: 0o2766},
	"capable":      {mode: 0o777, capable: true},
	"all":          {mode: 0o6777, capable: true},
	"own":          {mode: 0o6755, owner: nobody},
	"own-capable":  {mode: 0o755, owner: nobody, capable: true},
	"plain":        {mode: 0o777},
}

// programOf is a small program that says whom it runs as.
func programOf(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("id")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Whatever way an ordinary user changes a program, it keeps of its privileges what ext4
// lets it keep, at once and for the kernel too, which runs it by what it remembers.
func TestChangesTakePrivileges(t *testing.T) {
	harness.NeedRoot(t)
	disk := harness.NewDisk(t, "ext4", 512<<20)
	v := harness.NewVault(t)
	v.Start("--allow-other", "-o", "dev,suid")
	other, vault := harness.Mkdir(t, disk.Point, "d"), harness.Mkdir(t, v.Point, "d")
	for _, dir := range []string{other, vault} {
		prepareVictims(t, dir)
	}
	v.Wait(time.Minute) // so that nothing changes by itself any more
	want, got := tamperAll(t, other), tamperAll(t, vault)
	for _, what := range slices.Sorted(maps.Keys(want)) {
		if got[what] != want[what] {
			t.Errorf("%s\n   ext4: %s\n  vault: %s", what, want[what], got[what])
		}
	}
	t.Logf("%d cases", len(want))
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

// prepareVictims makes a victim of each kind for each way, and what the ways need.
func prepareVictims(t *testing.T, dir string) {
	t.Helper()
	program := programOf(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o777))
	source := filepath.Join(dir, "source")
	must(os.WriteFile(source, program, 0o755))
	must(os.Chmod(source, 0o755))
	for _, way := range tamperWays() {
		for kind, k := range victims {
			path := filepath.Join(dir, kind+"."+way)
			// As long as the program, and something else.
			must(os.WriteFile(path, slices.Repeat([]byte("x"), len(program)), 0o600))
			must(os.Chown(path, k.owner, k.owner))
			must(unix.Chmod(path, k.mode))
			if k.capable {
				must(unix.Setxattr(path, "security.capability", capabilities, 0))
			}
			must(os.WriteFile(path+".other", program, 0o666))
			must(os.Chmod(path+".other", 0o777))
		}
	}
}

// tamperAll has an ordinary user change all victims in a directory, and gives what came of
// each, by kind and way.
func tamperAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(harness.Dir(t), "tamper")
	harness.Must(t, "cp", self, program)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), tamperVariable+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	for _, kind := range rootsHandles {
		// What root has open, and hands to somebody.
		for _, way := range handleWays {
			f, err := os.OpenFile(filepath.Join(dir, kind+"."+way), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		what, came, _ := strings.Cut(strings.TrimSpace(line), ": ")
		all[what] = came
	}
	if len(all) == 0 {
		t.Fatalf("nothing was tried: %s", stderr.String())
	}
	return all
}

// describeVictim says what an ordinary user finds of a program: its mode as the kernel
// remembers it, whom it runs as, and then all there is.
func describeVictim(path string) string {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MODE, &x); err != nil {
		return err.Error()
	}
	runs, err := exec.Command(path, "-u").CombinedOutput()
	as := strings.TrimSpace(string(runs))
	if err != nil {
		as = "nobody" // it is no program, or may not be run
	}
	group, err := exec.Command(path, "-g").CombinedOutput()
	if as += "/" + strings.TrimSpace(string(group)); err != nil {
		as = "nobody"
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err.Error()
	}
	n, err := unix.Getxattr(path, "security.capability", make([]byte, 64))
	capable := fmt.Sprintf("%d bytes of capabilities", n)
	if err != nil {
		capable = cameOf(err)
	}
	digest, err := harness.Digest(path)
	if err != nil {
		digest = err.Error()
	}
	return fmt.Sprintf("remembered %o, runs as %s, mode %o, %d bytes, %s, %.8s", x.Mode, as, st.Mode, st.Size, capable, digest)
}
