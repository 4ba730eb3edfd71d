package names

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// version is the first byte of every value this package writes.
const version = 1

func corrupt(what string, subject any, detail string) error {
	return &store.Error{Kind: store.Corrupt, Op: "read " + what, Subject: fmt.Sprint(subject), Detail: detail,
		Hint: "run `stasis check`; a backup can be put back with `stasis restore`"}
}

// reader takes fields off a value. After the first field that does not fit,
// every further one is zero and ok is false.
type reader struct {
	p  []byte
	ok bool
}

// open starts reading a value after its version byte.
func open(p []byte) reader {
	if len(p) == 0 || p[0] != version {
		return reader{}
	}
	return reader{p[1:], true}
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.p)
	if n <= 0 {
		r.p, r.ok = nil, false
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.ok = false
	}
	return uint32(v)
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.p)
	if n <= 0 {
		r.p, r.ok = nil, false
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.p) == 0 {
		r.ok = false
		return 0
	}
	b := r.p[0]
	r.p = r.p[1:]
	return b
}

func (r *reader) fixed64() int64 {
	if len(r.p) < 8 {
		r.p, r.ok = nil, false
		return 0
	}
	v := binary.BigEndian.Uint64(r.p)
	r.p = r.p[8:]
	return int64(v)
}

func (r *reader) rest() string {
	s := string(r.p)
	r.p = nil
	return s
}

// done reports whether the value was whole and nothing is left of it.
func (r *reader) done() bool { return r.ok && len(r.p) == 0 }

// encodeInode leaves out the number, which is the key. The birth time is fixed
// in width and the other times are differences to it: of a new file one byte each.
func encodeInode(in *Inode) []byte {
	p := make([]byte, 1, 64+len(in.Target))
	p[0] = version
	p = binary.AppendUvarint(p, uint64(in.Mode))
	p = binary.AppendUvarint(p, uint64(in.UID))
	p = binary.AppendUvarint(p, uint64(in.GID))
	p = binary.AppendUvarint(p, uint64(in.Nlink))
	p = binary.AppendUvarint(p, uint64(in.Rdev))
	p = binary.AppendUvarint(p, uint64(in.Size))
	p = binary.BigEndian.AppendUint64(p, uint64(in.Btime))
	p = binary.AppendVarint(p, in.Atime-in.Btime)
	p = binary.AppendVarint(p, in.Mtime-in.Btime)
	p = binary.AppendVarint(p, in.Ctime-in.Btime)
	p = binary.AppendUvarint(p, uint64(in.List))
	p = binary.AppendUvarint(p, uint64(in.Parent))
	p = binary.AppendUvarint(p, in.cookie)
	return append(p, in.Target...)
}

func decodeInode(ino Ino, p []byte) (Inode, error) {
	r := open(p)
	in := Inode{Ino: ino, Mode: r.uint32(), UID: r.uint32(), GID: r.uint32(), Nlink: r.uint32(), Rdev: r.uint32()}
	in.Size = int64(r.uvarint())
	in.Btime = r.fixed64()
	in.Atime = in.Btime + r.varint()
	in.Mtime = in.Btime + r.varint()
	in.Ctime = in.Btime + r.varint()
	in.List = ListID(r.uvarint())
	in.Parent = Ino(r.uvarint())
	in.cookie = r.uvarint()
	in.Target = r.rest()
	switch {
	case !r.done():
		return Inode{}, corrupt("inode", uint64(ino), "its record is not whole, or of a newer version")
	case in.Mode>>16 != 0 || !knownType(typeNibble(in.Mode)):
		return Inode{}, corrupt("inode", uint64(ino), fmt.Sprintf("mode %#o is of no known type", in.Mode))
	case in.Size < 0:
		return Inode{}, corrupt("inode", uint64(ino), "its size is out of range")
	case (in.Target != "") != in.IsSymlink() || len(in.Target) > MaxTarget:
		return Inode{}, corrupt("inode", uint64(ino), "its symlink target does not fit its type")
	}
	return in, nil
}

// dentry is what a name leads to.
type dentry struct {
	ino    Ino
	mode   uint32 // S_IFMT bits
	cookie uint64
}

func encodeDentry(d dentry) []byte {
	p := make([]byte, 2, 16)
	p[0], p[1] = version, typeNibble(d.mode)
	p = binary.AppendUvarint(p, uint64(d.ino))
	return binary.AppendUvarint(p, d.cookie)
}

func decodeDentry(dir Ino, name string, p []byte) (dentry, error) {
	r := open(p)
	t := r.byte()
	d := dentry{mode: uint32(t) << 12, ino: Ino(r.uvarint()), cookie: r.uvarint()}
	if !r.done() || !knownType(t) || d.ino == 0 {
		return dentry{}, corrupt("directory entry", fmt.Sprintf("%q of inode %d", name, dir), "its record is not whole")
	}
	return d, nil
}

// encodeEntry is a cookie record: all that a listing needs.
func encodeEntry(name string, d dentry) []byte {
	p := make([]byte, 2, 12+len(name))
	p[0], p[1] = version, typeNibble(d.mode)
	p = binary.AppendUvarint(p, uint64(d.ino))
	return append(p, name...)
}

func decodeEntry(dir Ino, key, p []byte) (Entry, error) {
	r := open(p)
	t := r.byte()
	e := Entry{Type: uint32(t) << 12, Ino: Ino(r.uvarint()), Name: r.rest()}
	if !r.done() || !knownType(t) || e.Ino == 0 || len(key) != 17 || checkName(e.Name) != nil {
		return Entry{}, corrupt("directory listing", fmt.Sprintf("of inode %d", dir), "a record is not whole")
	}
	e.Cookie = binary.BigEndian.Uint64(key[9:])
	return e, nil
}

// usage is what the counters hold.
type usage struct {
	files int64 // inodes other than directories
	bytes int64 // sizes of regular files
}

func encodeUsage(u usage) []byte {
	p := binary.AppendVarint([]byte{version}, u.files)
	return binary.AppendVarint(p, u.bytes)
}

func decodeUsage(p []byte) (usage, error) {
	r := open(p)
	u := usage{files: r.varint(), bytes: r.varint()}
	if !r.done() {
		return usage{}, corrupt("counters", "of the vault", "the record is not whole")
	}
	return u, nil
}

func encodeMark(n uint64) []byte { return binary.AppendUvarint([]byte{version}, n) }

func decodeMark(p []byte) (uint64, error) {
	r := open(p)
	n := r.uvarint()
	if !r.done() {
		return 0, corrupt("high-water mark", "of the vault", "the record is not whole")
	}
	return n, nil
}

// encodeBytes carries a value that this package does not look into.
func encodeBytes(p []byte) []byte { return append([]byte{version}, p...) }

func decodeBytes(what string, ino Ino, p []byte) ([]byte, error) {
	r := open(p)
	if !r.ok {
		return nil, corrupt(what, fmt.Sprintf("of inode %d", ino), "its record is not whole, or of a newer version")
	}
	return r.p, nil
}

// sizeOf is what an inode adds to the counters.
func sizeOf(in *Inode) usage {
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return usage{}
	case unix.S_IFREG:
		return usage{1, in.Size}
	}
	return usage{files: 1}
}
