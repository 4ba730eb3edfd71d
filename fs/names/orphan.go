package names

import (
	"encoding/binary"
	"syscall"

	"stasis/store/ledger"
)

// Orphans gives the inodes that have no name.
func (t *Tree) Orphans() ([]Ino, error) {
	var inos []Ino
	err := each(t.space, []byte{tableOrphan}, []byte{tableOrphan + 1}, func(p ledger.Pair) error {
		if len(p.Key) != 9 {
			return corrupt("orphans", "of the vault", "a key is not whole")
		}
		inos = append(inos, Ino(binary.BigEndian.Uint64(p.Key[1:])))
		return nil
	})
	return inos, err
}

// Remove deletes an orphan with its attributes and policy. with, unless nil,
// runs in the same update and gets the inode as it was, so that its list can be
// noted for tearing down; it may run again. ENOENT if there is no such inode,
// EBUSY if it has a name (again).
//
// Many attributes are deleted in updates of their own before the last one; after a
// crash between them the inode is still an orphan.
func (t *Tree) Remove(ino Ino, with func(*ledger.Tx, Inode) error) (ledger.Position, error) {
	for {
		more := false
		pos, err := t.update(func(o *op) error {
			in, err := o.load(ino)
			if err != nil {
				return err
			}
			if in.Nlink != 0 {
				return syscall.EBUSY
			}
			ps, err := o.tx.Scan(xattrKey(ino, ""), after(tableXattr, uint64(ino)), removeBatch)
			if err != nil {
				return err
			}
			for _, p := range ps {
				o.tx.Delete(p.Key)
			}
			if more = len(ps) == removeBatch; more {
				return nil
			}
			o.tx.Delete(orphanKey(ino))
			o.tx.Delete(policyKey(ino))
			was := *in
			o.remove(in)
			if with != nil {
				return with(o.tx, was)
			}
			return nil
		})
		if err != nil || !more {
			t.inherits.gone(ino)
			return pos, err
		}
	}
}
