package names

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"stasis/store/ledger"
)

// verify reads every table and tests the invariants of the package's
// documentation, from the records alone.
func verify(t *Tree) error {
	inodes := map[Ino]Inode{}
	links := map[Ino]uint32{}
	subdirs := map[Ino]uint32{}
	cookies := map[string]dentry{}
	var want usage
	err := table(t, tableInode, func(key, v []byte) error {
		ino := Ino(binary.BigEndian.Uint64(key[1:]))
		in, err := decodeInode(ino, v)
		if err != nil {
			return err
		}
		inodes[ino] = in
		u := sizeOf(&in)
		want = usage{want.files + u.files, want.bytes + u.bytes}
		return nil
	})
	if err != nil {
		return err
	}
	dentries := 0
	err = table(t, tableDentry, func(key, v []byte) error {
		dir, name := Ino(binary.BigEndian.Uint64(key[1:])), string(key[9:])
		d, err := decodeDentry(dir, name, v)
		if err != nil {
			return err
		}
		in, ok := inodes[d.ino]
		if !ok || in.Mode&unix.S_IFMT != d.mode {
			return fmt.Errorf("%q in %d leads to inode %d of another type, or none", name, dir, d.ino)
		}
		if parent := inodes[dir]; !parent.IsDir() || parent.Nlink == 0 {
			return fmt.Errorf("%q lies in %d, which is not a directory", name, dir)
		}
		links[d.ino]++
		if in.IsDir() {
			subdirs[dir]++
			if in.Parent != dir || in.cookie != d.cookie {
				return fmt.Errorf("directory %q lies in %d and says %d", name, dir, in.Parent)
			}
		}
		cookies[string(cookieKey(dir, d.cookie))+name] = d
		dentries++
		return nil
	})
	if err != nil {
		return err
	}
	entries := 0
	err = table(t, tableCookie, func(key, v []byte) error {
		e, err := decodeEntry(Ino(binary.BigEndian.Uint64(key[1:])), key, v)
		if err != nil {
			return err
		}
		if d, ok := cookies[string(key)+e.Name]; !ok || d.ino != e.Ino || d.mode != e.Type {
			return fmt.Errorf("listing has %+v, the dentry is %+v", e, d)
		}
		entries++
		return nil
	})
	if err != nil {
		return err
	}
	if entries != dentries {
		return fmt.Errorf("%d dentries and %d places in listings", dentries, entries)
	}
	orphans := map[Ino]bool{}
	err = table(t, tableOrphan, func(key, _ []byte) error {
		orphans[Ino(binary.BigEndian.Uint64(key[1:]))] = true
		return nil
	})
	if err != nil {
		return err
	}
	for ino, in := range inodes {
		nlink := links[ino]
		if in.IsDir() && (nlink == 1 || ino == Root) {
			nlink = 2 + subdirs[ino]
		}
		if in.Nlink != nlink || orphans[ino] != (nlink == 0) {
			return fmt.Errorf("inode %d has link count %d, orphan %v, and should have %d", ino, in.Nlink, orphans[ino], nlink)
		}
	}
	for ino := range orphans {
		if _, ok := inodes[ino]; !ok {
			return fmt.Errorf("orphan %d does not exist", ino)
		}
	}
	for _, tab := range []byte{tableXattr, tablePolicy} {
		err = table(t, tab, func(key, _ []byte) error {
			if _, ok := inodes[Ino(binary.BigEndian.Uint64(key[1:]))]; !ok {
				return fmt.Errorf("key %x belongs to no inode", key)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	files, bytes, err := t.Counters()
	if err == nil && want != (usage{files, bytes}) {
		err = fmt.Errorf("the counters say %d files, %d bytes; there are %+v", files, bytes, want)
	}
	return err
}

func table(t *Tree, first byte, do func(key, value []byte) error) error {
	return each(t.space, []byte{first}, []byte{first + 1}, func(p ledger.Pair) error { return do(p.Key, p.Value) })
}
