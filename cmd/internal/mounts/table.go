package mounts

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Type is the filesystem type of a vault's mount.
const Type = "fuse.stasis"

// maxLine is the longest line of a mount table that is read, in bytes.
const maxLine = 1 << 20

// Mount is one line of a mount table.
type Mount struct {
	ID     int    // the kernel's number of it; 0 if it does not tell
	Root   string // what of the filesystem is mounted: "/" unless it is a bind mount
	Point  string // where
	Type   string
	Source string // for a vault its state directory
	Device string // "major:minor"
	User   int    // who made it, where that is a FUSE mount; -1 if it does not tell
	// Foreign: it has the type of a vault's mount and is not of the vault that it names.
	Foreign bool
}

// IsVault reports whether the mount is a vault's, or says so: it may hang. Whether it is of the
// vault that it names is Foreign's to say.
func (m Mount) IsVault() bool { return m.Type == Type }

// Table is the mounts of this process, in the order in which they were made.
type Table []Mount

// Read reads the table of this process.
func Read() (Table, error) {
	t, err := readLines()
	if err != nil {
		return nil, err
	}
	t.tie()
	return t, nil
}

// readLines reads it without asking whose the vaults are.
func readLines() (Table, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	defer f.Close()
	t, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	return t, nil
}

// parse reads lines like
//
//	36 35 98:0 /root /point rw,noatime shared:1 - fuse.stasis /state rw,user_id=0,group_id=0
//
// and passes over those of another shape.
func parse(r io.Reader) (Table, error) {
	var t Table
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		left, right, ok := strings.Cut(s.Text(), " - ")
		before, after := strings.Split(left, " "), strings.Split(right, " ")
		if !ok || len(before) < 6 || len(after) < 2 {
			continue
		}
		m := Mount{Device: before[2], Root: unescape(before[3]), Point: unescape(before[4]), Type: unescape(after[0]), Source: unescape(after[1]), User: nobodyKnown}
		if id, err := strconv.Atoi(before[0]); err == nil {
			m.ID = id
		}
		if len(after) > 2 && m.isFUSE() {
			m.User = userOf(after[2])
		}
		t = append(t, m)
	}
	return t, s.Err()
}

// unescape turns the kernel's \ooo back into bytes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) bool {
	return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7'
}

// Covering gives the mount that an absolute, clean path lies in.
func (t Table) Covering(path string) (Mount, bool) {
	var best Mount
	found := false
	for _, m := range t {
		if Within(path, m.Point) && (!found || len(m.Point) >= len(best.Point)) {
			best, found = m, true
		}
	}
	return best, found
}

// At gives the uppermost mount at exactly this path.
func (t Table) At(point string) (Mount, bool) {
	m, ok := t.Covering(point)
	return m, ok && m.Point == point
}

// Vaults gives the mounts of vaults that can be reached, each state directory's whole
// mounts before its bind mounts. Those that only say that they are a vault's are left out.
func (t Table) Vaults() []Mount {
	var whole, bound []Mount
	for _, m := range t {
		if top, ok := t.At(m.Point); !m.IsVault() || m.Foreign || !ok || top != m {
			continue
		}
		if m.Root == "/" {
			whole = append(whole, m)
		} else {
			bound = append(bound, m)
		}
	}
	return append(whole, bound...)
}

// Of gives the mounts of the vault of a state directory, in the order of Vaults. More than one
// filesystem among them is what killed daemons left.
func (t Table) Of(state string) (of []Mount) {
	for _, m := range t.Vaults() {
		if m.Source == state {
			of = append(of, m)
		}
	}
	return of
}

// Within reports whether an absolute, clean path is dir or lies below it.
func Within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// Inside gives the path of something in a vault mount as the daemon knows it:
// counted from the vault's root, without a leading slash, "" for the root.
func (m Mount) Inside(path string) string {
	below := strings.TrimPrefix(strings.TrimPrefix(path, m.Point), "/")
	root := strings.Trim(m.Root, "/")
	if root == "" || below == "" {
		return root + below
	}
	return root + "/" + below
}
