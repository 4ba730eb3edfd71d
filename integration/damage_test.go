package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stasis/integration/harness"
)

// flip turns over some bytes of a file.
func flip(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0xff
	}
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// largest is the largest file below a directory.
func largest(t *testing.T, dir string) string {
	t.Helper()
	path, size := "", int64(-1)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			path, size = p, info.Size()
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatalf("no file below %s (%v)", dir, err)
	}
	return path
}

const damagedSize = 5 << 20

// Rot in one copy is never served: another copy is, `check --read` says which is bad, and
// it is made again.
func TestRotInOneCopy(t *testing.T) {
	v := harness.NewVault(t)
	v.Settings("copies = 2\n")
	v.Start()
	dir, box := filepath.Join(v.Base, "dir"), filepath.Join(v.Base, "box")
	v.OK("node", "add", v.Point, "dir", "directory", dir)
	v.OK("node", "add", v.Point, "box", "container", box, "--capacity", "64MiB")
	number := harness.Seed(t)
	if err := harness.WriteFile(v.Path("file"), number, damagedSize, true); err != nil {
		t.Fatal(err)
	}
	v.Wait(time.Minute)
	for _, bad := range []string{"dir", "box"} {
		v.Unmount()
		crate := largest(t, filepath.Join(v.Base, bad))
		info, err := os.Stat(crate)
		if err != nil {
			t.Fatal(err)
		}
		flip(t, crate, info.Size()/2, 100)
		v.Start()
		harness.HasContent(t, v.Path("file"), number, damagedSize)
		r := v.Stasis("check", v.Point, "--read")
		if r.Code == 1 && !strings.Contains(r.Stdout, `"`+bad+`"`) {
			t.Errorf("a damaged copy on %s is not named\n%v", bad, r)
		} else if r.Code != 1 && r.Code != 0 {
			t.Errorf("check --read\n%v", r)
		}
		// The read may have found and mended it before the check did.
		harness.Eventually(t, returnLimit, "the copy on "+bad+" being made again", func() (bool, string) {
			r := v.Stasis("check", v.Point, "--read")
			return r.Code == 0 && v.Xattr("copies", "file") == "2", r.String()
		})
		harness.HasContent(t, v.Path("file"), number, damagedSize)
	}
	v.Unmount()
}

// With the only copy damaged a read is an error, never wrong bytes and never a missing
// file, and the rest of the vault goes on.
func TestRotInTheOnlyCopy(t *testing.T) {
	for _, kind := range []string{"directory", "container"} {
		t.Run(kind, func(t *testing.T) {
			v := harness.NewVault(t)
			place := filepath.Join(v.Base, "place")
			v.Settings("copies = 1\n")
			v.Start()
			v.OK("node", "add", v.Point, "only", kind, place, "--capacity", "64MiB")
			number := harness.Seed(t)
			if err := harness.WriteFile(v.Path("file"), number, damagedSize, true); err != nil {
				t.Fatal(err)
			}
			v.Wait(time.Minute)
			v.Unmount()
			if err := os.RemoveAll(filepath.Join(v.State, "bodies")); err != nil {
				t.Fatal(err)
			}
			crate := largest(t, place)
			info, err := os.Stat(crate)
			if err != nil {
				t.Fatal(err)
			}
			flip(t, crate, info.Size()/2, 3)
			v.Start()
			if _, err := os.ReadFile(v.Path("file")); !errors.Is(err, syscall.EIO) {
				t.Errorf("reading a damaged only copy: %v, want EIO", err)
			}
			if !strings.Contains(v.Log(), "corrupt") && !strings.Contains(v.Log(), "damaged") {
				t.Errorf("the log does not say why:\n%s", v.Log())
			}
			r := v.Stasis("check", v.Point, "--read")
			if r.Code != 1 || !strings.Contains(r.Stdout, "/file") {
				t.Errorf("check --read should name what is lost, and exit with 1\n%v", r)
			}
			if r := v.Stasis("status", v.Point, "--exit-code"); r.Code == 0 {
				t.Errorf("all is safe, with the only copy damaged?\n%v", r)
			}
			harness.Write(t, "goes on\n", v.Point, "other")
			v.Wait(time.Minute, "other")
			if got := harness.Read(t, v.Path("other")); got != "goes on\n" {
				t.Errorf("another file reads %q", got)
			}
			// Written anew it is whole again.
			if err := harness.WriteFile(v.Path("file"), number+1, damagedSize, true); err != nil {
				t.Fatal(err)
			}
			v.Wait(time.Minute, "file")
			harness.HasContent(t, v.Path("file"), number+1, damagedSize)
			v.Unmount()
		})
	}
}

