package names

import (
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/store/ledger"
)

// Create makes an inode and its name. EEXIST, ENOENT if the parent was removed,
// ENOTDIR, ENAMETOOLONG, EINVAL for a Spec that makes no sense.
func (t *Tree) Create(parent Ino, name string, s Spec) (Inode, ledger.Position, error) {
	ino, err := t.inoFor(s)
	if err != nil {
		return Inode{}, 0, err
	}
	cookie, err := t.cookies.take()
	if err != nil {
		return Inode{}, 0, err
	}
	var made Inode
	pos, err := t.update(func(o *op) error {
		dir, err := o.loadDir(parent)
		if err != nil {
			return err
		}
		if err := o.free(parent, name); err != nil {
			return err
		}
		in, err := o.create(ino, dir, s)
		if err != nil {
			return err
		}
		in.Nlink = 1
		if in.IsDir() {
			in.Nlink = 2
			dir.Nlink++
		}
		o.enter(dir, name, in, cookie)
		made = *in
		return nil
	})
	return made, pos, err
}

// Tmpfile makes a regular file without a name: an orphan until Link gives it
// one. parent is where it would inherit from.
func (t *Tree) Tmpfile(parent Ino, s Spec) (Inode, ledger.Position, error) {
	ino, err := t.inoFor(s)
	if err != nil {
		return Inode{}, 0, err
	}
	var made Inode
	pos, err := t.update(func(o *op) error {
		dir, err := o.loadDir(parent)
		if err != nil {
			return err
		}
		in, err := o.create(ino, dir, s)
		if err != nil {
			return err
		}
		if !in.IsRegular() {
			return syscall.EINVAL
		}
		in.Parent = parent
		o.tx.Put(orphanKey(in.Ino), []byte{version})
		made = *in
		return nil
	})
	return made, pos, err
}

// inoFor gives the number of an inode about to be made.
func (t *Tree) inoFor(s Spec) (Ino, error) {
	if s.Ino != 0 {
		return s.Ino, nil
	}
	return t.NewIno()
}

// create makes an inode that has no name yet.
func (o *op) create(ino Ino, dir *Inode, s Spec) (*Inode, error) {
	in := Inode{Ino: ino, Mode: s.Mode & (unix.S_IFMT | 0o7777), UID: s.UID, GID: s.GID,
		Atime: o.now, Mtime: o.now, Ctime: o.now, Btime: o.now}
	if in.Mode&unix.S_IFMT == 0 {
		in.Mode |= unix.S_IFREG
	}
	if !knownType(typeNibble(in.Mode)) || (s.Target != "") != in.IsSymlink() {
		return nil, syscall.EINVAL
	}
	if dir.Mode&unix.S_ISGID != 0 {
		in.GID = dir.GID
		if in.IsDir() {
			in.Mode |= unix.S_ISGID
		}
	}
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		in.Size = directorySize
	case unix.S_IFCHR, unix.S_IFBLK:
		in.Rdev = s.Rdev
	case unix.S_IFLNK:
		if len(s.Target) > MaxTarget {
			return nil, syscall.ENAMETOOLONG
		}
		in.Target, in.Size, in.Mode = s.Target, int64(len(s.Target)), unix.S_IFLNK|0o777
	}
	made := o.add(in)
	return made, o.inherit(dir, made, s.Umask)
}

// Link gives an inode one more name; an orphan its first. EPERM for a
// directory, EMLINK past MaxLinks, EEXIST, ENOENT if the inode was removed.
func (t *Tree) Link(ino, parent Ino, name string) (Inode, ledger.Position, error) {
	cookie, err := t.cookies.take()
	if err != nil {
		return Inode{}, 0, err
	}
	var linked Inode
	pos, err := t.update(func(o *op) error {
		dir, err := o.loadDir(parent)
		if err != nil {
			return err
		}
		if err := o.free(parent, name); err != nil {
			return err
		}
		in, err := o.load(ino)
		switch {
		case err != nil:
			return err
		case in.IsDir():
			return syscall.EPERM
		case in.Nlink >= MaxLinks:
			return syscall.EMLINK
		}
		if in.Nlink == 0 {
			o.tx.Delete(orphanKey(ino))
		}
		in.Nlink++
		in.Ctime = o.now
		o.enter(dir, name, in, cookie)
		linked = *in
		return nil
	})
	return linked, pos, err
}

