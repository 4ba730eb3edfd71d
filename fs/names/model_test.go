package names

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"stasis/store/ledger"
)

// machine runs the same operations on a Tree and on a directory of this
// machine, which is the model: results and errnos must agree. Directories are held
// open on both sides, so that operations in removed directories are met too.
type machine struct {
	dir   string // of the ledger
	db    *ledger.DB
	tree  *Tree
	dirs  []Ino       // every directory there ever was
	fds   map[Ino]int // and the same in the model
	root  bool        // may chown
	links bool        // the model counts the links of directories
	nodes map[Ino]uint64
}

var modelNames = []string{"a", "b", "c", "d", strings.Repeat("l", 255), strings.Repeat("m", 256)}

func (m *machine) pickDir(t *rapid.T, label string) (Ino, int) {
	ino := rapid.SampledFrom(m.dirs).Draw(t, label)
	return ino, m.fds[ino]
}

func pickName(t *rapid.T, label string) string { return rapid.SampledFrom(modelNames).Draw(t, label) }

func (m *machine) agree(t *rapid.T, op string, got, want error) bool {
	if !errors.Is(got, want) && !(got == nil && want == nil) || (got == nil) != (want == nil) {
		t.Fatalf("%s: %v; %v on the model", op, got, want)
	}
	return got == nil
}

