package names

import (
	"reflect"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/fs/acl"
	"stasis/store/ledger"
)

func list(t *testing.T, tree *Tree, ino Ino, name string) acl.List {
	t.Helper()
	v, err := tree.GetXattr(ino, name)
	if err == syscall.ENODATA {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := acl.Parse(v)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestACL(t *testing.T) {
	tree := newTree(t, nil)
	dir := mustCreate(t, tree, Root, "d", unix.S_IFDIR|0o755).Ino
	make := func(name string, mode uint32) Inode {
		t.Helper()
		in, _, err := tree.Create(dir, name, Spec{Mode: mode, Umask: 0o022})
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	if in := make("before", 0o666); in.Mode&0o777 != 0o644 || tree.HasACLs() {
		t.Errorf("without lists a file has mode %o, lists are known: %v", in.Mode, tree.HasACLs())
	}
	def := acl.List{{Tag: acl.UserObj, Perm: 7}, {Tag: acl.User, Perm: 6, ID: 1000}, {Tag: acl.GroupObj, Perm: 7}, {Tag: acl.Mask, Perm: 7}, {Tag: acl.Other, Perm: 5}}
	if _, err := tree.SetACL(dir, acl.Default, def.Value(), false); err != nil {
		t.Fatal(err)
	}
	f := make("f", 0o646)
	if f.Mode&0o777 != 0o644 {
		t.Errorf("it has mode %o", f.Mode)
	}
	if want, _ := def.Inherit(0o646); !reflect.DeepEqual(list(t, tree, f.Ino, acl.Access), want) {
		t.Errorf("a file got %v, want %v", list(t, tree, f.Ino, acl.Access), want)
	}
	sub := make("sub", unix.S_IFDIR|0o777)
	if sub.Mode&0o777 != 0o775 || !reflect.DeepEqual(list(t, tree, sub.Ino, acl.Default), def) || list(t, tree, sub.Ino, acl.Access) == nil {
		t.Errorf("a directory got mode %o and %v", sub.Mode, list(t, tree, sub.Ino, acl.Default))
	}
	link, _, err := tree.Create(dir, "l", Spec{Mode: unix.S_IFLNK, Target: "x"})
	if err != nil || link.Mode != unix.S_IFLNK|0o777 || list(t, tree, link.Ino, acl.Access) != nil {
		t.Errorf("a symlink got mode %o, %v", link.Mode, err)
	}
	tmp, _, err := tree.Tmpfile(dir, Spec{Mode: 0o600})
	if err != nil || list(t, tree, tmp.Ino, acl.Access) == nil {
		t.Errorf("a file without a name got nothing, %v", err)
	}

	after, _, err := tree.Update(f.Ino, func(in *Inode) error { in.Mode = 0o4710; return nil })
	if got := list(t, tree, f.Ino, acl.Access); err != nil || after.Mode != unix.S_IFREG|0o4710 || got.Mode(0) != 0o710 || got[1].Perm != 6 {
		t.Errorf("after chmod mode %o and %v, %v", after.Mode, got, err)
	}
	if _, err := tree.SetACL(f.Ino, acl.Access, acl.List{{Tag: acl.UserObj, Perm: 6}, {Tag: acl.GroupObj, Perm: 4}, {Tag: acl.Other, Perm: 4}}.Value(), false); err != nil {
		t.Fatal(err)
	}
	if in, err := tree.Get(f.Ino); err != nil || in.Mode != unix.S_IFREG|0o4644 || list(t, tree, f.Ino, acl.Access) != nil {
		t.Errorf("after a minimal list mode %o and %v, %v", in.Mode, list(t, tree, f.Ino, acl.Access), err)
	}
	if _, _, err := tree.Update(f.Ino, func(in *Inode) error { in.Mode = 0o2755; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.SetACL(f.Ino, acl.Access, def.Value(), true); err != nil {
		t.Fatal(err)
	}
	if in, err := tree.Get(f.Ino); err != nil || in.Mode != unix.S_IFREG|0o775 {
		t.Errorf("set-group-id was to go, and the mode is %o, %v", in.Mode, err)
	}
	for _, c := range []struct {
		ino   Ino
		name  string
		value []byte
		want  error
	}{
		{f.Ino, acl.Default, def.Value(), syscall.EACCES},
		{link.Ino, acl.Access, def.Value(), syscall.EOPNOTSUPP},
		{f.Ino, acl.Access, []byte("no list"), syscall.EINVAL},
		{f.Ino, "user.x", def.Value(), syscall.EINVAL},
		{999, acl.Access, def.Value(), syscall.ENOENT},
	} {
		if _, err := tree.SetACL(c.ino, c.name, c.value, false); err != c.want {
			t.Errorf("%s of %d: %v, want %v", c.name, c.ino, err, c.want)
		}
	}
	for range 2 { // the second time there is none, which is as well
		if _, err := tree.RemoveXattr(dir, acl.Default); err != nil {
			t.Fatal(err)
		}
	}
	if in := make("after", 0o666); in.Mode&0o777 != 0o644 || list(t, tree, in.Ino, acl.Access) != nil {
		t.Errorf("after the default list a file has mode %o", in.Mode)
	}
	if err := verify(tree); err != nil {
		t.Fatal(err)
	}
}

// That there are lists is known after a restart.
func TestACLsAreRemembered(t *testing.T) {
	path := t.TempDir()
	for i, want := range []bool{false, true} {
		db, err := ledger.Open(path, ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		tree, err := Open(db, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if tree.HasACLs() != want {
			t.Errorf("start %d: there are lists: %v", i+1, !want)
		}
		def := acl.List{{Tag: acl.UserObj, Perm: 7}, {Tag: acl.GroupObj, Perm: 0}, {Tag: acl.Other, Perm: 0}}
		if want {
			if in := mustCreate(t, tree, Root, "f", 0o666); in.Mode&0o777 != 0o600 {
				t.Errorf("a file has mode %o", in.Mode)
			}
		} else if _, err := tree.SetACL(Root, acl.Default, def.Value(), false); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
