package names

import (
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/store/ledger"
)

// Ino is the number of an inode. 0 is none.
type Ino uint64

// Root is the inode of the vault's top directory.
const Root Ino = 1

// ListID names an extent list. 0 is no content: every byte of the file is zero.
type ListID uint64

// Inode is what the namespace knows of a file, directory, symlink or special
// file. Times are in nanoseconds since the epoch and may be negative.
type Inode struct {
	Ino   Ino
	Mode  uint32 // type (S_IFMT) and permissions
	UID   uint32
	GID   uint32
	Nlink uint32
	Rdev  uint32
	Size  int64 // bytes; of a regular file, that of the content in List
	Atime int64
	Mtime int64
	Ctime int64
	Btime int64
	List  ListID // regular files only
	// Parent is the directory that a directory lies in; the root is its own. Of anything
	// else it is a hint: the directory in which the name given last lies, if it still does.
	Parent Ino
	Target string // of a symlink

	cookie uint64 // of the dentry given last, in Parent
}

// IsDir reports whether the inode is a directory.
func (in *Inode) IsDir() bool { return in.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular reports whether the inode is a regular file.
func (in *Inode) IsRegular() bool { return in.Mode&unix.S_IFMT == unix.S_IFREG }

// IsSymlink reports whether the inode is a symbolic link.
func (in *Inode) IsSymlink() bool { return in.Mode&unix.S_IFMT == unix.S_IFLNK }

// Spec describes an inode to create.
type Spec struct {
	Ino    Ino    // that NewIno gave; 0 takes a new one
	Mode   uint32 // type (S_IFMT; 0 is a regular file) and permissions
	Umask  uint32 // permissions that are left out, unless the parent has a default ACL
	UID    uint32
	GID    uint32 // taken from a parent with the setgid bit instead
	Rdev   uint32 // device nodes only
	Target string // symlinks only, not empty
}

// Entry is one line of a directory listing.
type Entry struct {
	Name   string
	Ino    Ino
	Type   uint32 // S_IFMT bits
	Cookie uint64 // where a listing goes on after this entry
}

// FirstCookie is below every cookie of a dentry and above 2: the values 1 and 2
// are free for "." and "..".
const FirstCookie = 16

// Rename describes a rename.
type Rename struct {
	From    Ino
	Name    string
	To      Ino
	NewName string
	// NoReplace fails with EEXIST where NewName exists.
	NoReplace bool
	// Exchange swaps two names that both exist.
	Exchange bool
	// Inherit says that the file moved has no settled content of its own yet: if its
	// List is 0 and it takes the last name of a regular file, it takes over that one's
	// List and Size too, and the replaced inode is left with none.
	Inherit bool
	// With, unless nil, is run in the update that makes the rename.
	With func(tx *ledger.Tx)
}

// typeNibble is S_IFMT in four bits, as in d_type.
func typeNibble(mode uint32) byte { return byte(mode & unix.S_IFMT >> 12) }

func knownType(nibble byte) bool {
	switch uint32(nibble) << 12 {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		return true
	}
	return false
}

// checkName refuses what can't be the name of a dentry.
func checkName(name string) error {
	switch {
	case name == "":
		return syscall.ENOENT
	case len(name) > MaxName:
		return syscall.ENAMETOOLONG
	case name == "." || name == "..":
		return syscall.EINVAL
	}
	for i := range len(name) {
		if name[i] == 0 || name[i] == '/' {
			return syscall.EINVAL
		}
	}
	return nil
}
