package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"stasis/store"
)

const (
	// maxHolders is how many holders a message about a busy mount names.
	maxHolders = 5
	// maxShown is how much is shown of the name of a process, which it chooses itself, or of
	// a path, in bytes.
	maxShown = 4096
	// HoldersLimit bounds the search for them: what /proc says of a process that waits for
	// a dead server may take for ever.
	HoldersLimit = 10 * time.Second
)

// Holder is a process that keeps a mount busy, or something of the kernel's that does.
type Holder struct {
	PID  int // 0 for what is no process
	Name string
	Path string // what it holds
	How  string // "has open", "works in", "has mapped", "runs", "listens at", "is mounted at", "is made of"
}

func (h Holder) String() string {
	name, path := store.Printable(h.Name, maxShown), store.Printable(h.Path, maxShown)
	if h.PID == 0 {
		return fmt.Sprintf("%s %s %s", name, h.How, path)
	}
	return fmt.Sprintf("%s (pid %d) %s %s", name, h.PID, h.How, path)
}

// Holders names who keeps the mount at point busy, as far as the caller may see it and
// as far as it is found in time. It reads texts below /proc and /sys only. The process
// self is left out.
func Holders(point string, self int) []Holder {
	one := make(chan Holder)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with the search; if the kernel holds that, with the process
		defer close(one)
		search(point, self, func(h Holder) bool {
			select {
			case one <- h:
				return true
			case <-stop:
				return false
			}
		})
	}()
	limit := time.After(HoldersLimit)
	var found []Holder
	for {
		select {
		case h, more := <-one:
			if more {
				found = append(found, h)
				continue
			}
		case <-limit:
		}
		sort.Slice(found, func(i, j int) bool { return found[i].PID < found[j].PID })
		return found
	}
}

// search gives each holder to say until that wants no more.
func search(point string, self int, say func(Holder) bool) {
	for _, h := range append(mountedInside(point), loopsOf(point)...) {
		if !say(h) {
			return
		}
	}
	sockets := socketsIn(point)
	for _, proc := range glob("/proc/[0-9]*") {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil || pid == self {
			continue
		}
		if how, path := holds(proc, point, sockets); how != "" && !say(Holder{PID: pid, Name: command(proc), Path: path, How: how}) {
			return
		}
	}
}

// glob is filepath.Glob with a pattern that is well formed, which is all that can be wrong
// with it.
func glob(pattern string) []string {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	return paths
}

func mountedInside(point string) []Holder {
	table, err := Read()
	if err != nil {
		return nil // the processes are looked for all the same
	}
	var found []Holder
	for _, m := range table {
		if m.Point != point && Within(m.Point, point) {
			found = append(found, Holder{Name: "a filesystem of type " + m.Type, Path: m.Point, How: "is mounted at"})
		}
	}
	return found
}

// loopsOf are the loop devices whose files lie in the mount: the kernel has those open.
func loopsOf(point string) []Holder {
	var found []Holder
	for _, f := range glob("/sys/block/loop*/loop/backing_file") {
		text, err := os.ReadFile(f)
		if path := strings.TrimSuffix(string(text), "\n"); err == nil && Within(path, point) {
			found = append(found, Holder{Name: "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(f))), Path: path, How: "is made of"})
		}
	}
	return found
}

// socketsIn are the sockets that are bound to names in the mount, by what a descriptor of
// theirs links to.
func socketsIn(point string) map[string]string {
	found := map[string]string{}
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return found // there may be no such sockets at all
	}
	for line := range strings.Lines(string(text)) {
		// Seven columns, the last the inode, then the path.
		columns := strings.Fields(line)
		if at := strings.IndexByte(line, '/'); len(columns) > 7 && at >= 0 {
			if path := strings.TrimSuffix(line[at:], "\n"); Within(path, point) {
				found["socket:["+columns[6]+"]"] = path
			}
		}
	}
	return found
}

// holds says how a process keeps the mount busy. One that ended meanwhile, or that is
// another user's, holds nothing that could be named.
func holds(proc, point string, sockets map[string]string) (how, path string) {
	for _, c := range []struct{ pattern, how string }{
		{"cwd", "works in"}, {"root", "works in"}, {"exe", "runs"}, {"fd/*", "has open"},
	} {
		for _, l := range glob(filepath.Join(proc, c.pattern)) {
			to, err := os.Readlink(l)
			switch {
			case err != nil:
			case Within(strings.TrimSuffix(to, deleted), point):
				return c.how, to
			case sockets[to] != "":
				return "listens at", sockets[to]
			}
		}
	}
	if path := mapped(proc, point); path != "" {
		return "has mapped", path
	}
	return "", ""
}

// deleted is what the kernel puts behind the path of what has no name any more.
const deleted = " (deleted)"

// mapped gives a file of the mount that a process has mapped. It reads maps, as the links
// in map_files are for root alone.
func mapped(proc, point string) string {
	text, err := os.ReadFile(filepath.Join(proc, "maps"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		at := strings.IndexByte(line, '/')
		if at < 0 {
			continue
		}
		if path := unescape(strings.TrimSuffix(line[at:], "\n")); Within(strings.TrimSuffix(path, deleted), point) {
			return path
		}
	}
	return ""
}

func command(proc string) string {
	name, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil {
		return "a process"
	}
	return strings.TrimSpace(string(name))
}

// Describe joins holders into the part of a sentence that follows "in use: ".
func Describe(holders []Holder) string {
	if len(holders) == 0 {
		if os.Geteuid() == 0 {
			return "no process that can be seen from here holds it, perhaps one in a container or an NFS export"
		}
		return "a process of another user holds it, which only root can name"
	}
	var parts []string
	for i, h := range holders {
		if i == maxHolders {
			parts = append(parts, fmt.Sprintf("and %d more", len(holders)-i))
			break
		}
		parts = append(parts, h.String())
	}
	return strings.Join(parts, ", ")
}
