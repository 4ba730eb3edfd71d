package names

import (
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/store/ledger"
)

// op is one operation inside an update: it loads inodes once, lets them be
// changed in place, and writes those that changed, with the counters.
type op struct {
	tx     *ledger.Tx
	now    int64
	acls   bool // there may be access control lists
	inodes []*loaded
}

type loaded struct {
	was     Inode // as in the ledger; zero if it is not there yet
	now     Inode
	removed bool
}

// load gives an inode to read or change in place. ENOENT if there is none.
func (o *op) load(ino Ino) (*Inode, error) {
	for _, l := range o.inodes {
		if l.now.Ino == ino && !l.removed {
			return &l.now, nil
		}
	}
	v, ok, err := o.tx.Get(inodeKey(ino))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, syscall.ENOENT
	}
	in, err := decodeInode(ino, v)
	if err != nil {
		return nil, err
	}
	l := &loaded{was: in, now: in}
	o.inodes = append(o.inodes, l)
	return &l.now, nil
}

// loadDir gives a directory that can take and lose entries.
func (o *op) loadDir(ino Ino) (*Inode, error) {
	in, err := o.load(ino)
	switch {
	case err != nil:
		return nil, err
	case !in.IsDir():
		return nil, syscall.ENOTDIR
	case in.Nlink == 0:
		return nil, syscall.ENOENT
	}
	return in, nil
}

func (o *op) add(in Inode) *Inode {
	l := &loaded{now: in}
	o.inodes = append(o.inodes, l)
	return &l.now
}

func (o *op) remove(in *Inode) {
	for _, l := range o.inodes {
		if &l.now == in {
			l.removed = true
		}
	}
}

// finish writes what changed.
func (o *op) finish() error {
	var d usage
	for _, l := range o.inodes {
		if l.was.Ino != 0 {
			u := sizeOf(&l.was)
			d.files, d.bytes = d.files-u.files, d.bytes-u.bytes
		}
		if l.removed {
			o.tx.Delete(inodeKey(l.now.Ino))
			continue
		}
		u := sizeOf(&l.now)
		d.files, d.bytes = d.files+u.files, d.bytes+u.bytes
		if l.was != l.now {
			o.tx.Put(inodeKey(l.now.Ino), encodeInode(&l.now))
		}
	}
	if d == (usage{}) {
		return nil
	}
	u, err := readUsage(o.tx)
	if err != nil {
		return err
	}
	o.tx.Put(keyUsage, encodeUsage(usage{u.files + d.files, u.bytes + d.bytes}))
	return nil
}

// dentry looks up a name; ok is false if it does not exist.
func (o *op) dentry(dir Ino, name string) (d dentry, ok bool, err error) {
	if err := checkName(name); err != nil {
		return dentry{}, false, err
	}
	return readDentry(o.tx, dir, name)
}

// free tests that a name can be made. EEXIST.
func (o *op) free(dir Ino, name string) error {
	_, ok, err := o.dentry(dir, name)
	if ok {
		return syscall.EEXIST
	}
	return err
}

// enter writes a name, new or with another meaning, and hints at it in the inode.
func (o *op) enter(dir *Inode, name string, in *Inode, cookie uint64) {
	d := dentry{in.Ino, in.Mode & unix.S_IFMT, cookie}
	o.tx.Put(dentryKey(dir.Ino, name), encodeDentry(d))
	o.tx.Put(cookieKey(dir.Ino, cookie), encodeEntry(name, d))
	in.Parent, in.cookie = dir.Ino, cookie
	o.touch(dir)
}

// leave deletes a name and its place in the listing.
func (o *op) leave(dir *Inode, name string, cookie uint64) {
	o.tx.Delete(dentryKey(dir.Ino, name))
	o.tx.Delete(cookieKey(dir.Ino, cookie))
	o.touch(dir)
}

// touch sets the times of a directory whose entries changed.
func (o *op) touch(dir *Inode) { dir.Mtime, dir.Ctime = o.now, o.now }

// unlinked takes one name from an inode, a directory's only one included.
func (o *op) unlinked(in *Inode) {
	in.Ctime = o.now
	if in.IsDir() {
		in.Nlink = 0
	} else {
		in.Nlink--
	}
	if in.Nlink == 0 {
		o.tx.Put(orphanKey(in.Ino), []byte{version})
	}
}

// empty reports whether a directory has no entries.
func (o *op) empty(dir Ino) (bool, error) {
	ps, err := o.tx.Scan(numberKey(tableDentry, uint64(dir), 0), after(tableDentry, uint64(dir)), 1)
	return len(ps) == 0, err
}

// within reports whether dir is the directory top or lies below it.
func (o *op) within(dir, top Ino) (bool, error) {
	for range MaxDepth {
		if dir == top {
			return true, nil
		}
		if dir == Root {
			return false, nil
		}
		in, err := o.load(dir)
		if err == syscall.ENOENT || err == nil && in.Nlink == 0 {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		dir = in.Parent
	}
	return false, corrupt("directory", uint64(dir), "its parents lead in a circle")
}

// getter reads single keys: a space of the ledger, or a transaction.
type getter interface {
	Get(key []byte) ([]byte, bool, error)
}

func readDentry(g getter, dir Ino, name string) (d dentry, ok bool, err error) {
	v, ok, err := g.Get(dentryKey(dir, name))
	if !ok || err != nil {
		return dentry{}, false, err
	}
	d, err = decodeDentry(dir, name, v)
	return d, err == nil, err
}

func readInode(g getter, ino Ino) (Inode, error) {
	v, ok, err := g.Get(inodeKey(ino))
	if err != nil {
		return Inode{}, err
	}
	if !ok {
		return Inode{}, syscall.ENOENT
	}
	return decodeInode(ino, v)
}

func readUsage(g getter) (usage, error) {
	v, ok, err := g.Get(keyUsage)
	if !ok || err != nil {
		return usage{}, err
	}
	return decodeUsage(v)
}
