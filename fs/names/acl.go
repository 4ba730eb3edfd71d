package names

import (
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/fs/acl"
	"stasis/store/ledger"
)

// Access control lists are kept as the extended attributes that they are read and set by.
// The permission bits of an inode and its access list say the same of owner, mask and others
// at all times; a list that says no more than the bits is not kept.
//
// Most vaults have none. Until the first is set, which the ledger notes, nothing is looked
// up for them.

// HasACLs reports whether an access control list was ever set in this namespace.
func (t *Tree) HasACLs() bool { return t.acls.Load() }

// isACL reports whether an attribute is an access control list.
func isACL(name string) bool { return name == acl.Access || name == acl.Default }

// SetACL sets an access control list, given as the value of one of the attributes in
// package acl, and with an access list the permission bits. killSGID clears set-group-id.
// EINVAL for what is no list, EACCES for a default list of anything but a directory,
// EOPNOTSUPP for a symlink.
func (t *Tree) SetACL(ino Ino, name string, value []byte, killSGID bool) (ledger.Position, error) {
	if !isACL(name) {
		return 0, syscall.EINVAL
	}
	list, err := acl.Parse(value)
	if err != nil {
		return 0, err
	}
	t.acls.Store(true) // before there is one that somebody would miss
	return t.update(func(o *op) error {
		in, err := o.load(ino)
		switch {
		case err != nil:
			return err
		case in.IsSymlink():
			return syscall.EOPNOTSUPP
		case name == acl.Default && !in.IsDir():
			return syscall.EACCES
		}
		o.tx.Put(keyACLs, []byte{version})
		if name == acl.Default {
			return o.putXattr(in, name, list.Value())
		}
		mode := list.Mode(in.Mode)
		if killSGID {
			mode &^= unix.S_ISGID
		}
		if mode != in.Mode {
			in.Mode, in.Ctime = mode, o.now
		}
		return o.putAccess(in, list)
	})
}

// putAccess keeps an access list, unless permission bits say the same.
func (o *op) putAccess(in *Inode, list acl.List) error {
	if !list.Minimal() {
		return o.putXattr(in, acl.Access, list.Value())
	}
	key := xattrKey(in.Ino, acl.Access)
	_, ok, err := o.tx.Get(key)
	if err == nil && ok {
		o.tx.Delete(key)
		in.Ctime = o.now
	}
	return err
}

// list gives an access control list; ok is false if there is none.
func (o *op) list(ino Ino, name string) (l acl.List, ok bool, err error) {
	v, ok, err := o.tx.Get(xattrKey(ino, name))
	if err != nil || !ok {
		return nil, false, err
	}
	if v, err = decodeBytes("extended attribute "+name, ino, v); err != nil {
		return nil, false, err
	}
	if l, err = acl.Parse(v); err != nil {
		return nil, false, corrupt("access control list", uint64(ino), "it is none")
	}
	return l, true, nil
}

// inherit gives an inode that is made in a directory what it gets from there, or applies
// the umask where that has no default list.
func (o *op) inherit(dir, in *Inode, umask uint32) error {
	if in.IsSymlink() {
		return nil
	}
	var from acl.List
	ok, err := false, error(nil)
	if o.acls {
		from, ok, err = o.list(dir.Ino, acl.Default)
	}
	if err != nil {
		return err
	}
	if !ok {
		in.Mode &^= umask & 0o777
		return nil
	}
	list, mode := from.Inherit(in.Mode)
	in.Mode = mode
	if in.IsDir() {
		if err := o.putXattr(in, acl.Default, from.Value()); err != nil {
			return err
		}
	}
	return o.putAccess(in, list)
}

// follow has the access list of an inode say what its new permission bits do.
func (o *op) follow(in *Inode) error {
	if !o.acls {
		return nil
	}
	list, ok, err := o.list(in.Ino, acl.Access)
	if err != nil || !ok {
		return err
	}
	return o.putAccess(in, list.Chmod(in.Mode))
}
