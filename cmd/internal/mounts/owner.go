package mounts

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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
	owners := t.keyOwners(lookLimit)
	for i, m := range t {
		if !m.IsVault() || m.User == 0 {
			continue
		}
		owner, ok := owners[m.Source]
		if !ok {
			owner = os.Geteuid()
		}
		t[i].Foreign = m.User != owner
	}
}

// lookLimit bounds the search for the owners of keys: any user may name as his source what lies
// on a server that has gone away.
const lookLimit = 5 * time.Second

// keyOwners gives the users to whom the keys of the state directories belong that the mounts
// name, as far as that is seen within limit. Each is looked at by itself: one that hangs is
// not in the way of the others.
func (t Table) keyOwners(limit time.Duration) map[string]int {
	type answer struct {
		state string
		uid   int
		ok    bool
	}
	asked := map[string]bool{}
	for _, m := range t {
		if m.IsVault() && m.User != 0 {
			asked[m.Source] = true
		}
	}
	answers := make(chan answer, len(asked))
	for state := range asked {
		go func() { // ends with the look; if the kernel holds that, with the process
			uid, ok := t.keyOwner(state)
			answers <- answer{state, uid, ok}
		}()
	}
	owners := map[string]int{}
	end := time.After(limit)
	for range len(asked) {
		select {
		case a := <-answers:
			if a.ok {
				owners[a.state] = a.uid
			}
		case <-end:
			return owners
		}
	}
	return owners
}

// keyOwner gives the user to whom the key of a state directory belongs. It does not look where
// looking may hang: into a vault, or what another user's program serves, and it follows nobody's
// links but root's and those of this process's user.
func (t Table) keyOwner(state string) (uid int, ok bool) {
	if !filepath.IsAbs(state) {
		return 0, false
	}
	r, err := walk{table: t, wary: true, keepLast: true}.to(filepath.Join(state, identity.FileName))
	if err != nil || r.file == nil {
		return 0, false
	}
	defer r.close()
	return int(r.stat.Uid), true
}

// isFUSE reports whether a program serves what is mounted.
func (m Mount) isFUSE() bool {
	return m.Type == "fuse" || m.Type == "fuseblk" || strings.HasPrefix(m.Type, "fuse.") || strings.HasPrefix(m.Type, "fuseblk.")
}
