package fs

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/ledger"
)

// boot names the run of the kernel, the mount of the filesystem that bodies lie on, and the
// history of the ledger. While all are the same, nothing that was written has been lost, and what
// the ledger says of bodies is of those that lie there: a backup that was restored speaks of
// others.
func (s *FS) boot() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", &store.Error{Kind: store.Unavailable, Op: "read the id of this boot", Err: err}
	}
	var st unix.Statx_t
	const mntIDUnique = 0x4000 // STATX_MNT_ID_UNIQUE, Linux 6.8
	if err := unix.Statx(unix.AT_FDCWD, s.bodies.Root(), unix.AT_STATX_DONT_SYNC, mntIDUnique|unix.STATX_MNT_ID, &st); err != nil {
		return "", &store.Error{Kind: store.Unavailable, Op: "read the mount of", Subject: s.bodies.Root(), Err: err}
	}
	// Before Linux 6.8 mount ids are used again, so that a remount may look like the mount
	// before: the time the filesystem's root directory was made does not help there, and
	// nothing else tells. Such a kernel treats every start as one after a power cut.
	if st.Mask&mntIDUnique == 0 {
		return "", nil
	}
	return strings.TrimSpace(string(id)) + fmt.Sprintf(" %d %s", st.Mnt_id, s.db.Lineage()), nil
}

var (
	bootKey    = []byte{tableBoot}
	defaultKey = []byte{tableDefault}
)

// wasPowerCut reports whether the machine, or the filesystem of the bodies, was
// started anew since this vault was last used.
func (s *FS) wasPowerCut() (bool, error) {
	v, ok, err := s.local.Get(bootKey)
	if err != nil || !ok {
		return ok, err
	}
	now, err := s.boot()
	if err != nil || now == "" {
		return true, err
	}
	was := string(v)
	if strings.Count(was, " ") == 1 && !s.db.Restored() {
		was += " " + s.db.Lineage() // earlier releases did not record it
	}
	return was != now, nil
}

func (s *FS) recordBoot() error {
	now, err := s.boot()
	if err != nil {
		return err
	}
	pos, err := s.local.Update(func(tx *ledger.Tx) error {
		tx.Put(bootKey, []byte(now))
		return nil
	})
	if err != nil {
		return err
	}
	return s.db.Sync(s.ctx, pos)
}
