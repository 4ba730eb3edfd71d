package names

import (
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store/ledger"
)

// Options of a Tree; the zero value is good.
type Options struct {
	// RootUID, RootGID and RootMode (permissions; 0 means 0755) are what the root gets when it is
	// made.
	RootUID, RootGID, RootMode uint32
	// Now is the clock, in nanoseconds since the epoch; nil means Now.
	Now func() int64
}

// Tree is the namespace of one vault. All methods may be called concurrently.
// Unless a method says otherwise a change survives the death of the process when
// the method returns, and a power cut once the ledger is synced up to the Position
// returned.
type Tree struct {
	space   *ledger.Space
	now     func() int64
	inos    *allocator
	cookies *allocator
	lists   *allocator
	acls    atomic.Bool // an access control list was set once

	inherits inheritance
}

// Now is the time as the kernel stamps files with it, in nanoseconds since the
// epoch: its coarse clock, so that a file made here is not newer than one that the
// body filesystem stamps a moment later.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts); err != nil {
		return time.Now().UnixNano()
	}
	return ts.Nano()
}

// Open gives the namespace in db and makes its root if it is new.
func Open(db *ledger.DB, o Options) (*Tree, error) {
	t := &Tree{space: db.Space(ledger.Shared), now: o.Now}
	if t.now == nil {
		t.now = Now
	}
	if o.RootMode == 0 {
		o.RootMode = 0o755
	}
	var err error
	if t.inos, err = newAllocator(t.space, keyInos, uint64(Root)+1); err != nil {
		return nil, err
	}
	if t.cookies, err = newAllocator(t.space, keyCookies, FirstCookie); err != nil {
		return nil, err
	}
	if t.lists, err = newAllocator(t.space, keyLists, 1); err != nil {
		return nil, err
	}
	_, acls, err := t.space.Get(keyACLs)
	if err != nil {
		return nil, err
	}
	t.acls.Store(acls)
	if _, err = t.Get(Root); err != syscall.ENOENT {
		return t, err
	}
	now := t.now()
	_, err = t.space.Update(func(tx *ledger.Tx) error {
		tx.Put(inodeKey(Root), encodeInode(&Inode{
			Ino: Root, Mode: unix.S_IFDIR | o.RootMode&0o7777, UID: o.RootUID, GID: o.RootGID, Nlink: 2, Size: directorySize,
			Atime: now, Mtime: now, Ctime: now, Btime: now, Parent: Root,
		}))
		return nil
	})
	return t, err
}

// update runs one operation.
func (t *Tree) update(fn func(o *op) error) (ledger.Position, error) {
	now := t.now()
	return t.space.Update(func(tx *ledger.Tx) error {
		o := &op{tx: tx, now: now, acls: t.HasACLs()}
		if err := fn(o); err != nil {
			return err
		}
		return o.finish()
	})
}

// Get gives an inode, an orphan included. ENOENT if there is none.
func (t *Tree) Get(ino Ino) (Inode, error) { return readInode(t.space, ino) }

// GetTx is Get inside an update of the shared space.
func (t *Tree) GetTx(tx *ledger.Tx, ino Ino) (Inode, error) { return readInode(tx, ino) }

// Lookup gives the inode a name leads to. ENOENT, ENOTDIR, ENAMETOOLONG.
func (t *Tree) Lookup(parent Ino, name string) (Inode, error) {
	if err := checkName(name); err != nil {
		if why := t.missing(parent); why != nil {
			return Inode{}, why
		}
		return Inode{}, err
	}
	var before dentry
	for {
		d, ok, err := readDentry(t.space, parent, name)
		if err != nil {
			return Inode{}, err
		}
		if !ok {
			return Inode{}, errOr(t.missing(parent), syscall.ENOENT)
		}
		in, err := readInode(t.space, d.ino)
		if err != syscall.ENOENT {
			return in, err
		}
		// The name was taken away between the two reads, and its inode removed.
		if d == before {
			return Inode{}, corrupt("directory entry", name, "it leads to an inode that does not exist")
		}
		before = d
	}
}

// missing says why nothing can be found in a directory at all, if that is so.
func (t *Tree) missing(dir Ino) error {
	in, err := t.Get(dir)
	switch {
	case err != nil:
		return err
	case !in.IsDir():
		return syscall.ENOTDIR
	case in.Nlink == 0:
		return syscall.ENOENT
	}
	return nil
}

// ReadDir gives the entries after a cookie, 0 for the start, in the order of
// their cookies, at most limit; fewer than one only at the end. Entries that are
// there before and after the whole listing are in it once, however the directory
// changes meanwhile. ENOENT if the directory was removed.
func (t *Tree) ReadDir(dir Ino, cookie uint64, limit int) ([]Entry, error) {
	if err := t.missing(dir); err != nil {
		return nil, err
	}
	if cookie == 1<<64-1 {
		return nil, nil
	}
	ps, err := t.space.Scan(cookieKey(dir, cookie+1), after(tableCookie, uint64(dir)), max(1, limit))
	if err != nil {
		return nil, err
	}
	es := make([]Entry, len(ps))
	for i, p := range ps {
		if es[i], err = decodeEntry(dir, p.Key, p.Value); err != nil {
			return nil, err
		}
	}
	return es, nil
}

// LastCookie is at least as high as the cookie of every entry there is. A
// listing that stops at what LastCookie was when it began ends, even where each step
// of it makes new entries.
func (t *Tree) LastCookie() uint64 { return t.cookies.last() }

// NewIno gives the number of an inode that never was, for a Spec.
func (t *Tree) NewIno() (Ino, error) {
	n, err := t.inos.take()
	return Ino(n), err
}

// NewListID gives the id of a list that never was.
func (t *Tree) NewListID() (ListID, error) {
	n, err := t.lists.take()
	return ListID(n), err
}

// Counters gives the number of inodes other than directories, orphans included,
// and the sizes of the regular files among them, in bytes.
func (t *Tree) Counters() (files, bytes int64, err error) {
	u, err := readUsage(t.space)
	return u.files, u.bytes, err
}
