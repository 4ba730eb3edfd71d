package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// maxHolders is how many processes a message about a busy mount names.
const maxHolders = 5

// Holder is a process that keeps a mount busy, or a filesystem mounted inside it.
type Holder struct {
	PID  int // 0 for a filesystem
	Name string
	Path string // what it holds
	How  string // "has open", "works in", "has mapped", "runs", "is mounted at"
}

func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("%s %s %s", h.Name, h.How, h.Path)
	}
	return fmt.Sprintf("%s (pid %d) %s %s", h.Name, h.PID, h.How, h.Path)
}

// Holders names the processes that keep the mount at point busy, as far as the
// caller may see them. It reads link texts below /proc only. The process self is
// left out.
func Holders(point string, self int) []Holder {
	found := mountedInside(point)
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil // the pattern is constant and well formed
	}
	for _, proc := range procs {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil || pid == self {
			continue
		}
		if how, path := holds(proc, point); how != "" {
			found = append(found, Holder{PID: pid, Name: command(proc), Path: path, How: how})
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].PID < found[j].PID })
	return found
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

func holds(proc, point string) (how, path string) {
	for _, c := range []struct{ pattern, how string }{
		{"cwd", "works in"}, {"root", "works in"}, {"exe", "runs"}, {"fd/*", "has open"}, {"map_files/*", "has mapped"},
	} {
		links, err := filepath.Glob(filepath.Join(proc, c.pattern))
		if err != nil {
			continue // as above
		}
		for _, l := range links {
			// A process that ended meanwhile, or that is another user's, holds nothing we
			// could name.
			if to, err := os.Readlink(l); err == nil && Within(strings.TrimSuffix(to, " (deleted)"), point) {
				return c.how, to
			}
		}
	}
	return "", ""
}

func command(proc string) string {
	name, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil {
		return "a process"
	}
	return strings.TrimSpace(string(name))
}

// Describe joins holders into the part of a sentence that follows "busy: ".
func Describe(holders []Holder) string {
	if len(holders) == 0 {
		return "held by a process that can't be seen from here"
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