func (m *machine) create(t *rapid.T) {
	dir, fd := m.pickDir(t, "dir")
	name := pickName(t, "name")
	typ := rapid.SampledFrom([]uint32{unix.S_IFREG, unix.S_IFREG, unix.S_IFDIR, unix.S_IFDIR, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFLNK}).Draw(t, "type")
	s := Spec{Mode: typ | 0o751, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	var want error
	switch typ {
	case unix.S_IFDIR:
		want = unix.Mkdirat(fd, name, 0o751)
	case unix.S_IFLNK:
		s.Target = "to/" + name[:1]
		want = unix.Symlinkat(s.Target, fd, name)
	default:
		want = unix.Mknodat(fd, name, s.Mode, 0)
	}
	in, _, err := m.tree.Create(dir, name, s)
	if m.agree(t, fmt.Sprintf("create %d/%.3s %o", dir, name, typ), err, want) && typ == unix.S_IFDIR {
		sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		m.dirs = append(m.dirs, in.Ino)
		m.fds[in.Ino] = sub
	}
}

func (m *machine) unlink(t *rapid.T) {
	dir, fd := m.pickDir(t, "dir")
	name := pickName(t, "name")
	_, _, err := m.tree.Unlink(dir, name)
	m.agree(t, fmt.Sprintf("unlink %d/%.3s", dir, name), err, unix.Unlinkat(fd, name, 0))
}

func (m *machine) rmdir(t *rapid.T) {
	dir, fd := m.pickDir(t, "dir")
	name := pickName(t, "name")
	_, _, err := m.tree.Rmdir(dir, name)
	m.agree(t, fmt.Sprintf("rmdir %d/%.3s", dir, name), err, unix.Unlinkat(fd, name, unix.AT_REMOVEDIR))
}

func (m *machine) rename(t *rapid.T) {
	from, ffd := m.pickDir(t, "from")
	to, tfd := m.pickDir(t, "to")
	name, newName := pickName(t, "name"), pickName(t, "new name")
	flags := rapid.SampledFrom([]uint{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE}).Draw(t, "flags")
	_, _, err := m.tree.Rename(Rename{From: from, Name: name, To: to, NewName: newName,
		NoReplace: flags&unix.RENAME_NOREPLACE != 0, Exchange: flags&unix.RENAME_EXCHANGE != 0})
	m.agree(t, fmt.Sprintf("rename %d/%.3s to %d/%.3s flags %d", from, name, to, newName, flags), err,
		unix.Renameat2(ffd, name, tfd, newName, flags))
}

func (m *machine) link(t *rapid.T) {
	from, ffd := m.pickDir(t, "from")
	to, tfd := m.pickDir(t, "to")
	name, newName := pickName(t, "name"), pickName(t, "new name")
	in, err := m.tree.Lookup(from, name)
	if err == nil {
		_, _, err = m.tree.Link(in.Ino, to, newName)
	}
	m.agree(t, fmt.Sprintf("link %d/%.3s to %d/%.3s", from, name, to, newName), err, unix.Linkat(ffd, name, tfd, newName, 0))
}

func (m *machine) truncate(t *rapid.T) {
	dir, fd := m.pickDir(t, "dir")
	name := pickName(t, "name")
	in, err := m.tree.Lookup(dir, name)
	if err != nil || !in.IsRegular() {
		return
	}
	size := rapid.Int64Range(0, 1<<40).Draw(t, "size")
	if _, _, err := m.tree.Update(in.Ino, func(in *Inode) error { in.Size = size; return nil }); err != nil {
		t.Fatal(err)
	}
	f, err := unix.Openat(fd, name, unix.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(f)
	if err := unix.Ftruncate(f, size); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) setgid(t *rapid.T) {
	dir, fd := m.pickDir(t, "dir")
	if !m.root || m.nlink(t, dir) == 0 {
		return
	}
	gid := rapid.IntRange(1, 3).Draw(t, "gid")
	if err := errors.Join(unix.Fchown(fd, -1, gid), unix.Fchmod(fd, 0o2755)); err != nil {
		t.Fatal(err)
	}
	_, _, err := m.tree.Update(dir, func(in *Inode) error { in.GID, in.Mode = uint32(gid), in.Mode&^0o7777|0o2755; return nil })
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) nlink(t *rapid.T, ino Ino) uint32 {
	in, err := m.tree.Get(ino)
	if err != nil && err != syscall.ENOENT {
		t.Fatal(err)
	}
	return in.Nlink
}

// removeOrphans is what package fs does at the last close.
func (m *machine) removeOrphans(t *rapid.T) {
	inos, err := m.tree.Orphans()
	if err != nil {
		t.Fatal(err)
	}
	for _, ino := range inos {
		if _, err := m.tree.Remove(ino, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := m.tree.Get(ino); err != syscall.ENOENT {
			t.Fatalf("removed inode %d: %v", ino, err)
		}
	}
}

func (m *machine) reopen(t *rapid.T) {
	m.close(t)
	m.open(t)
}

func (m *machine) open(t *rapid.T) {
	var err error
	if m.db, err = ledger.Open(m.dir, ledger.Options{}); err != nil {
		t.Fatal(err)
	}
	if m.tree, err = Open(m.db, Options{RootUID: uint32(os.Getuid()), RootGID: uint32(os.Getgid()), RootMode: 0o755}); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) close(t *rapid.T) {
	if err := m.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// check compares every directory with the model, and the records with each
// other.
func (m *machine) check(t *rapid.T) {
	if err := verify(m.tree); err != nil {
		t.Fatal(err)
	}
	clear(m.nodes)
	for _, dir := range m.dirs {
		m.checkDir(t, dir, m.fds[dir])
	}
}

func (m *machine) checkDir(t *rapid.T, dir Ino, fd int) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	es, err := m.tree.ReadDir(dir, 0, 100)
	if st.Nlink == 0 {
		if err != syscall.ENOENT {
			t.Fatalf("directory %d is removed on the model; a listing gives %v, %v", dir, es, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range es {
		got = append(got, e.Name)
		in, err := m.tree.Lookup(dir, e.Name)
		if err != nil {
			t.Fatal(err)
		}
		m.checkInode(t, in, e, fd)
	}
	slices.Sort(got)
	if want := listing(t, fd); !slices.Equal(got, want) {
		t.Fatalf("directory %d has %.5q; %.5q on the model", dir, got, want)
	}
	in, err := m.tree.Get(dir)
	if err != nil {
		t.Fatal(err)
	}
	if uint32(st.Mode) != in.Mode || st.Gid != in.GID || m.links && uint32(st.Nlink) != in.Nlink {
		t.Fatalf("directory %d is %+v; mode %o, gid %d, nlink %d on the model", dir, in, st.Mode, st.Gid, st.Nlink)
	}
}

func (m *machine) checkInode(t *rapid.T, in Inode, e Entry, fd int) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	if in.Ino != e.Ino || in.Mode&unix.S_IFMT != e.Type || in.Mode != uint32(st.Mode) {
		t.Fatalf("%.3s is %+v, listed as %+v; mode %o on the model", e.Name, in, e, st.Mode)
	}
	if other, ok := m.nodes[in.Ino]; ok && other != st.Ino {
		t.Fatalf("inode %d is two inodes on the model", in.Ino)
	}
	m.nodes[in.Ino] = st.Ino
	if in.IsDir() {
		if path, err := m.tree.Path(in.Ino); err != nil || !strings.HasSuffix(path, "/"+e.Name) {
			t.Fatalf("path of %d: %q, %v; its name is %q", in.Ino, path, err, e.Name)
		}
		return
	}
	if in.Size != st.Size || in.Nlink != uint32(st.Nlink) || in.UID != st.Uid || in.GID != st.Gid {
		t.Fatalf("%.3s is %+v; size %d, nlink %d, gid %d on the model", e.Name, in, st.Size, st.Nlink, st.Gid)
	}
	if in.IsSymlink() {
		buf := make([]byte, 300)
		n, err := unix.Readlinkat(fd, e.Name, buf)
		if err != nil || string(buf[:n]) != in.Target {
			t.Fatalf("%.3s leads to %q; %q, %v on the model", e.Name, in.Target, buf[:n], err)
		}
	}
}

func listing(t *rapid.T, fd int) []string {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(again), "model")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// The namespace answers as this machine's own filesystem does, and keeps its
// invariants, over restarts too. Inherit is left to a test of its own: no other
// filesystem has it.
func TestAgainstFilesystem(t *testing.T) {
	links := countsDirectoryLinks(t)
	rapid.Check(t, func(rt *rapid.T) {
		top, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(top)
		m := &machine{dir: t.TempDir(), fds: map[Ino]int{}, root: os.Getuid() == 0, links: links, nodes: map[Ino]uint64{}}
		if err := os.Chmod(top, 0o755); err != nil {
			rt.Fatal(err)
		}
		fd, err := unix.Open(top, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			rt.Fatal(err)
		}
		m.dirs, m.fds[Root] = []Ino{Root}, fd
		defer func() {
			for _, fd := range m.fds {
				unix.Close(fd)
			}
		}()
		m.open(rt)
		defer func() { m.close(rt) }()
		rt.Repeat(map[string]func(*rapid.T){
			"create": m.create, "create2": m.create, "unlink": m.unlink, "rmdir": m.rmdir, "rename": m.rename, "rename2": m.rename,
			"link": m.link, "truncate": m.truncate, "setgid": m.setgid, "orphans": m.removeOrphans, "reopen": m.reopen,
			"": m.check,
		})
	})
}

func countsDirectoryLinks(t *testing.T) bool {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Nlink == 3
}
