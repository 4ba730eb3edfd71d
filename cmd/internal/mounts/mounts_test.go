package mounts

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const info = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home/ann/vault rw,nosuid,nodev - fuse.stasis /home/ann/.local/share/stasis/home-ann-vault rw
31 22 0:41 / /mnt/with\040space rw - fuse.stasis /srv/a\134b\012c rw
32 22 0:40 /photos /srv/photos rw - fuse.stasis /home/ann/.local/share/stasis/home-ann-vault rw
33 22 0:42 / /srv/shadowed rw - fuse.stasis /srv/below rw
34 33 0:43 / /srv/shadowed rw - tmpfs tmpfs rw
this line has another shape
`

func table(t *testing.T) Table {
	t.Helper()
	table, err := parse(strings.NewReader(info))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTable(t *testing.T) {
	table := table(t)
	if len(table) != 6 {
		t.Fatalf("%d mounts", len(table))
	}
	if m := table[2]; m.Point != "/mnt/with space" || m.Source != "/srv/a\\b\nc" {
		t.Errorf("escapes: %q from %q", m.Point, m.Source)
	}
	for path, want := range map[string]string{
		"/": "/", "/home/ann": "/", "/home/ann/vault": "/home/ann/vault", "/home/ann/vault/x/y": "/home/ann/vault",
		"/home/ann/vaults": "/", "/mnt/with space/a": "/mnt/with space",
	} {
		if m, ok := table.Covering(path); !ok || m.Point != want {
			t.Errorf("%s is covered by %s, want %s", path, m.Point, want)
		}
	}
	if m, _ := table.Covering("/srv/shadowed/x"); m.Type != "tmpfs" {
		t.Errorf("the upper mount counts, got %s", m.Type)
	}
	if _, ok := table.At("/home/ann"); ok {
		t.Error("nothing is mounted at /home/ann")
	}
	if of := table.Of("/home/ann/.local/share/stasis/home-ann-vault"); len(of) != 2 || of[0].Point != "/home/ann/vault" {
		t.Errorf("mounts of a state directory: %v", of)
	}
	if got := len(table.Vaults()); got != 3 {
		t.Errorf("%d vault mounts, want 3: the shadowed one can't be reached", got)
	}
}

func TestInside(t *testing.T) {
	table := table(t)
	for path, want := range map[string]string{
		"/home/ann/vault": "", "/home/ann/vault/a/b": "a/b", "/srv/photos": "photos", "/srv/photos/x": "photos/x",
	} {
		m, _ := table.Covering(path)
		if got := m.Inside(path); got != want {
			t.Errorf("%s inside is %q, want %q", path, got, want)
		}
	}
}

// A mount is of the vault that it names only if root made it, or who has the vault's key.
func TestForeignMounts(t *testing.T) {
	self := os.Geteuid()
	mine, none := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(mine, "key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const root, line = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "30 22 0:40 / /v rw - fuse.stasis %s rw,user_id=%d,group_id=0\n"
	for _, c := range []struct {
		what    string
		text    string
		user    int
		foreign bool
	}{
		{"one's own", fmt.Sprintf(line, mine, self), self, false},
		{"root's", fmt.Sprintf(line, mine, 0), 0, false},
		{"another's, who names this one", fmt.Sprintf(line, mine, self+7), self + 7, true},
		{"one's own without a key", fmt.Sprintf(line, none, self), self, false},
		{"another's without a key", fmt.Sprintf(line, none, self+7), self + 7, true},
		{"another's, with a source that is no path", fmt.Sprintf(line, "stasis", self+7), self + 7, true},
		{"one that does not tell", "30 22 0:40 / /v rw - fuse.stasis " + mine + " rw\n", -1, true},
		{"another's on what a third serves", "29 22 0:39 / " + none + " rw,user_id=1 - fuse.x x rw,user_id=" + fmt.Sprint(self+9) + "\n" + fmt.Sprintf(line, none, self+7), self + 7, true},
		{"a user in the source and not in the options", "30 22 0:40 / /v rw - fuse.stasis " + mine + ",user_id=0 rw,user_id=" + fmt.Sprint(self+7) + "\n", self + 7, true},
	} {
		table, err := parse(strings.NewReader(root + c.text))
		if err != nil {
			t.Fatal(err)
		}
		table.tie()
		m, ok := table.At("/v")
		if !ok || m.User != c.user || m.Foreign != c.foreign || !m.IsVault() {
			t.Errorf("%s: %+v, want the user %d, foreign: %v", c.what, m, c.user, c.foreign)
		}
		if of := table.Of(m.Source); len(of) > 0 == c.foreign {
			t.Errorf("%s: the mounts of the state directory are %v", c.what, of)
		}
	}
}

// Paths in a vault mount are text: the table here names one below a directory in
// which nothing exists, so that a look at it would show.
func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "real/deep"), 0o700))
	must(os.MkdirAll(filepath.Join(dir, "vault"), 0o700))
	must(os.Symlink("real", filepath.Join(dir, "link")))
	must(os.Symlink(filepath.Join(dir, "vault"), filepath.Join(dir, "tovault")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	// A link below the mountpoint must not be followed.
	must(os.Symlink("/etc", filepath.Join(dir, "vault/etc")))
	table := Table{{Point: "/", Type: "ext4", Root: "/"}, {Point: filepath.Join(dir, "vault"), Type: Type, Source: "/state", Root: "/"}}
	for path, want := range map[string]struct {
		to    string
		vault bool
	}{
		"link/deep":        {"real/deep", false},
		"link/missing/x":   {"real/missing/x", false},
		"tovault":          {"vault", true},
		"tovault/etc/x":    {"vault/etc/x", true},
		"vault/etc":        {"vault/etc", true},
		"link/../vault/a":  {"vault/a", true},
		"real/deep/../../": {"", false},
	} {
		got, m, err := table.Resolve(filepath.Join(dir, path))
		if err != nil || got != filepath.Join(dir, want.to) || m.IsVault() != want.vault {
			t.Errorf("%s: %s (vault %v), %v; want %s", path, got, m.IsVault(), err, want.to)
		}
	}
	inner := append(table, Mount{Point: filepath.Join(dir, "vault/inner"), Type: Type, Source: "/other", Root: "/"})
	for path, want := range map[string]string{"vault/inner": "/other", "tovault/inner/x": "/other", "vault/innermost": "/state"} {
		if _, m, err := inner.Resolve(filepath.Join(dir, path)); err != nil || m.Source != want {
			t.Errorf("%s is in the vault %s, %v; want %s", path, m.Source, err, want)
		}
	}
	if _, _, err := table.Resolve(filepath.Join(dir, "loop/x")); err == nil {
		t.Error("a loop of links was followed")
	}
	t.Chdir(filepath.Join(dir, "real"))
	if got, _, err := table.Resolve("deep"); err != nil || got != filepath.Join(dir, "real/deep") {
		t.Errorf("relative: %s, %v", got, err)
	}
}

func TestEscape(t *testing.T) {
	for path, want := range map[string]string{
		"/home/ann/vault": "home-ann-vault", "/": "-", "/mnt/my-disk": `mnt-my\x2ddisk`, "/mnt/a b/": `mnt-a\x20b`,
		"/.hidden": `\x2ehidden`, "/srv/v1.2": "srv-v1.2", "/mnt/ü": `mnt-\xc3\xbc`,
	} {
		if got := Escape(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// A busy mount is named with who holds it, in whichever way.
func TestHolders(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "a file")
	open := func() *os.File {
		f, err := os.Create(file)
		must(err)
		return f
	}
	socket := filepath.Join(dir, "a socket")
	for _, c := range []struct {
		how, path string
		hold      func() (release func() error)
	}{
		{"has open", file, func() func() error { return open().Close }},
		{"has open", file + deleted, func() func() error {
			f := open()
			must(os.Remove(file))
			return f.Close
		}},
		{"has mapped", file, func() func() error {
			f := open()
			must(f.Truncate(4096))
			b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
			must(err)
			must(f.Close())
			return func() error { return unix.Munmap(b) }
		}},
		{"listens at", socket, func() func() error {
			l, err := net.Listen("unix", socket)
			must(err)
			return l.Close
		}},
		{"works in", dir, func() func() error {
			t.Chdir(dir)
			return func() error { return os.Chdir("/") }
		}},
	} {
		release := c.hold()
		found := Holders(dir, 0)
		if len(found) != 1 || found[0].PID != os.Getpid() || found[0].How != c.how || found[0].Path != c.path {
			t.Errorf("the process %s %s, and found is %v", c.how, c.path, found)
		}
		if found := Holders(dir, os.Getpid()); len(found) != 0 {
			t.Errorf("itself is among the holders: %v", found)
		}
		must(release())
		if found := Holders(dir, 0); len(found) != 0 {
			t.Errorf("it %s nothing there any more, and found is %v", c.how, found)
		}
	}
}

// Nobody reads a hundred names, and nobody at all is said in words.
func TestDescribe(t *testing.T) {
	var many []Holder
	for i := range maxHolders + 2 {
		many = append(many, Holder{PID: i + 1, Name: "vi", Path: "/v/x", How: "has open"})
	}
	if got := Describe(many); strings.Count(got, "vi (pid") != maxHolders || !strings.HasSuffix(got, "and 2 more") {
		t.Errorf("many: %s", got)
	}
	if got := Describe([]Holder{{Name: "/dev/loop0", Path: "/v/i", How: "is made of"}}); got != "/dev/loop0 is made of /v/i" {
		t.Errorf("a loop device: %s", got)
	}
	// A process gives itself its name, and any program may name a file.
	if got := (Holder{PID: 7, Name: "vi\x1b[2J", Path: "/v/\x1b]0;x\a", How: "has open"}).String(); strings.ContainsAny(got, "\x1b\a") {
		t.Errorf("a name that plays with the terminal: %q", got)
	}
	if got := Describe(nil); !strings.Contains(got, "holds it") {
		t.Errorf("nobody: %s", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(info)
	f.Add(`1 2 3 \04 \9999 6 - \ \0`)
	f.Fuzz(func(t *testing.T, text string) {
		table, err := parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, m := range table.Vaults() {
			if _, ok := table.At(m.Point); !ok {
				t.Errorf("%q is listed and not found", m.Point)
			}
		}
	})
}
