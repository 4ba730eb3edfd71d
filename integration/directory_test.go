package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// hugeLimit is how long a command may take with a million entries.
const hugeLimit = 40 * time.Minute

// listed is an entry of a listing, as getdents64(2) gives it.
type listed struct {
	name   string
	ino    uint64
	kind   uint8
	cookie int64 // seeks to what follows it
}

// openDir opens a directory for list, until the test ends.
func openDir(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) }) // it may be closed by now
	return fd
}

// list gives the entries that one getdents64(2) gives, none at the end.
func list(t *testing.T, fd int) (es []listed) {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	for b := buf[:n]; len(b) > 0; {
		size := binary.NativeEndian.Uint16(b[16:])
		name, _, _ := bytes.Cut(b[19:size], []byte{0})
		es = append(es, listed{
			name: string(name), ino: binary.NativeEndian.Uint64(b), kind: b[18], cookie: int64(binary.NativeEndian.Uint64(b[8:])),
		})
		b = b[size:]
	}
	return es
}

// listAll gives all of a directory; beside is called between the steps.
func listAll(t *testing.T, path string, beside func(step int)) (all []listed) {
	t.Helper()
	fd := openDir(t, path)
	defer unix.Close(fd)
	for step := 0; ; step++ {
		es := list(t, fd)
		if len(es) == 0 {
			return all
		}
		all = append(all, es...)
		if beside != nil {
			beside(step)
		}
	}
}

// typeOf is what a listing says of the type of a file.
func typeOf(mode uint32) uint8 { return uint8(mode & unix.S_IFMT >> 12) }

// A directory of very many entries is listed whole, each entry once with its number and type,
// whatever is made and removed in it meanwhile; where a program stood in it is found again
// after changes and after a remount; and it is removed in the end.
func TestHugeDirectory(t *testing.T) {
	v := twoNodes(t)
	dir := harness.Mkdir(t, v.Path("huge"))
	n := harness.Count(4_000, 1_000_000)
	name := func(i int) string { return fmt.Sprint("entry-", i) }
	timed := func(what string, do func()) {
		t.Helper()
		start := time.Now()
		do()
		t.Logf("%s with %d entries: %s, %d MiB in memory", what, n, time.Since(start).Round(time.Millisecond), taken(t, v).Resident>>20)
	}
	timed("made a directory", func() { makeEntries(t, v, dir, n, name) })

	var all []listed
	timed("listed it", func() { all = listAll(t, dir, nil) })
	var self, parent unix.Stat_t
	if err := unix.Lstat(dir, &self); err != nil {
		t.Fatal(err)
	}
	if err := unix.Lstat(v.Point, &parent); err != nil {
		t.Fatal(err)
	}
	if len(all) != n+2 || all[0].name != "." || all[0].ino != self.Ino || all[1].name != ".." || all[1].ino != parent.Ino {
		t.Fatalf("a listing has %d entries and begins with %+v; want %d, %d as \".\" and %d as \"..\"", len(all), all[:2], n+2, self.Ino, parent.Ino)
	}
	once(t, all, n, name, func(int) bool { return true })
	for i := 2; i < len(all); i += 97 {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, all[i].name), &st); err != nil || st.Ino != all[i].ino || typeOf(st.Mode) != all[i].kind {
			t.Fatalf("the listing says %+v, stat says inode %d of type %d: %v", all[i], st.Ino, typeOf(st.Mode), err)
		}
	}
	timed("counted it", func() {
		r := harness.Run(t, harness.Command{Args: []string{"sh", "-c", "ls -f | wc -l"}, Dir: dir, Limit: hugeLimit})
		if got := strings.TrimSpace(r.Stdout); r.Code != 0 || got != fmt.Sprint(n+2) {
			t.Errorf("ls counts %s entries, want %d\n%v", got, n+2, r)
		}
	})

	// A place in it stays the same place while others come and go, and after a remount.
	gone := func(i int) bool { return i%7 == 3 }
	eachOf(t, n/7, func(i int) error {
		if err := os.Remove(filepath.Join(dir, name(7*i+3))); err != nil {
			return err
		}
		return unix.Mkfifo(filepath.Join(dir, fmt.Sprint("new-", i)), 0o644)
	})
	left := map[string]bool{}
	for _, e := range listAll(t, dir, nil) {
		left[e.name] = true
	}
	seek := func(when string) {
		t.Helper()
		fd := openDir(t, dir)
		defer unix.Close(fd)
		for i := len(all) - 100; i > 0; i -= len(all) / 10 { // backwards
			want := i + 1
			for want < len(all) && !left[all[want].name] {
				want++
			}
			if _, err := unix.Seek(fd, all[i].cookie, unix.SEEK_SET); err != nil {
				t.Fatal(err)
			}
			if es := list(t, fd); len(es) == 0 || es[0].name != all[want].name {
				t.Errorf("%s, what follows %q begins with %+v, want %q", when, all[i].name, es[:min(1, len(es))], all[want].name)
			}
		}
	}
	seek("after changes")
	v.Unmount()
	v.Start()
	seek("after a remount")
	began := taken(t, v)

	// Others make and remove entries while it is listed: those that stay are listed once.
	stays := func(i int) bool { return !gone(i) && i%3 != 0 }
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { disturb(t, dir, n, name, gone, stop) })
	timed("listed it while it changed", func() { all = listAll(t, dir, func(int) { time.Sleep(time.Millisecond) }) })
	close(stop)
	work.Wait()
	once(t, all, n, name, stays)

	timed("removed it", func() {
		if r := harness.Run(t, harness.Command{Args: []string{"rm", "-rf", dir}, Limit: hugeLimit}); r.Code != 0 {
			t.Error(r)
		}
	})
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("after it was removed: %v", err)
	}
	atRest(t, v, began)
	v.OK("check", v.Point)
	v.Unmount()
}

