package fs

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/store/ledger"
)

// xattrCapability holds the capabilities that a program gets when it is run.
const xattrCapability = "security.capability"

// A program that gives who runs it the rights of another has them for its content: whoever
// changes that, and has not the right to give such rights, takes them away. doc.go has the
// rule; everything that changes content or size calls killPrivileges first.

// killPrivileges takes from a file what a change of its content by an unprivileged program
// takes: set-user-id, set-group-id and capabilities. It is called before the change, and they
// are gone for good when it returns: no crash leaves them with content that is newer.
func (s *FS) killPrivileges(ctx context.Context, ino names.Ino) error {
	in, err := s.tree.Get(ino)
	if err != nil {
		return err
	}
	capable, err := s.capable(ino)
	if err != nil || !capable && changedMode(in.Mode) == in.Mode {
		return err
	}
	pos, err := s.shared.Update(func(tx *ledger.Tx) error {
		_, err := s.stripTx(tx, ino, func(in *names.Inode) error {
			in.Mode = changedMode(in.Mode)
			in.Ctime = names.Now()
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	return s.db.Sync(ctx, pos)
}

// capable reports whether a file has capabilities to give.
func (s *FS) capable(ino names.Ino) (bool, error) {
	if s.bare(ino) {
		return false, nil
	}
	_, err := s.tree.GetXattr(ino, xattrCapability)
	if errors.Is(err, syscall.ENODATA) {
		return false, nil
	}
	return err == nil, err
}

// stripTx changes an inode as names.Tree.UpdateTx does and takes its capabilities, unless it is
// a directory, for which they mean nothing: one change, so that no crash comes between.
func (s *FS) stripTx(tx *ledger.Tx, ino names.Ino, fn func(*names.Inode) error) (names.Inode, error) {
	in, err := s.tree.UpdateTx(tx, ino, fn)
	if err != nil || in.IsDir() {
		return in, err
	}
	if err := s.tree.RemoveXattrTx(tx, ino, xattrCapability); !errors.Is(err, syscall.ENODATA) {
		return in, err
	}
	return in, nil
}

// changedMode is the mode after a change of the content. Linux keeps set-group-id where the
// group may not execute and the writer is one of it. Which groups somebody is in is not said
// to a filesystem of this kind, and the bit means nothing there: it goes too.
func changedMode(mode uint32) uint32 {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return mode
	}
	return mode &^ (unix.S_ISUID | unix.S_ISGID)
}

// strippedSUID is the mode after a change of owner: set-user-id goes, and set-group-id where
// the group may execute (otherwise it means nothing). On a directory they mean something else,
// and stay.
func strippedSUID(mode uint32) uint32 {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return mode
	}
	mode &^= unix.S_ISUID
	if mode&unix.S_IXGRP != 0 {
		mode &^= unix.S_ISGID
	}
	return mode
}
