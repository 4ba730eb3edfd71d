package integration

import (
	"fmt"
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

// killWays are those whose change of content a kill can come in the middle of.
var killWays = []string{"write", "open to cut", "cut and write", "truncate", "copy", "copy a part", "punch", "zero", "make room behind"}

// A daemon that is killed while an ordinary user changes programs leaves none with new content
// and old privileges.
func TestKillLeavesNoPrivileges(t *testing.T) {
	harness.NeedRoot(t)
	v := harness.NewVault(t)
	flags := []string{"--allow-other", "-o", "dev,suid"}
	v.Start(flags...)
	program := programOf(t)
	before := slices.Repeat([]byte("x"), len(program))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tamper := filepath.Join(harness.Dir(t), "tamper")
	harness.Must(t, "cp", self, tamper)
	random := harness.Rand(t)
	changed, kept := 0, 0
	for round := range harness.Count(6, 60) {
		dir := harness.Mkdir(t, v.Point, fmt.Sprint("d", round))
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		harness.Write(t, string(program), dir, "source")
		paths := []string{}
		for _, way := range killWays {
			for i := range 12 {
				path := filepath.Join(dir, fmt.Sprintf("%d.%s", i, way))
				if err := os.WriteFile(path, before, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := unix.Chmod(path, 0o6777); err != nil {
					t.Fatal(err)
				}
				if err := unix.Setxattr(path, "security.capability", capabilities, 0); err != nil {
					t.Fatal(err)
				}
				paths = append(paths, path)
			}
		}
		if round%2 == 0 {
			v.Wait(time.Minute)
		}
		cmd := exec.Command(tamper)
		cmd.Env = append(os.Environ(), tamperVariable+"="+dir, hurryVariable+"="+strings.Join(killWays, ","))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*time.Millisecond + time.Duration(random.Int64N(int64(400*time.Millisecond)))) // anywhere in it
		v.Kill()
		_ = cmd.Wait() // most of what it does fails now
		v.Start(flags...)
		for _, path := range paths {
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = unix.Getxattr(path, "security.capability", nil)
			same := string(content) == string(before)
			if same {
				kept++
			} else {
				changed++
			}
			if !same && (st.Mode&0o6000 != 0 || err == nil) {
				t.Errorf("round %d: %s has new content, mode %o, capabilities %v", round, path, st.Mode, err == nil)
			}
		}
	}
	t.Logf("%d programs were changed before the kill, %d not", changed, kept)
	v.Unmount()
}