// makeEntries makes n entries: links to few files, and some of every other type.
func makeEntries(t *testing.T, v *harness.Vault, dir string, n int, name func(i int) string) {
	t.Helper()
	const links = 50_000 // that one file may have, and some
	for i := 0; i*links < n; i++ {
		harness.Write(t, "content\n", v.Path(fmt.Sprint("source-", i)))
	}
	eachOf(t, n, func(i int) error {
		path := filepath.Join(dir, name(i))
		switch i % 1000 {
		case 1:
			return os.Mkdir(path, 0o755)
		case 2:
			return os.Symlink("nowhere", path)
		case 4:
			return unix.Mkfifo(path, 0o644)
		case 5:
			return os.WriteFile(path, []byte("content\n"), 0o644)
		}
		return os.Link(v.Path(fmt.Sprint("source-", i/links)), path)
	})
}

// disturb removes what neither is gone nor has to stay, and makes and removes other entries,
// until stop.
func disturb(t *testing.T, dir string, n int, name func(i int) string, gone func(i int) bool, stop <-chan struct{}) {
	for i := 0; ; i += 3 {
		select {
		case <-stop:
			return
		default:
		}
		var err error
		if i < n && !gone(i) {
			err = os.RemoveAll(filepath.Join(dir, name(i)))
		}
		other := filepath.Join(dir, fmt.Sprint("other-", i))
		if err == nil {
			err = unix.Mkfifo(other, 0o644)
		}
		if err == nil && i%2 == 0 {
			err = os.Remove(other)
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// once checks that no entry is listed twice, and that all of n that stay are listed.
func once(t *testing.T, all []listed, n int, name func(i int) string, stays func(i int) bool) {
	t.Helper()
	seen := make(map[string]bool, len(all))
	for _, e := range all {
		if seen[e.name] {
			t.Fatalf("%q is listed twice", e.name)
		}
		seen[e.name] = true
	}
	for i := range n {
		if stays(i) && !seen[name(i)] {
			t.Fatalf("%q is not listed", name(i))
		}
	}
}
