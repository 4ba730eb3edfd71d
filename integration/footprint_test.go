package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

const (
	// restLimit is how long a daemon may take to come to rest after a burst of work and give
	// back what that took, restLimitSoak the same after full counts.
	restLimit     = time.Minute
	restLimitSoak = 10 * time.Minute
	// memorySlack is how much more memory, in bytes, a daemon at rest may have than one that
	// has just begun.
	memorySlack = 50 << 20
	// descriptorSlack is how many more regular files it may have open: journals come and go.
	descriptorSlack = 8
)

// eachOf does something to n things, several at once, and fails the test with the first
// error.
func eachOf(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	const at = 4
	var failed sync.Map
	var all sync.WaitGroup
	for w := range at {
		all.Go(func() {
			for i := w; i < n; i += at {
				if err := do(i); err != nil {
					failed.Store(w, err)
					return
				}
			}
		})
	}
	all.Wait()
	failed.Range(func(_, err any) bool { t.Fatal(err); return false })
}

// taken is what the daemon takes.
func taken(t *testing.T, v *harness.Vault) harness.Usage {
	t.Helper()
	u, err := v.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// atRest waits until the daemon takes little more than it did when it began.
func atRest(t *testing.T, v *harness.Vault, began harness.Usage) {
	t.Helper()
	limit := restLimit
	if harness.Soak() {
		limit = restLimitSoak
	}
	harness.Eventually(t, limit, "a daemon that has given back what it took", func() (bool, string) {
		u := taken(t, v)
		return u.Resident <= began.Resident+memorySlack && u.Files <= began.Files+descriptorSlack, fmt.Sprintf(
			"%d MiB in memory, %d at first; %d files open, %d at first", u.Resident>>20, began.Resident>>20, u.Files, began.Files)
	})
}

// Memory follows what is in use, not how many files there are or were: it is given back
// when the kernel has forgotten them, and so is every descriptor.
func TestMemoryOfManyFiles(t *testing.T) {
	if harness.Soak() {
		harness.NeedRoot(t) // to have the kernel forget
	}
	v := twoNodes(t)
	began := taken(t, v)
	n := harness.Count(1_000, 200_000)
	path := func(i int) string { return v.Path(fmt.Sprint("dir-", i/1000), fmt.Sprint("file-", i)) }
	for i := 0; i < n; i += 1000 {
		harness.Mkdir(t, filepath.Dir(path(i)))
	}
	content := func(i int) string { return fmt.Sprintf("the bytes of file %d\n", i) }
	forget := func() {
		t.Helper()
		if !harness.Soak() {
			return // few files prove nothing of that, and others use this machine's caches
		}
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
			t.Fatal(err)
		}
	}
	step := func(what string, do func(i int) error) {
		t.Helper()
		start := time.Now()
		eachOf(t, n, do)
		u := taken(t, v)
		t.Logf("%s %d files: %s, %d MiB in memory", what, n, time.Since(start).Round(time.Millisecond), u.Resident>>20)
	}
	step("made", func(i int) error { return os.WriteFile(path(i), []byte(content(i)), 0o644) })
	v.Wait(30 * time.Minute)
	step("looked at", func(i int) error { _, err := os.Lstat(path(i)); return err })
	forget()
	atRest(t, v, began)
	step("read", func(i int) error {
		got, err := os.ReadFile(path(i))
		if err == nil && string(got) != content(i) {
			err = fmt.Errorf("%s reads %q", path(i), got)
		}
		return err
	})
	step("removed", func(i int) error { return os.Remove(path(i)) })
	forget()
	atRest(t, v, began)
	v.Unmount()
}

// Files that are opened and closed leave no descriptor and no memory behind, however they
// are opened, and thousands may be open at once.
func TestManyHandles(t *testing.T) {
	raiseDescriptors(t)
	v := twoNodes(t)
	harness.Write(t, "content\n", v.Point, "file")
	v.Wait(time.Minute)
	began := taken(t, v)
	eachOf(t, harness.Count(500, 10_000), func(i int) error {
		f, err := os.OpenFile(v.Path("file"), []int{os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND}[i%3], 0)
		if err != nil {
			return err
		}
		return f.Close()
	})
	atRest(t, v, began)

	n := harness.Count(500, 10_000)
	files := make([]*os.File, n)
	t.Cleanup(func() { closeAll(files) })
	content := func(i int) string { return fmt.Sprintf("the bytes of file %d\n", i) }
	eachOf(t, n, func(i int) (err error) {
		if files[i], err = os.OpenFile(v.Path(fmt.Sprint("open-", i)), os.O_RDWR|os.O_CREATE, 0o644); err == nil {
			_, err = files[i].WriteString(content(i))
		}
		return err
	})
	u := taken(t, v)
	t.Logf("with %d files open for writing: %d MiB in memory, %d files open", n, u.Resident>>20, u.Files)
	harness.Write(t, "more\n", v.Point, "another")
	eachOf(t, n, func(i int) error {
		got := make([]byte, 100)
		m, err := files[i].ReadAt(got, 0)
		if string(got[:m]) != content(i) {
			return fmt.Errorf("open file %d reads %q: %v", i, got[:m], err)
		}
		return nil
	})
	closeAll(files)
	v.Wait(10 * time.Minute)
	atRest(t, v, began)
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

// A daemon that may not open more files says so to the program that wants too many, in
// its own words, and to nobody else: the others' files, the names and the copies go on.
func TestTooManyHandles(t *testing.T) {
	v := twoNodes(t)
	harness.Write(t, "content\n", v.Point, "file")
	v.Wait(time.Minute)
	// Fewer for the daemon than for this test. It leaves its nodes a part of them.
	const most = 1000
	v.Unmount()
	v.Wrap = []string{"prlimit", fmt.Sprintf("--nofile=%d:%d", most, most)}
	v.Start()
	began := taken(t, v)
	var files []*os.File
	t.Cleanup(func() { closeAll(files) })
	var refused error
	for i := range 2 * most {
		f, err := os.OpenFile(v.Path(fmt.Sprint("open-", i)), os.O_RDWR|os.O_CREATE, 0o644)
		if err == nil {
			files = append(files, f)
			_, err = f.WriteString("content\n")
		}
		if err != nil {
			refused = err
			break
		}
	}
	if !errors.Is(refused, syscall.ENFILE) || len(files) < most/2 {
		t.Errorf("after %d open files the next says %v, want ENFILE", len(files), refused)
	}
	for i := range 200 {
		harness.Mkdir(t, v.Path(fmt.Sprint("dir-", i)))
	}
	if err := os.Rename(v.Path("file"), v.Path("dir-0", "file")); err != nil {
		t.Error(err)
	}
	if got := harness.Read(t, v.Path("dir-0", "file")); got != "content\n" {
		t.Errorf("reads %q with as many files open as there may be", got)
	}
	v.OK("status", v.Point)
	for _, f := range files {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	closeAll(files)
	files = nil
	harness.Write(t, "content\n", v.Point, "after")
	v.Wait(time.Minute)
	atRest(t, v, began)
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // it may be closed already
		}
	}
}

// raiseDescriptors skips a test that opens as many files as the full counts ask for,
// where this process may not.
func raiseDescriptors(t *testing.T) {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if need := uint64(harness.Count(2_000, 15_000)); l.Max < need {
		t.Skipf("needs %d descriptors and may have %d: `ulimit -Hn`", need, l.Max)
	}
}
