package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// in runs a program with a directory as its working directory; it has to succeed.
func in(t *testing.T, dir string, args ...string) string {
	t.Helper()
	r := harness.Run(t, harness.Command{Dir: dir, Args: args, Env: programEnv, Limit: programLimit})
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// programLimit bounds what one run of a program may take, with the full counts too.
const programLimit = 10 * time.Minute

// programEnv keeps programs from the person's own settings.
var programEnv = []string{"HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
	"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@localhost", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@localhost"}

// A git repository lives in the vault: commits, packs and clones, through kills and
// remounts.
func TestGit(t *testing.T) {
	v := twoNodes(t)
	repo := harness.Mkdir(t, v.Path("repo"))
	in(t, repo, "git", "init", "-q")
	rsync(t, filepath.Join(goRoot(t), "src", "sort"), filepath.Join(repo))
	in(t, repo, "git", "add", ".")
	in(t, repo, "git", "commit", "-q", "-m", "first")
	for i := range 5 {
		harness.Write(t, strings.Repeat(fmt.Sprintf("line of %d\n", i), 1000), repo, fmt.Sprintf("file-%d", i))
		in(t, repo, "git", "add", ".")
		in(t, repo, "git", "commit", "-q", "-m", fmt.Sprint(i))
	}
	head := in(t, repo, "git", "rev-parse", "HEAD")
	v.Kill()
	v.Start()
	whole := func(dir string) {
		t.Helper()
		in(t, dir, "git", "fsck", "--full", "--strict")
		if got := in(t, dir, "git", "rev-parse", "HEAD"); got != head {
			t.Errorf("HEAD is %s, want %s", got, head)
		}
		if got := in(t, dir, "git", "status", "--porcelain"); got != "" {
			t.Errorf("git status says %s", got)
		}
	}
	whole(repo)
	in(t, repo, "git", "gc", "-q", "--aggressive", "--prune=now")
	in(t, v.Point, "git", "clone", "-q", "--no-local", repo, "clone")
	onlyNodes(t, v)
	whole(repo)
	whole(v.Path("clone"))
	v.Unmount()
}

func goRoot(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(harness.Must(t, "go", "env", "GOROOT"))
}

// What sqlite said is committed is there after a kill, in each way it keeps its journal.
func TestSQLite(t *testing.T) {
	for _, mode := range []string{"delete", "truncate", "wal"} {
		t.Run(mode, func(t *testing.T) {
			v := twoNodes(t)
			db := v.Path("data.db")
			in(t, v.Point, "sqlite3", db, "pragma journal_mode="+mode+"; create table t(n integer primary key, b blob);")
			var script strings.Builder
			fmt.Fprintf(&script, ".timeout 1000\npragma journal_mode=%s;\n", mode)
			for i := 1; i <= 5000; i++ {
				fmt.Fprintf(&script, "insert into t values(%d, randomblob(3000));\n.print done %d\n", i, i)
			}
			cmd := exec.Command("sqlite3", "-bail", db)
			cmd.Stdin = strings.NewReader(script.String())
			var said lockedBuffer
			cmd.Stdout = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, time.Minute, "some transactions", func() (bool, string) {
				return strings.Contains(said.String(), "done 20\n"), said.String()
			})
			v.Kill()
			_ = cmd.Wait() // it was cut off
			lines := strings.Split(strings.TrimSpace(said.String()), "\n")
			_, last, _ := strings.Cut(lines[len(lines)-1], "done ")
			done, err := strconv.Atoi(last)
			if err != nil {
				t.Fatalf("sqlite3 printed %q", lines[len(lines)-1])
			}
			v.Start()
			if got := in(t, v.Point, "sqlite3", db, "pragma integrity_check;"); got != "ok\n" {
				t.Errorf("integrity_check says %s", got)
			}
			n, err := strconv.Atoi(strings.TrimSpace(in(t, v.Point, "sqlite3", db, "select count(*) from t;")))
			if err != nil || n < done || n > done+1 {
				t.Errorf("%d rows after a kill (%v), and %d were committed", n, err, done)
			}
			v.Wait(time.Minute)
			v.OK("check", v.Point, "--read")
			v.Unmount()
		})
	}
}

// lockedBuffer may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Archives and copies carry everything a tree has: links of both kinds, holes, modes,
// times, owners, attributes, long and odd names.
func TestArchives(t *testing.T) {
	v := twoNodes(t)
	source := oddTree(t)
	in(t, v.Point, "sh", "-c", "tar -C "+source+" --xattrs -cf all.tar . && mkdir untarred && tar -C untarred --xattrs -xpf all.tar")
	in(t, v.Point, "cp", "-a", source, "copied")
	in(t, v.Point, "rsync", "-aHAXS", source+"/", "rsynced/")
	onlyNodes(t, v)
	for _, name := range []string{"untarred", "copied", "rsynced"} {
		harness.SameTrees(t, source, v.Path(name))
		var a, b unix.Stat_t
		if err := errors.Join(unix.Lstat(v.Path(name, "plain"), &a), unix.Lstat(v.Path(name, "hard"), &b)); err != nil || a.Ino != b.Ino || a.Nlink != 2 {
			t.Errorf("%s: the hard link is none (%v)", name, err)
		}
		buf := make([]byte, 64)
		if n, err := unix.Getxattr(v.Path(name, "plain"), "user.colour", buf); err != nil || string(buf[:n]) != "green" {
			t.Errorf("%s: user.colour is %q (%v)", name, buf[:max(n, 0)], err)
		}
	}
	out := harness.Mkdir(t, harness.Dir(t), "out")
	in(t, v.Point, "rsync", "-aHAXS", "rsynced/", out+"/")
	harness.SameTrees(t, source, out)
	if got := in(t, v.Point, "rsync", "-aHAXSni", "--delete", source+"/", "rsynced/"); got != "" {
		t.Errorf("a second rsync would do\n%s", got)
	}
	v.Unmount()
}

// oddTree is a tree with something of everything, on the disk outside.
func oddTree(t *testing.T) string {
	t.Helper()
	dir := harness.Mkdir(t, harness.Dir(t), "source")
	harness.Write(t, "plain\n", dir, "plain")
	harness.Write(t, "", dir, "empty")
	harness.Write(t, "odd\n", dir, "na\nme \\ \xff\"'*")
	harness.Write(t, "long\n", dir, strings.Repeat("n", 255))
	deep := dir
	for range 30 {
		deep = harness.Mkdir(t, deep, "deeper")
	}
	harness.Write(t, "deep\n", deep, "file")
	holes, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 5 << 20, 9<<20 + 3} {
		if _, err := holes.WriteAt([]byte("content"), at); err != nil {
			t.Fatal(err)
		}
	}
	when := time.Unix(1_234_567_890, 123_456_789)
	for _, err := range []error{
		holes.Truncate(12 << 20), holes.Close(),
		os.Link(filepath.Join(dir, "plain"), filepath.Join(dir, "hard")),
		os.Symlink("plain", filepath.Join(dir, "soft")),
		os.Symlink("/nowhere/at all", filepath.Join(dir, "dangling")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o640),
		os.Chmod(filepath.Join(dir, "empty"), 0o4711),
		os.Mkdir(filepath.Join(dir, "sticky"), 0o700), os.Chmod(filepath.Join(dir, "sticky"), 0o777|os.ModeSticky),
		unix.Setxattr(filepath.Join(dir, "plain"), "user.colour", []byte("green"), 0),
		os.Chtimes(filepath.Join(dir, "plain"), when, when),
		os.Chtimes(filepath.Join(dir, "empty"), time.Unix(-1000, 5), time.Unix(-1000, 5)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(filepath.Join(dir, "soft"), 1234, 5678); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Editors save by writing beside and renaming over; after the fsync and the rename the
// new text survives a kill, and at no moment is there neither.
func TestEditorSave(t *testing.T) {
	v := twoNodes(t)
	path := harness.Write(t, "version 0\n", v.Point, "text")
	for i := 1; i <= harness.Count(20, 200); i++ {
		text := fmt.Sprintf("version %d\n", i)
		f, err := os.CreateTemp(v.Point, ".text-*")
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(text)
		if err := errors.Join(err, f.Sync(), f.Close(), os.Rename(f.Name(), path)); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			v.Kill()
			v.Start()
		}
		if got := harness.Read(t, path); got != text {
			t.Fatalf("reads %q, want %q", got, text)
		}
	}
	if got := names(t, v.Point); len(got) != 1 {
		t.Errorf("left over: %q", got)
	}
	v.Unmount()
}

// Several processes append to one file, lock it, map it, and use it after it was removed,
// as on any disk.
func TestSharedUse(t *testing.T) {
	v := twoNodes(t)
	log := v.Path("log")
	in(t, v.Point, "sh", "-c", `for p in 1 2 3 4; do (i=0; while [ $i -lt 200 ]; do echo "$p $i" >> log; i=$((i+1)); done) & done; wait`)
	if got := strings.Count(harness.Read(t, log), "\n"); got != 800 {
		t.Errorf("%d lines of 800 appended by four processes", got)
	}
	in(t, v.Point, "sh", "-c", `exec 9>lock; flock -n 9 || exit 1; (exec 8>lock; flock -n 8 && exit 1; exit 0)`)
	f, err := os.OpenFile(v.Path("mapped"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	const size = 3 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	want := harness.Bytes(harness.Seed(t), size)
	copy(m, want)
	if err := errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m), f.Close()); err != nil {
		t.Fatal(err)
	}
	gone, err := os.Create(v.Path("gone"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gone.Name()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := gone.WriteString("still"); err != nil {
		t.Fatal(err)
	}
	if _, err := gone.ReadAt(b, 0); err != nil || string(b) != "still" {
		t.Errorf("a removed file that is open reads %q (%v)", b, err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	v.Wait(time.Minute)
	v.Kill()
	v.Start()
	if got := harness.Read(t, v.Path("mapped")); got != string(want) {
		t.Error("what was written through a mapping is not what it was")
	}
	v.OK("check", v.Point, "--read")
	v.Unmount()
}
