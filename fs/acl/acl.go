// Package acl is the arithmetic of POSIX access control lists as Linux keeps them: the
// value of an extended attribute on one side, permission bits on the other. It holds no
// state and does no I/O; who may do what is decided by the kernel.
//
// The layout of the value is that of linux/posix_acl_xattr.h: a version, then 8 bytes an
// entry, little-endian. What happens to a list when a file is made in a directory or its
// mode is changed is that of acl(5) and POSIX 1003.1e draft 17.
package acl

import (
	"encoding/binary"
	"syscall"
)

// The attributes that the lists are read and set by.
const (
	// Access decides who may do what.
	Access = "system.posix_acl_access"
	// Default is, of a directory, what is made in it gets.
	Default = "system.posix_acl_default"
)

// Tag says whom an entry is for.
type Tag uint16

// The tags, in the order in which they stand in a list.
const (
	UserObj  Tag = 0x01 // the owner
	User     Tag = 0x02 // a user by number
	GroupObj Tag = 0x04 // the owning group
	Group    Tag = 0x08 // a group by number
	Mask     Tag = 0x10 // the most that User, GroupObj and Group get
	Other    Tag = 0x20 // everybody else
)

// noID is the number of an entry that is for nobody by number.
const noID = 1<<32 - 1

// Entry is what somebody may do: a sum of 4, 2 and 1, as in a mode.
type Entry struct {
	Tag  Tag
	Perm uint16
	ID   uint32 // of a User or Group
}

// List is one list, in the order that Parse asks for.
type List []Entry

const (
	version   = 2
	headerLen = 4
	entryLen  = 8
)

// Parse reads the value of an attribute. EINVAL for what is no list: entries that are
// missing, in the wrong order, or twice.
func Parse(value []byte) (List, error) {
	if len(value) < headerLen || (len(value)-headerLen)%entryLen != 0 || binary.LittleEndian.Uint32(value) != version {
		return nil, syscall.EINVAL
	}
	var l List
	for b := value[headerLen:]; len(b) > 0; b = b[entryLen:] {
		e := Entry{Tag: Tag(binary.LittleEndian.Uint16(b)), Perm: binary.LittleEndian.Uint16(b[2:])}
		if e.Tag == User || e.Tag == Group {
			e.ID = binary.LittleEndian.Uint32(b[4:])
		}
		l = append(l, e)
	}
	return l, l.check()
}

// check tells whether the entries are those of a list: one each for the owner, the group
// and others, users and groups by number in between, and a mask if there are any of those.
func (l List) check() error {
	var seen Tag
	for i, e := range l {
		if e.Perm&^7 != 0 || i > 0 && e.Tag < l[i-1].Tag {
			return syscall.EINVAL
		}
		switch e.Tag {
		case User, Group:
			if e.ID == noID {
				return syscall.EINVAL
			}
		case UserObj, GroupObj, Mask, Other:
			if seen&e.Tag != 0 {
				return syscall.EINVAL
			}
		default:
			return syscall.EINVAL
		}
		seen |= e.Tag
	}
	if named := seen & (User | Group); seen&UserObj == 0 || seen&GroupObj == 0 || seen&Other == 0 || named != 0 && seen&Mask == 0 {
		return syscall.EINVAL
	}
	return nil
}

// Value is the reverse of Parse.
func (l List) Value() []byte {
	b := make([]byte, headerLen, headerLen+len(l)*entryLen)
	binary.LittleEndian.PutUint32(b, version)
	for _, e := range l {
		id := e.ID
		if e.Tag != User && e.Tag != Group {
			id = noID
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(e.Tag))
		b = binary.LittleEndian.AppendUint16(b, e.Perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	return b
}

// Minimal reports whether permission bits say all that the list does.
func (l List) Minimal() bool {
	for _, e := range l {
		if e.Tag != UserObj && e.Tag != GroupObj && e.Tag != Other {
			return false
		}
	}
	return true
}

// shift is where in permission bits an entry stands, if it does: the mask stands in the
// place of the owning group.
func (l List) shift(e Entry) (n uint, ok bool) {
	switch e.Tag {
	case UserObj:
		return 6, true
	case Mask:
		return 3, true
	case GroupObj:
		return 3, l.Minimal()
	case Other:
		return 0, true
	}
	return 0, false
}

// Mode is mode with the permission bits that the list stands for.
func (l List) Mode(mode uint32) uint32 {
	for _, e := range l {
		if n, ok := l.shift(e); ok {
			mode = mode&^(7<<n) | uint32(e.Perm)<<n
		}
	}
	return mode
}

// Chmod is the list after a chmod(2).
func (l List) Chmod(mode uint32) List {
	out := append(List(nil), l...)
	for i, e := range out {
		if n, ok := l.shift(e); ok {
			out[i].Perm = uint16(mode >> n & 7)
		}
	}
	return out
}

// Inherit is what a file gets that is made with a mode, no umask applied, in a directory
// whose default list is l: its access list, and its mode. Both give no more than the other.
func (l List) Inherit(mode uint32) (List, uint32) {
	out := append(List(nil), l...)
	for i, e := range out {
		if n, ok := l.shift(e); ok {
			out[i].Perm &= uint16(mode >> n & 7)
		}
	}
	return out, out.Mode(mode)
}
