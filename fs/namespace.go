package fs

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/store/ledger"
)

// Ref counts a reference that the kernel got to an inode.
func (s *FS) Ref(ino names.Ino) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refer(ino)
}

// refer is Ref for a caller that holds s.mu.
func (s *FS) refer(ino names.Ino) { s.refs.Set(ino, s.refs.Get(ino)+1) }

// Forget takes n of the kernel's references back. More than there are is no error.
func (s *FS) Forget(ino names.Ino, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if had := s.refs.Get(ino); had > n {
		s.refs.Set(ino, had-n)
		return
	}
	s.refs.Delete(ino)
	s.reapLater(ino)
}

// referTo gives the attributes of an inode that goes to the kernel, which then holds a
// reference to it.
func (s *FS) referTo(in names.Inode, err error) (Attr, error) {
	if err != nil {
		return Attr{}, err
	}
	a, err := s.GetAttr(in.Ino)
	if err == nil {
		s.Ref(in.Ino)
	}
	return a, err
}

// Lookup gives the inode that a name leads to, and counts a reference to it.
func (s *FS) Lookup(parent names.Ino, name string) (Attr, error) {
	return s.referTo(s.tree.Lookup(parent, name))
}

// Parent gives the directory that a directory lies in.
func (s *FS) Parent(dir names.Ino) (names.Ino, error) {
	in, err := s.tree.Get(dir)
	return in.Parent, err
}

// ReadDir gives the entries of a directory after a cookie; see names.Tree. It counts no
// references.
func (s *FS) ReadDir(dir names.Ino, cookie uint64, limit int) ([]names.Entry, error) {
	return s.tree.ReadDir(dir, cookie, limit)
}

// Readlink gives the target of a symlink. EINVAL for anything else.
func (s *FS) Readlink(ino names.Ino) (string, error) {
	in, err := s.tree.Get(ino)
	if err != nil {
		return "", err
	}
	if !in.IsSymlink() {
		return "", syscall.EINVAL
	}
	return in.Target, nil
}

// Make makes a file, directory, symlink or special file, and counts a reference to it.
func (s *FS) Make(parent names.Ino, name string, spec names.Spec) (Attr, error) {
	if s.ro {
		return Attr{}, syscall.EROFS
	}
	in, _, err := s.tree.Create(parent, name, spec)
	if err != nil {
		return Attr{}, err
	}
	s.Ref(in.Ino)
	return s.attrOf(in)
}

// Create makes a regular file and opens it.
func (s *FS) Create(parent names.Ino, name string, spec names.Spec, flags uint32) (Attr, *Handle, error) {
	spec.Mode = unix.S_IFREG | spec.Mode&0o7777
	if err := s.mayOpen(flags&unix.O_ACCMODE != unix.O_RDONLY); err != nil {
		return Attr{}, nil, err
	}
	ino, ahead := s.blanks.take()
	if !ahead {
		a, err := s.Make(parent, name, spec)
		if err != nil {
			return a, nil, err
		}
		return a, s.open(a.Ino, flags), nil
	}
	// The handle comes first: from the moment there is a name others may use the inode.
	spec.Ino = ino
	h := s.open(ino, flags)
	a, err := s.Make(parent, name, spec)
	if err != nil {
		h.Release()
		return a, nil, err
	}
	// Nobody else has been told of it: what it has it got from the directory.
	h.f.bare.Store(!s.tree.HasACLs())
	return a, h, nil
}

// Tmpfile makes a regular file without a name and opens it.
func (s *FS) Tmpfile(parent names.Ino, spec names.Spec, flags uint32) (Attr, *Handle, error) {
	if s.ro {
		return Attr{}, nil, syscall.EROFS
	}
	if err := s.mayOpen(flags&unix.O_ACCMODE != unix.O_RDONLY); err != nil {
		return Attr{}, nil, err
	}
	spec.Mode = unix.S_IFREG | spec.Mode&0o7777
	spec.Ino, _ = s.blanks.take()
	in, _, err := s.tree.Tmpfile(parent, spec)
	if err != nil {
		s.blanks.waive(spec.Ino)
		return Attr{}, nil, err
	}
	s.mu.Lock()
	s.refer(in.Ino)
	s.orphans.Set(in.Ino, struct{}{})
	s.mu.Unlock()
	a, err := s.attrOf(in)
	return a, s.open(in.Ino, flags), err
}

