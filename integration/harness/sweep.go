package harness

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sweep ends and removes everything of a run directory, and says what there was beside
// files.
func sweep(dir string) []string {
	var left []string
	for _, p := range processesOf(dir) {
		left = append(left, "a process: "+p.command)
		killAndWait(p.pid)
	}
	for _, m := range mountsBelow(dir) {
		left = append(left, "a mount: "+m)
		// What stays mounted is seen below.
		_ = unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	for _, name := range netsOf(dir) {
		left = append(left, "a network namespace: "+name)
		_ = exec.Command("ip", "netns", "del", name).Run()
	}
	for _, device := range loopsBelow(dir) {
		left = append(left, "a loop device: "+device)
		_ = exec.Command("losetup", "-d", device).Run()
	}
	if still := mountsBelow(dir); len(still) > 0 {
		// Removing files now would remove what is mounted.
		return append(left, "mounts that can't be undone below "+dir)
	}
	if os.Getenv("STASIS_KEEP") == "" {
		_ = os.RemoveAll(dir)
	}
	return left
}

type process struct {
	pid     int
	command string
}

// processesOf are the processes whose program lies below dir.
func processesOf(dir string) []process {
	var found []process
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil // the pattern is constant and well formed
	}
	for _, p := range procs {
		exe, err := os.Readlink(filepath.Join(p, "exe"))
		if err != nil || !strings.HasPrefix(exe, filepath.Join(dir, binDir)+"/") {
			continue // gone, a zombie, or not ours
		}
		line, err := os.ReadFile(filepath.Join(p, "cmdline"))
		pid, numErr := strconv.Atoi(filepath.Base(p))
		if err != nil || numErr != nil {
			continue
		}
		found = append(found, process{pid, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))})
	}
	return found
}

// running reports whether a process is there and no zombie. While a thread of it lives
// it holds files, though the process as such may be a zombie already.
func running(pid int) bool {
	stats, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(stats, func(path string) bool {
		stat, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		// The state follows the name, which is in parentheses and may hold any.
		_, after, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
		return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
	})
}

// killAndWait ends a process at once; false if it is still there after endLimit.
func killAndWait(pid int) bool {
	// ESRCH is what is wanted.
	_ = unix.Kill(pid, unix.SIGKILL)
	for end := time.Now().Add(endLimit); time.Now().Before(end); time.Sleep(pollStep) {
		if !running(pid) {
			return true
		}
	}
	return false
}

// mountsBelow are the mountpoints below dir, the last made first.
func mountsBelow(dir string) []string {
	var found []string
	for _, m := range mountTable() {
		if m.point == dir || strings.HasPrefix(m.point, dir+"/") {
			found = append(found, m.point)
		}
	}
	slices.Reverse(found)
	return found
}

type mount struct{ point, kind, source string }

// mountTable is the mount table. It touches no mount.
func mountTable() []mount {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []mount
	for s := bufio.NewScanner(f); s.Scan(); {
		left, right, _ := strings.Cut(s.Text(), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if len(before) >= 5 && len(after) >= 2 {
			all = append(all, mount{unescape(before[4]), after[0], unescape(after[1])})
		}
	}
	return all
}

// MountedAs gives the type and the source of the last mount at a point, "" if there is
// none.
func MountedAs(point string) (kind, source string) {
	for _, m := range mountTable() {
		if m.point == point {
			kind, source = m.kind, m.source
		}
	}
	return kind, source
}

// unescape undoes what the kernel does to spaces and the like.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// loopsBelow are the loop devices whose files lie below dir, but for those that were
// given up and end with their last user.
func loopsBelow(dir string) []string {
	var found []string
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil // as above
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		ends, endsErr := os.ReadFile(filepath.Join(filepath.Dir(f), "autoclear"))
		if endsErr == nil && strings.TrimSpace(string(ends)) == "1" {
			continue
		}
		if err == nil && strings.HasPrefix(string(text), dir+"/") {
			found = append(found, "/dev/"+filepath.Base(filepath.Dir(filepath.Dir(f))))
		}
	}
	return found
}