// A store whose own records are damaged is a node in trouble that says so; the vault
// mounts, and other copies serve.
func TestDamagedStore(t *testing.T) {
	for kind, damage := range map[string]func(t *testing.T, place string){
		"directory marker":     func(t *testing.T, place string) { flip(t, filepath.Join(place, "stasis.node"), 0, 64) },
		"container superblock": func(t *testing.T, place string) { flip(t, place, 0, 16<<10) },
		"container cut":        func(t *testing.T, place string) { must(t, os.Truncate(place, 5000)) },
	} {
		t.Run(kind, func(t *testing.T) {
			v := harness.NewVault(t)
			good, bad := filepath.Join(v.Base, "good"), filepath.Join(v.Base, "bad")
			v.Settings("copies = 2\n")
			v.Start()
			name, _, _ := strings.Cut(kind, " ")
			v.OK("node", "add", v.Point, "bad", name, bad, "--capacity", "64MiB")
			v.OK("node", "add", v.Point, "good", "directory", good)
			harness.Write(t, "content\n", v.Point, "file")
			v.Wait(time.Minute)
			v.Unmount()
			must(t, os.RemoveAll(filepath.Join(v.State, "bodies")))
			damage(t, bad)
			r := v.TryStart()
			if r.Code != 0 {
				t.Fatalf("one damaged node keeps the vault from being mounted\n%v", r)
			}
			if got := harness.Read(t, v.Path("file")); got != "content\n" {
				t.Errorf("reads %q", got)
			}
			n := v.Status().Node(t, "bad")
			if len(n.LastError) < 20 {
				t.Errorf("nothing is said of the damage: %+v", n)
			}
			t.Logf("%s: %s", n.State, n.LastError)
			if r := v.Stasis("status", v.Point, "--exit-code"); r.Code != 3 {
				t.Errorf("with a damaged node the status should be 3\n%v", r)
			}
			v.Unmount()
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// filled is a vault with some files, unmounted, whose ledger was folded and journalled.
func filled(t *testing.T) *harness.Vault {
	t.Helper()
	v := harness.NewVault(t)
	v.Directories(1, filepath.Join(v.Base, "a"))
	v.Start()
	for i := range 50 {
		harness.Write(t, fmt.Sprintf("file %d\n", i), v.Point, fmt.Sprintf("file-%d", i))
	}
	v.Wait(time.Minute)
	return v
}

func expectFilled(t *testing.T, v *harness.Vault, files int) {
	t.Helper()
	for i := range files {
		if got, want := harness.Read(t, v.Path(fmt.Sprintf("file-%d", i))), fmt.Sprintf("file %d\n", i); got != want {
			t.Errorf("file-%d reads %q, want %q", i, got, want)
		}
	}
}

// A ledger that is damaged is refused with the way back: the newest backup, and `stasis
// restore`, which replays the journals kept since.
func TestDamagedLedger(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, ledger string){
		"pages": func(t *testing.T, ledger string) {
			path := filepath.Join(ledger, "ledger.db")
			flip(t, path, 0, int(min(size(t, path), 64<<10)))
		},
		"cut":     func(t *testing.T, ledger string) { must(t, os.Truncate(filepath.Join(ledger, "ledger.db"), 4096)) },
		"removed": func(t *testing.T, ledger string) { must(t, os.Remove(filepath.Join(ledger, "ledger.db"))) },
	} {
		t.Run(name, func(t *testing.T) {
			v := filled(t)
			v.Unmount()
			damage(t, filepath.Join(v.State, "ledger"))
			r := v.TryStart()
			v.Refused(r, 1, "ledger", "stasis restore "+v.State)
			// The sentence names a command that works as it stands.
			_, command, _ := strings.Cut(r.Stderr, "stasis restore ")
			command, _, _ = strings.Cut(command, "`")
			v.OK(append([]string{"restore"}, strings.Fields(command)...)...)
			v.Start()
			expectFilled(t, v, 50)
			v.OK("check", v.Point, "--read")
			v.Unmount()
		})
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Size()
}

// A journal that is damaged where it was synced is refused; a vault goes back to before
// the damage by `stasis restore`.
func TestDamagedJournal(t *testing.T) {
	v := filled(t)
	for i := range 40 { // so that the journal reaches well beyond its head
		harness.Write(t, fmt.Sprintf("more %d\n", i), v.Point, fmt.Sprint("more-", i))
	}
	// What comes after a sync says in the journal that it was made: what is damaged before is
	// no tail that a power cut has left.
	harness.Must(t, "sync", v.Path("file-0"))
	harness.Write(t, "last 1\n", v.Point, "last-1")
	// Killed, so that the table lacks what the journal has.
	v.Kill()
	v.Detach()
	journals, err := filepath.Glob(filepath.Join(v.State, "ledger", "journal-*"))
	if err != nil || len(journals) == 0 {
		t.Fatalf("no journal (%v)", err)
	}
	for _, j := range journals { // one of them is in use
		flip(t, j, journalHead, 4<<10)
	}
	r := v.TryStart()
	v.Refused(r, 1, "journal", "stasis restore "+v.State)
	t.Log(strings.TrimSpace(r.Stderr))
	_, command, _ := strings.Cut(r.Stderr, "stasis restore ")
	command, _, _ = strings.Cut(command, "`")
	t.Log(strings.TrimSpace(v.OK(append([]string{"restore"}, strings.Fields(command)...)...)))
	v.Start()
	// Each file is as it was at some moment before the damage: made and still empty, or
	// written.
	for _, name := range names(t, v.Point) {
		want := strings.Replace(name, "-", " ", 1) + "\n"
		if got := harness.Read(t, v.Path(name)); got != want && got != "" {
			t.Errorf("%s reads %q, want %q or nothing", name, got, want)
		}
	}
	harness.Write(t, "goes on\n", v.Point, "after")
	v.Wait(time.Minute)
	v.OK("check", v.Point, "--read")
	v.Unmount()
}

// journalHead is where in a journal the records have begun for certain, in bytes.
const journalHead = 16 << 10

// A backup and the key are enough to have the names back, while the nodes have the
// content; what was written since the backup comes from the journals, where they are left.
func TestBackupAndRestore(t *testing.T) {
	v := filled(t)
	backup := harness.Mkdir(t, v.Base, "backup")
	said := v.OK("backup", v.Point, backup)
	if !strings.Contains(said, backup) {
		t.Errorf("backup says %q, want where it is", said)
	}
	key := filepath.Join(v.Base, "exported.key")
	exported := v.OK("key", "export", v.Point)
	harness.Write(t, exported, key)
	harness.Write(t, "later\n", v.Point, "later")
	v.Wait(time.Minute)
	v.Unmount()

	// The journals are there: nothing is missing.
	v.OK("restore", v.State, backup)
	v.Start()
	expectFilled(t, v, 50)
	backup = filepath.Join(v.Base, "second backup")
	if got := harness.Read(t, v.Path("later")); got != "later\n" {
		t.Errorf("reads %q", got)
	}
	v.OK("check", v.Point, "--read")
	v.OK("backup", v.Point, backup)
	harness.Write(t, "latest\n", v.Point, "latest")
	v.Wait(time.Minute)
	v.Unmount()

	// The whole ledger is lost, journals and backups with it.
	must(t, os.RemoveAll(filepath.Join(v.State, "ledger")))
	v.Refused(v.TryStart(), 1, "stasis restore")
	v.OK("restore", v.State, backup)
	r := v.TryStart()
	if r.Code != 0 {
		// The node was used since the backup was made: a person has to say that this one
		// goes on.
		v.Refused(r, 1, "--take-over")
		v.Start("--take-over")
	}
	expectFilled(t, v, 50)
	if got := harness.Read(t, v.Path("later")); got != "later\n" {
		t.Errorf("reads %q", got)
	}
	r = v.Stasis("check", v.Point, "--read")
	if r.Code != 0 {
		t.Errorf("what the backup does not know is no loss\n%v", r)
	}
	v.Unmount()
	v.Fails(1, []string{"nothing"}, "restore", v.State, filepath.Join(v.Base, "nothing"))
	v.Fails(1, []string{".backup"}, "restore", v.State, v.Base)
}