// Link gives an inode one more name, and counts a reference to it.
func (s *FS) Link(ino, parent names.Ino, name string) (Attr, error) {
	if s.ro {
		return Attr{}, syscall.EROFS
	}
	in, _, err := s.tree.Link(ino, parent, name)
	if err != nil {
		return Attr{}, err
	}
	s.mu.Lock()
	s.orphans.Delete(ino)
	f := s.files[ino]
	rests := f != nil && f.writers == 0
	s.mu.Unlock()
	if rests {
		s.sealLater(ino)
	}
	return s.referTo(in, nil)
}

// Unlink takes a name away. A file without further names goes when nobody uses it
// any more.
func (s *FS) Unlink(parent names.Ino, name string) error {
	if s.ro {
		return syscall.EROFS
	}
	in, _, err := s.tree.Unlink(parent, name)
	if err == nil {
		s.left(in)
	}
	return err
}

// Rmdir removes an empty directory.
func (s *FS) Rmdir(parent names.Ino, name string) error {
	if s.ro {
		return syscall.EROFS
	}
	in, _, err := s.tree.Rmdir(parent, name)
	if err == nil {
		s.left(in)
	}
	return err
}

// left notes an inode that lost a name.
func (s *FS) left(in names.Inode) {
	if in.Nlink > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orphans.Set(in.Ino, struct{}{})
	s.reapLater(in.Ino)
}

// Rename moves a name. flags are those of renameat2(2); RENAME_WHITEOUT is EINVAL.
func (s *FS) Rename(from names.Ino, name string, to names.Ino, newName string, flags uint32) error {
	if s.ro {
		return syscall.EROFS
	}
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return syscall.EINVAL
	}
	r := names.Rename{From: from, Name: name, To: to, NewName: newName,
		NoReplace: flags&unix.RENAME_NOREPLACE != 0, Exchange: flags&unix.RENAME_EXCHANGE != 0}
	in, err := s.tree.Lookup(from, name)
	if err != nil {
		return err
	}
	if in.IsRegular() && in.List == 0 {
		if f := s.pinned(in.Ino); f != nil {
			defer s.unpin(f)
			inherit, err := s.keepReplaced(s.ctx, r, f)
			if err != nil {
				return err
			}
			// Held so that the body is what it is found to be until the name is moved.
			f.mu.RLock()
			defer f.mu.RUnlock()
			r.Inherit = inherit && f.body != nil && f.body.Whole() && !f.record.Settled
		}
	}
	if moved := s.movedInto(r, in.Ino); len(moved) > 0 {
		r.With = func(tx *ledger.Tx) {
			for _, ino := range moved {
				reviewTx(tx.In(ledger.Local), ino)
			}
		}
		defer kick(s.review)
	}
	replaced, _, err := s.tree.Rename(r)
	if err == nil && replaced != nil {
		s.left(*replaced)
	}
	return err
}

// movedInto gives the inodes that a rename moves into a directory where another number
// of copies is wanted.
func (s *FS) movedInto(r names.Rename, ino names.Ino) []names.Ino {
	if !s.policies.Load() || r.From == r.To {
		return nil
	}
	was, err := s.effective(r.From)
	if err != nil {
		return nil // the rename says what is wrong
	}
	if now, err := s.effective(r.To); err != nil || now.Copies == was.Copies {
		return nil
	}
	moved := []names.Ino{ino}
	if r.Exchange {
		if other, err := s.tree.Lookup(r.To, r.NewName); err == nil {
			moved = append(moved, other.Ino)
		}
	}
	return moved
}

// FsyncDir makes the names in a directory durable.
func (s *FS) FsyncDir(ctx context.Context) error {
	return s.db.Sync(ctx, s.db.Position())
}

// find gives the inode of a path from the vault's root. Symlinks are not followed.
func (s *FS) find(path string) (names.Inode, error) {
	in, err := s.tree.Get(names.Root)
	for name := range components(path) {
		if err != nil {
			return in, err
		}
		in, err = s.tree.Lookup(in.Ino, name)
	}
	return in, err
}
