package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/integration/harness"
)

// rsync with checksums carries links, attributes and ACLs in and out again, and finds
// nothing to do the second time, nor when the nodes are all there is.
func TestRsyncAgain(t *testing.T) {
	v := twoNodes(t)
	source := richTree(t)
	args := func(from, to string) []string {
		return []string{"rsync", "-aHAXS", "--checksum", "--delete", "--itemize-changes", from + "/", to + "/"}
	}
	to := harness.Mkdir(t, v.Path("copy"))
	if in(t, v.Point, args(source, to)...) == "" {
		t.Error("the first transfer says that it did nothing")
	}
	if again := in(t, v.Point, args(source, to)...); again != "" {
		t.Errorf("the second transfer did\n%s", again)
	}
	sameRich(t, source, to)
	onlyNodes(t, v)
	if again := in(t, v.Point, args(source, to)...); again != "" {
		t.Errorf("a transfer after a mount did\n%s", again)
	}
	back := harness.Mkdir(t, harness.Dir(t), "back")
	in(t, v.Point, args(to, back)...)
	sameRich(t, source, back)
	checked(t, v)
}

// tar keeps everything, through an archive in the vault, into the vault and out.
func TestTarThereAndBack(t *testing.T) {
	v := twoNodes(t)
	source := richTree(t)
	pack := func(from, archive string) {
		in(t, v.Point, "tar", "-C", from, "--xattrs", "--acls", "--sparse", "-cf", archive, ".")
	}
	unpack := func(archive, to string) {
		harness.Mkdir(t, to)
		in(t, v.Point, "tar", "-C", to, "--xattrs", "--xattrs-include=*", "--acls", "--same-owner", "-xpf", archive)
	}
	pack(source, "first.tar")
	unpack("first.tar", v.Path("unpacked"))
	sameRich(t, source, v.Path("unpacked"))
	onlyNodes(t, v)
	pack(v.Path("unpacked"), "second.tar")
	back := filepath.Join(harness.Dir(t), "back")
	unpack("second.tar", back)
	sameRich(t, source, back)
	checked(t, v)
}

// richTree is oddTree with more that not every filesystem keeps: hard links across
// directories, attributes of files, directories and of every size, and ACLs.
func richTree(t *testing.T) string {
	t.Helper()
	dir := oddTree(t)
	sub := harness.Mkdir(t, dir, "rich")
	for _, name := range []string{"one", "two", "three"} {
		if err := os.Link(filepath.Join(dir, "plain"), filepath.Join(sub, name)); err != nil {
			t.Fatal(err)
		}
	}
	file := harness.Write(t, "with attributes\n", sub, "file")
	for name, value := range map[string]string{
		"user.empty": "", "user.large": strings.Repeat("v", 2000), "user.bytes": "\x00\xff\n=\"'", "user." + strings.Repeat("n", 200): "long",
	} {
		if err := unix.Setxattr(file, name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(sub, "user.directory", []byte("too"), 0); err != nil {
		t.Fatal(err)
	}
	in(t, sub, "sh", "-c", `mkdir shared && touch shared/before && chmod 750 shared &&
		setfacl -m u:1234:rw,g:5678:r-- file && setfacl -m u:1234:rwx,m::r-x shared && setfacl -d -m u:1234:rwx,g:5678:r-x shared && touch shared/after`)
	if os.Geteuid() == 0 {
		if err := unix.Setxattr(file, "trusted.root", []byte("only"), 0); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sameRich compares trees with all that richTree has.
func sameRich(t *testing.T, want, got string) {
	t.Helper()
	harness.SameTrees(t, want, got)
	for what, show := range map[string]string{
		"attributes":       `xargs -0 getfattr -h -d -m '^(user|trusted)\.' -e hex --`,
		"ACLs":             `xargs -0 getfacl -P -n -p --`,
		"owners and links": `xargs -0 stat -c '%u:%g %h %N' --`,
	} {
		if a, b := inOrder(t, want, show), inOrder(t, got, show); a != b {
			t.Errorf("the %s of %s and %s differ:\n%s\nand\n%s", what, want, got, a, b)
		}
	}
	groups := func(dir string) string { return in(t, dir, "sh", "-c", hardLinked) }
	if a, b := groups(want), groups(got); a != b {
		t.Errorf("other files are one: in %s\n%s\nin %s\n%s", want, a, got, b)
	}
}

// hardLinked names, for each name of a file that has several, the first of them.
const hardLinked = `find . -type f -links +1 -printf '%i %p\n' | LC_ALL=C sort | awk '{ if (!($1 in first)) first[$1] = $2; print $2, first[$1] }' | LC_ALL=C sort`

// inOrder gives what a command shows of everything in a directory.
func inOrder(t *testing.T, dir, show string) string {
	t.Helper()
	return in(t, dir, "sh", "-c", "find . -print0 | LC_ALL=C sort -z | "+show)
}
