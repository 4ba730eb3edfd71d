package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// needsRoot skips what only root can arrange: things of other users.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make what is another user's")
	}
}

// another is a user who is neither root nor anybody else here.
const another = 54321

// realDir is a directory without links on the way to it.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Root follows his own links and nobody else's, wherever they stand in a path.
func TestRootFollowsNobodysLinks(t *testing.T) {
	needsRoot(t)
	dir := realDir(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "real"), 0o700))
	must(os.WriteFile(filepath.Join(dir, "real/vault.toml"), nil, 0o600))
	must(os.Symlink("real", filepath.Join(dir, "mine")))
	must(os.Symlink("real", filepath.Join(dir, "his")))
	must(os.Symlink("real/vault.toml", filepath.Join(dir, "file")))
	must(os.Lchown(filepath.Join(dir, "his"), another, another))
	must(os.Lchown(filepath.Join(dir, "file"), another, another))
	table, err := Read()
	must(err)
	if got, _, err := table.Resolve(filepath.Join(dir, "mine/vault.toml")); err != nil || got != filepath.Join(dir, "real/vault.toml") {
		t.Errorf("by root's link: %s, %v", got, err)
	}
	if !IsFile(filepath.Join(dir, "mine/vault.toml")) {
		t.Error("there is no file by root's link")
	}
	if got, _, err := table.Resolve(filepath.Join(dir, "his/vault.toml")); !errors.Is(err, store.Denied) {
		t.Errorf("by another user's link: %s, %v", got, err)
	}
	if IsFile(filepath.Join(dir, "his/vault.toml")) || IsFile(filepath.Join(dir, "file")) {
		t.Error("a file is seen by another user's link")
	}
	if f, err := OpenFile(filepath.Join(dir, "his/vault.toml"), os.O_RDONLY); err == nil {
		f.Close()
		t.Error("a file is opened by another user's link")
	}
	if f, err := OpenFile(filepath.Join(dir, "his/new"), os.O_RDWR|os.O_CREATE); err == nil {
		f.Close()
		t.Error("a file is made by another user's link")
	}
}

// mute mounts a FUSE filesystem whose program answers nothing, as if uid had.
func mute(t *testing.T, point string, uid int) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no FUSE: ", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,allow_other", fd, uid, uid)
	if err := unix.Mount("mute", point, "fuse.mute", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		t.Skip("no FUSE mounts here: ", err)
	}
	t.Cleanup(func() {
		unix.Close(fd) // frees whoever waits for an answer
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", point, err)
		}
	})
}

// soon fails the test if fn takes long; what hangs ends with the mount.
func soon(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { fn(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Errorf("%s hangs", what)
	}
}

// A user's program that answers nothing holds up nobody who asks about mounts: not by a mount whose
// source leads into it through a link, and not by a path in it that is looked at or unmounted.
func TestMuteMountOfAnotherUser(t *testing.T) {
	needsRoot(t)
	dir := realDir(t)
	point, link := filepath.Join(dir, "mute"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(point, 0o700), os.Symlink(point, link), os.Lchown(link, another, another)); err != nil {
		t.Fatal(err)
	}
	mute(t, point, another)
	// A table that was read before it was mounted does not know of it.
	before := Table{{Point: "/", Type: "ext4", Root: "/"}}
	for _, path := range []string{point, filepath.Join(point, "state"), filepath.Join(link, "state")} {
		soon(t, "the owner of the key in "+path, func() {
			if uid, ok := before.keyOwner(path); ok {
				t.Errorf("the key in %s belongs to %d", path, uid)
			}
		})
		soon(t, "to resolve "+path, func() {
			if got, _, err := before.Resolve(path); !errors.Is(err, store.Denied) {
				t.Errorf("%s: %s, %v", path, got, err)
			}
		})
		soon(t, "to open in "+path, func() {
			if f, err := OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE); err == nil {
				f.Close()
				t.Errorf("a file is opened in %s", path)
			}
		})
		soon(t, "to unmount below "+path, func() {
			if err := Detach(t.Context(), filepath.Join(path, "vault"), true); !errors.Is(err, store.Denied) {
				t.Errorf("to unmount below %s: %v", path, err)
			}
		})
	}
}

// What hangs for other reasons, as a server that has gone away does, is waited for with a bound,
// and not before what does not hang: here it is root's own mount.
func TestOwnersAreLookedForWithABound(t *testing.T) {
	needsRoot(t)
	dir := realDir(t)
	point, state := filepath.Join(dir, "mute"), filepath.Join(dir, "state")
	if err := errors.Join(os.Mkdir(point, 0o700), os.Mkdir(state, 0o700), os.WriteFile(filepath.Join(state, "key"), nil, 0o600), os.Chown(filepath.Join(state, "key"), another, another)); err != nil {
		t.Fatal(err)
	}
	mute(t, point, 0)
	table, err := readLines()
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{filepath.Join(point, "state"), state} {
		table = append(table, Mount{Point: "/v", Type: Type, Source: source, User: another})
	}
	soon(t, "the search for the owners", func() {
		if owners := table.keyOwners(time.Second); len(owners) != 1 || owners[state] != another {
			t.Errorf("the owners are %v", owners)
		}
	})
}

// A file is opened if it is one, and made if nothing is there.
func TestOpenFile(t *testing.T) {
	dir := realDir(t)
	pipe, link, socket, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "dir"), filepath.Join(dir, "file")
	if err := errors.Join(unix.Mkfifo(pipe, 0o600), os.Symlink("file", link), os.Mkdir(socket, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(file, os.O_RDWR); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	for range 2 {
		f, err := OpenFile(file, os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("text"), 0); err != nil {
			t.Error(err)
		}
		f.Close()
	}
	if text, err := ReadFile(file, 4); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := ReadFile(file, 3); !errors.Is(err, store.Invalid) {
		t.Errorf("a file that is too long: %v", err)
	}
	for _, path := range []string{pipe, link, socket} {
		soon(t, "to open "+path, func() {
			if f, err := OpenFile(path, os.O_RDONLY); !errors.Is(err, store.Invalid) {
				t.Errorf("%s: %v, %v", path, f, err)
			}
		})
	}
}
