package mounts

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"stasis/peer/identity"
)

// nobodyKnown is the user of a mount whose line does not tell.
const nobodyKnown = -1

// userOf reads who made a FUSE mount from the options of its filesystem. The kernel writes them,
// and fusermount3 lets nobody give another user than himself.
func userOf(options string) int {
	for option := range strings.SplitSeq(options, ",") {
		if value, ok := strings.CutPrefix(option, "user_id="); ok {
			if n, err := strconv.Atoi(value); err == nil {
				return n
			}
		}
	}
	return nobodyKnown
}

// tie marks the vault mounts that are not of the vault that they name as their source: anybody
// may mount a filesystem with any type and source. A mount is of a vault if root made it, or
// the user to whom the vault's key belongs, which nobody else but root can read. Where the key
// can't be looked at, it is of the vault only if this process's user made it.
func (t Table) tie() {
	for i, m := range t {
		if !m.IsVault() || m.User == 0 {
			continue
		}
		owner, ok := t.keyOwner(m.Source)
		if !ok {
			owner = os.Geteuid()
		}
		t[i].Foreign = m.User != owner
	}
}

// keyOwner gives the user to whom the key of a state directory belongs. It does not look where
// looking may hang: into a vault, or what another user's program serves.
func (t Table) keyOwner(state string) (uid int, ok bool) {
	if !filepath.IsAbs(state) {
		return 0, false
	}
	on, _ := t.Covering(filepath.Clean(state))
	if on.IsVault() || on.isFUSE() && on.User != 0 && on.User != os.Geteuid() {
		return 0, false
	}
	info, err := os.Lstat(filepath.Join(state, identity.FileName))
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// isFUSE reports whether a program serves what is mounted.
func (m Mount) isFUSE() bool {
	return m.Type == "fuse" || m.Type == "fuseblk" || strings.HasPrefix(m.Type, "fuse.") || strings.HasPrefix(m.Type, "fuseblk.")
}
