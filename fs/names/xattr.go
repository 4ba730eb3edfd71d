package names

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/store/ledger"
)

// GetXattr gives the value of an extended attribute. ENODATA if it is not set.
func (t *Tree) GetXattr(ino Ino, name string) ([]byte, error) {
	if err := checkXattrName(name); err != nil {
		return nil, err
	}
	v, ok, err := t.space.Get(xattrKey(ino, name))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, syscall.ENODATA
	}
	return decodeBytes("extended attribute "+name, ino, v)
}

// SetXattr sets an extended attribute. flags are those of setxattr(2):
// XATTR_CREATE gives EEXIST where it is set, XATTR_REPLACE ENODATA where it is
// not. E2BIG past MaxXattrValue, ENOSPC past MaxXattrList. Access control lists are
// set by SetACL.
func (t *Tree) SetXattr(ino Ino, name string, value []byte, flags int) (ledger.Position, error) {
	if err := checkXattrName(name); err != nil {
		return 0, err
	}
	if len(value) > MaxXattrValue {
		return 0, syscall.E2BIG
	}
	if flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0 {
		return 0, syscall.EINVAL
	}
	return t.update(func(o *op) error {
		in, err := o.load(ino)
		if err != nil {
			return err
		}
		_, ok, err := o.tx.Get(xattrKey(ino, name))
		switch {
		case err != nil:
			return err
		case ok && flags&unix.XATTR_CREATE != 0:
			return syscall.EEXIST
		case !ok && flags&unix.XATTR_REPLACE != 0:
			return syscall.ENODATA
		}
		return o.putXattr(in, name, value)
	})
}

// putXattr sets an attribute. One that has the value changes nothing, as on ext4. ENOSPC
// past MaxXattrList.
func (o *op) putXattr(in *Inode, name string, value []byte) error {
	key, v := xattrKey(in.Ino, name), encodeBytes(value)
	was, ok, err := o.tx.Get(key)
	if err != nil || ok && bytes.Equal(was, v) {
		return err
	}
	if !ok {
		n := 0
		err := eachXattr(o.tx, in.Ino, func(other string) { n += len(other) + 1 })
		if err != nil {
			return err
		}
		if n+len(name)+1 > MaxXattrList {
			return syscall.ENOSPC
		}
	}
	o.tx.Put(key, v)
	in.Ctime = o.now
	return nil
}

// RemoveXattr removes an extended attribute. ENODATA if it is not set, unless it is an access
// control list: that there is none is what was wanted.
func (t *Tree) RemoveXattr(ino Ino, name string) (ledger.Position, error) {
	if err := checkXattrName(name); err != nil {
		return 0, err
	}
	return t.update(func(o *op) error { return o.removeXattr(ino, name) })
}

// RemoveXattrTx is RemoveXattr inside an update of the shared space. ENODATA changes nothing.
func (t *Tree) RemoveXattrTx(tx *ledger.Tx, ino Ino, name string) error {
	if err := checkXattrName(name); err != nil {
		return err
	}
	o := &op{tx: tx, now: t.now(), acls: t.HasACLs()}
	if err := o.removeXattr(ino, name); err != nil {
		return err
	}
	return o.finish()
}

func (o *op) removeXattr(ino Ino, name string) error {
	in, err := o.load(ino)
	if err != nil {
		return err
	}
	key := xattrKey(ino, name)
	_, ok, err := o.tx.Get(key)
	switch {
	case err != nil:
		return err
	case !ok && isACL(name):
		return nil
	case !ok:
		return syscall.ENODATA
	}
	o.tx.Delete(key)
	in.Ctime = o.now
	return nil
}

// ListXattr gives the names of an inode's extended attributes, in order.
func (t *Tree) ListXattr(ino Ino) ([]string, error) {
	var names []string
	err := eachXattr(t.space, ino, func(name string) { names = append(names, name) })
	return names, err
}

// scanner reads ranges: a space of the ledger, or a transaction.
type scanner interface {
	Scan(from, to []byte, limit int) ([]ledger.Pair, error)
}

func eachXattr(s scanner, ino Ino, do func(name string)) error {
	return each(s, xattrKey(ino, ""), after(tableXattr, uint64(ino)), func(p ledger.Pair) error {
		do(string(p.Key[9:]))
		return nil
	})
}

// each goes through a range page by page.
func each(s scanner, from, to []byte, do func(ledger.Pair) error) error {
	for {
		ps, err := s.Scan(from, to, scanPage)
		if err != nil || len(ps) == 0 {
			return err
		}
		for _, p := range ps {
			if err := do(p); err != nil {
				return err
			}
		}
		from = append(ps[len(ps)-1].Key, 0)
	}
}

func checkXattrName(name string) error {
	if name == "" || len(name) > MaxXattrName {
		return syscall.ERANGE
	}
	return nil
}
