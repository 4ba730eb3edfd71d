package names

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"stasis/store"
)

var writeGolden = flag.Bool("write-golden", false, "write golden files that do not exist yet")

var goldenInodes = map[string]Inode{
	"file": {Ino: 7, Mode: unix.S_IFREG | 0o4755, UID: 1000, GID: 65534, Nlink: 2, Size: 1<<40 + 3,
		Btime: 1_700_000_000_123_456_789, Atime: 1_700_000_001_000_000_000, Mtime: 1_600_000_000_000_000_001, Ctime: 1_700_000_000_123_456_789,
		List: 300, Parent: 1, cookie: 16},
	"before-1970": {Ino: 8, Mode: unix.S_IFIFO | 0o600, Nlink: 1, Btime: -1, Atime: -1 << 63, Mtime: 1<<63 - 1, Ctime: -5, Parent: 1, cookie: 1 << 60},
	"directory":   {Ino: 9, Mode: unix.S_IFDIR | 0o2775, Nlink: 4, Size: 4096, Btime: 1, Atime: 1, Mtime: 2, Ctime: 2, Parent: 1, cookie: 18},
	"symlink":     {Ino: 10, Mode: unix.S_IFLNK | 0o777, Nlink: 1, Size: 9, Parent: 9, cookie: 19, Target: "../\xffe/f g"},
	"device":      {Ino: 11, Mode: unix.S_IFBLK | 0o660, Nlink: 1, Rdev: 0x0801, Parent: 1, cookie: 20},
}

// The bytes on disk must not change unnoticed: vaults written today are read by
// every later version.
func TestGolden(t *testing.T) {
	got := map[string][]byte{
		"dentry": encodeDentry(dentry{300, unix.S_IFREG, 70000}),
		"entry":  encodeEntry("näme", dentry{300, unix.S_IFSOCK, 70000}),
		"usage":  encodeUsage(usage{3, 1 << 33}),
		"mark":   encodeMark(4098),
		"bytes":  encodeBytes([]byte("value")),
	}
	for name, in := range goldenInodes {
		got["inode-"+name] = encodeInode(&in)
	}
	for name, p := range got {
		path := filepath.Join("testdata", "golden", "v1-"+name+".hex")
		want, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && *writeGolden {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(hex.EncodeToString(p)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(p) != strings.TrimSpace(string(want)) {
			t.Errorf("%s is encoded as %x, in the golden file it is %s", name, p, want)
		}
	}
	for name, in := range goldenInodes {
		p := readGolden(t, "inode-"+name)
		if back, err := decodeInode(in.Ino, p); err != nil || back != in {
			t.Errorf("inode %s is read as %+v, %v", name, back, err)
		}
	}
	if d, err := decodeDentry(1, "x", readGolden(t, "dentry")); err != nil || d != (dentry{300, unix.S_IFREG, 70000}) {
		t.Errorf("dentry is read as %+v, %v", d, err)
	}
	e, err := decodeEntry(1, cookieKey(1, 70000), readGolden(t, "entry"))
	if err != nil || e != (Entry{"näme", 300, unix.S_IFSOCK, 70000}) {
		t.Errorf("entry is read as %+v, %v", e, err)
	}
	if u, err := decodeUsage(readGolden(t, "usage")); err != nil || u != (usage{3, 1 << 33}) {
		t.Errorf("usage is read as %+v, %v", u, err)
	}
	if n, err := decodeMark(readGolden(t, "mark")); err != nil || n != 4098 {
		t.Errorf("mark is read as %d, %v", n, err)
	}
	if p, err := decodeBytes("bytes", 1, readGolden(t, "bytes")); err != nil || string(p) != "value" {
		t.Errorf("bytes are read as %q, %v", p, err)
	}
}

func readGolden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "golden", "v1-"+name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Every inode comes back as it was, with the extremes of each field, and no
// shorter record is taken for whole. A symlink's target has no end mark of its own: there only
// the fields before it are cut.
func TestInodeRoundTrip(t *testing.T) {
	types := []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK}
	rapid.Check(t, func(t *rapid.T) {
		in := Inode{
			Ino:  Ino(rapid.Uint64().Draw(t, "ino")),
			Mode: rapid.SampledFrom(types).Draw(t, "type") | rapid.Uint32Range(0, 0o7777).Draw(t, "perm"),
			UID:  rapid.Uint32().Draw(t, "uid"), GID: rapid.Uint32().Draw(t, "gid"),
			Nlink: rapid.Uint32().Draw(t, "nlink"), Rdev: rapid.Uint32().Draw(t, "rdev"),
			Size:  rapid.Int64Range(0, MaxSize).Draw(t, "size"),
			Atime: rapid.Int64().Draw(t, "atime"), Mtime: rapid.Int64().Draw(t, "mtime"),
			Ctime: rapid.Int64().Draw(t, "ctime"), Btime: rapid.Int64().Draw(t, "btime"),
			List: ListID(rapid.Uint64().Draw(t, "list")), Parent: Ino(rapid.Uint64().Draw(t, "parent")),
			cookie: rapid.Uint64().Draw(t, "cookie"),
		}
		if in.IsSymlink() {
			in.Target = rapid.StringN(1, 100, MaxTarget).Draw(t, "target")
		}
		p := encodeInode(&in)
		back, err := decodeInode(in.Ino, p)
		if err != nil || back != in {
			t.Fatalf("%+v came back as %+v, %v", in, back, err)
		}
		for n := range len(p) - len(in.Target) {
			if _, err := decodeInode(in.Ino, p[:n]); !errors.Is(err, store.Corrupt) {
				t.Fatalf("%d of %d bytes: %v, want corrupt", n, len(p), err)
			}
		}
	})
}

// Whatever bytes stand in the ledger, decoding gives a value that survives
// another round, or Corrupt; it never panics.
func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/golden/*.hex")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		p, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Add([]byte{})
	f.Add([]byte{2, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		kind := func(err error) {
			if err != nil && !errors.Is(err, store.Corrupt) {
				t.Fatalf("%x: %v, want corrupt", p, err)
			}
		}
		in, err := decodeInode(5, p)
		kind(err)
		if err == nil {
			if back, err := decodeInode(5, encodeInode(&in)); err != nil || back != in {
				t.Fatalf("%+v came back as %+v, %v", in, back, err)
			}
		}
		d, err := decodeDentry(1, "n", p)
		kind(err)
		if err == nil {
			if back, err := decodeDentry(1, "n", encodeDentry(d)); err != nil || back != d {
				t.Fatalf("%+v came back as %+v, %v", d, back, err)
			}
		}
		e, err := decodeEntry(1, cookieKey(1, 99), p)
		kind(err)
		if err == nil {
			back, err := decodeEntry(1, cookieKey(1, 99), encodeEntry(e.Name, dentry{e.Ino, e.Type, 99}))
			if err != nil || back != e {
				t.Fatalf("%+v came back as %+v, %v", e, back, err)
			}
		}
		u, err := decodeUsage(p)
		kind(err)
		if err == nil {
			if back, err := decodeUsage(encodeUsage(u)); err != nil || back != u {
				t.Fatalf("%+v came back as %+v, %v", u, back, err)
			}
		}
		_, err = decodeMark(p)
		kind(err)
		b, err := decodeBytes("value", 1, p)
		kind(err)
		if err == nil && !bytes.Equal(encodeBytes(b), p) {
			t.Fatalf("%x came back as %x", p, encodeBytes(b))
		}
	})
}