// Unlink takes a name away. The inode is returned as it then is; without
// further names it is an orphan until Remove. EISDIR for a directory, ENOENT.
func (t *Tree) Unlink(parent Ino, name string) (Inode, ledger.Position, error) {
	return t.takeAway(parent, name, func(o *op, dir, in *Inode) error {
		if in.IsDir() {
			return syscall.EISDIR
		}
		return nil
	})
}

// Rmdir takes an empty directory away; it is an orphan until Remove. ENOTDIR,
// ENOTEMPTY, ENOENT.
func (t *Tree) Rmdir(parent Ino, name string) (Inode, ledger.Position, error) {
	return t.takeAway(parent, name, func(o *op, dir, in *Inode) error {
		if !in.IsDir() {
			return syscall.ENOTDIR
		}
		if empty, err := o.empty(in.Ino); err != nil {
			return err
		} else if !empty {
			return syscall.ENOTEMPTY
		}
		dir.Nlink--
		return nil
	})
}

func (t *Tree) takeAway(parent Ino, name string, check func(o *op, dir, in *Inode) error) (Inode, ledger.Position, error) {
	var left Inode
	pos, err := t.update(func(o *op) error {
		dir, err := o.loadDir(parent)
		if err != nil {
			return err
		}
		d, ok, err := o.dentry(parent, name)
		if err != nil {
			return err
		}
		if !ok {
			return syscall.ENOENT
		}
		in, err := o.named(d, name)
		if err != nil {
			return err
		}
		if err := check(o, dir, in); err != nil {
			return err
		}
		o.leave(dir, name, d.cookie)
		o.unlinked(in)
		left = *in
		return nil
	})
	return left, pos, err
}

// named loads the inode of a dentry, which must exist.
func (o *op) named(d dentry, name string) (*Inode, error) {
	in, err := o.load(d.ino)
	if err == syscall.ENOENT {
		return nil, corrupt("directory entry", name, "it leads to an inode that does not exist")
	}
	return in, err
}

// Update changes attributes of an inode: whatever fn sets, except the number,
// the type, the link count, the parent and the target, which stay. Times are fn's
// to set; only the change time follows by itself, where the permissions or the
// owner changed and fn did not set it, and an access control list with the permissions. An error of fn changes nothing; fn may run
// again. ENOENT, EINVAL for a size or list that the inode can't have.
func (t *Tree) Update(ino Ino, fn func(*Inode) error) (Inode, ledger.Position, error) {
	var after Inode
	pos, err := t.space.Update(func(tx *ledger.Tx) (err error) {
		after, err = t.UpdateTx(tx, ino, fn)
		return err
	})
	return after, pos, err
}

// UpdateTx is Update inside an update of the shared space, which may hold keys
// of the caller too. An error may leave the change half made in tx: the caller's fn
// must return it.
func (t *Tree) UpdateTx(tx *ledger.Tx, ino Ino, fn func(*Inode) error) (Inode, error) {
	o := &op{tx: tx, now: t.now(), acls: t.HasACLs()}
	in, err := o.load(ino)
	if err != nil {
		return Inode{}, err
	}
	was := *in
	if err := fn(in); err != nil {
		return Inode{}, err
	}
	in.Ino, in.Nlink, in.Parent, in.cookie, in.Target = was.Ino, was.Nlink, was.Parent, was.cookie, was.Target
	in.Mode = was.Mode&unix.S_IFMT | in.Mode&0o7777
	if in.Size < 0 || in.List != 0 && !in.IsRegular() {
		return Inode{}, syscall.EINVAL
	}
	if (in.Mode != was.Mode || in.UID != was.UID || in.GID != was.GID) && in.Ctime == was.Ctime {
		in.Ctime = o.now
	}
	if (in.Mode^was.Mode)&0o777 != 0 {
		if err := o.follow(in); err != nil {
			return Inode{}, err
		}
	}
	return *in, o.finish()
}
