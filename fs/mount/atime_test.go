package mount

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// atimeSoon bounds how long a close may take to show in the access time: the kernel tells
// of it after the program has gone on.
const atimeSoon = 10 * time.Second

// A read sets the access time where it is not newer than the last change, whoever answers
// it, and the time is there after a restart.
func TestAccessTimes(t *testing.T) {
	v := newVault(t, Options{})
	dir, f := v.path("d"), v.path("d", "f")
	v.must(os.Mkdir(dir, 0o755))
	v.must(os.WriteFile(f, []byte("content"), 0o644))
	v.must(os.Symlink("d/f", v.path("l")))
	atime := func(path string) time.Time {
		t.Helper()
		var st unix.Stat_t
		v.must(unix.Lstat(path, &st))
		return time.Unix(st.Atim.Unix())
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	age := func(path string) {
		t.Helper()
		ts := unix.NsecToTimespec(old.UnixNano())
		v.must(unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
		if got := atime(path); !got.Equal(old) {
			t.Fatalf("the access time of %s is %v, and was set to %v", path, got, old)
		}
	}
	read := func(flags int) func() {
		return func() {
			t.Helper()
			h, err := os.OpenFile(f, os.O_RDONLY|flags, 0)
			v.must(err)
			_, err = io.ReadAll(h)
			v.must(err)
			v.must(h.Close())
		}
	}
	ways := map[string]struct {
		path string
		do   func()
	}{
		"a file that the kernel holds": {f, read(0)},
		"a directory":                  {dir, func() { _, err := os.ReadDir(dir); v.must(err) }},
		"a symlink":                    {v.path("l"), func() { _, err := os.Readlink(v.path("l")); v.must(err) }},
	}
	for what, w := range ways {
		age(w.path)
		v.must(os.WriteFile(filepath.Join(dir, "other"), nil, 0o644)) // the listing is not kept
		age(dir)
		w.do()
		for end := time.Now().Add(atimeSoon); time.Since(atime(w.path)) > time.Hour; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s was read, and its access time is %v", what, atime(w.path))
			}
		}
		set := atime(w.path)
		w.do()
		if got := atime(w.path); !got.Equal(set) {
			t.Errorf("%s was read once more, and its access time went from %v to %v", what, set, got)
		}
	}
	set := atime(f)
	v.stop()
	v.start(Options{})
	if got := atime(f); !got.Equal(set) {
		t.Errorf("after a restart the access time is %v, and was %v", got, set)
	}

	// Now the daemon answers.
	age(f)
	read(unix.O_NOATIME)()
	time.Sleep(10 * time.Millisecond) // should the close tell, it does so soon
	if got := atime(f); !got.Equal(old) {
		t.Errorf("after a read that asked to leave it the access time is %v", got)
	}
	v.stop()
	v.start(Options{})
	h, err := os.Open(f)
	v.must(err)
	defer h.Close()
	_, err = io.ReadAll(h)
	v.must(err)
	if got := atime(f); time.Since(got) > time.Hour {
		t.Errorf("right after a read the access time is %v", got)
	}
	v.must(h.Close())

	v.stop()
	v.start(Options{NoAtime: true})
	age(f)
	read(0)()
	time.Sleep(10 * time.Millisecond)
	if got := atime(f); !got.Equal(old) {
		t.Errorf("with noatime the access time is %v", got)
	}
}

// What is copied within the vault was read, and the kernel, which does not ask after a copy,
// is told.
func TestAccessTimeOfACopiedFile(t *testing.T) {
	v := newVault(t, Options{})
	v.must(os.WriteFile(v.path("from"), make([]byte, 1<<20), 0o644))
	v.settle(v.path("from"))
	old := unix.NsecToTimespec(time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC).UnixNano())
	v.must(unix.UtimesNano(v.path("from"), []unix.Timespec{old, old}))
	from, err := os.Open(v.path("from"))
	v.must(err)
	defer from.Close()
	to, err := os.Create(v.path("to"))
	v.must(err)
	defer to.Close()
	var st unix.Stat_t
	v.must(unix.Fstat(int(from.Fd()), &st)) // the kernel remembers it from now on
	n, err := unix.CopyFileRange(int(from.Fd()), nil, int(to.Fd()), nil, 1<<20, 0)
	if err != nil || n != 1<<20 {
		t.Fatalf("%d bytes copied, %v", n, err)
	}
	v.must(unix.Fstat(int(from.Fd()), &st))
	if st.Atim == old {
		t.Error("a copy leaves the access time of its source")
	}
}
