package config

import (
	"os"
	"path/filepath"
	"testing"
)

// An edit must not cost a person their comments or their order.
func TestEditsKeepTheRest(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		edit       func(text []byte) ([]byte, error)
	}{
		"set": {"# a\ncopies = 2   # two\n\nleast = 1\n", "# a\ncopies = 3   # two\n\nleast = 1\n",
			func(text []byte) ([]byte, error) { return SetCount(file, text, "copies", 3) }},
		"set beside": {"copies = 2   # two\n\n# n\n[[node]]\n", "copies = 2   # two\nleast = 2\n\n# n\n[[node]]\n",
			func(text []byte) ([]byte, error) { return SetCount(file, text, "least", 2) }},
		"set above nodes": {"# file\n\n# n\n[[node]]\n", "# file\n\ncopies = 2\n\n# n\n[[node]]\n",
			func(text []byte) ([]byte, error) { return SetCount(file, text, "copies", 2) }},
		"set in nothing": {"", "copies = 2\n",
			func(text []byte) ([]byte, error) { return SetCount(file, text, "copies", 2) }},
		"set without an end": {"# only this", "# only this\ncopies = 2\n",
			func(text []byte) ([]byte, error) { return SetCount(file, text, "copies", 2) }},
		"set behind an unended line": {"copies = 2", "copies = 2\nleast = 2\n",
			func(text []byte) ([]byte, error) { return SetCount(file, text, "least", 2) }},
		"add": {"copies = 1", "copies = 1\n\n[[node]]\nname = \"a\"\nkind = \"container\"\npath = \"/a \\\"b\\\"\\u000A\"\ncapacity = \"1GiB\"\nzone = \"z\"\n",
			func(text []byte) ([]byte, error) {
				return AddNode(file, text, Node{Name: "a", Kind: KindContainer, Path: "/a \"b\"\n", Capacity: 1 << 30, Zone: "z"})
			}},
		"remove middle": {sample, `# mine
copies = 2   # two is enough
least = 1

# the big one
[[node]]
name = "disk"
kind = "directory"
path = "nodes/default"

[[node]]
name = "ram"
kind = "memory"
capacity = "64MiB"
`, func(text []byte) ([]byte, error) { return RemoveNode(file, text, "usb") }},
		"remove last": {"copies = 1\n\n[[node]]\nname = \"a\"", "copies = 1\n",
			func(text []byte) ([]byte, error) { return RemoveNode(file, text, "a") }},
		"remove beside an attached comment": {"[[node]]\nname = \"a\"\n# of b\n[[node]]\nname = \"b\"\n", "# of b\n[[node]]\nname = \"b\"\n",
			func(text []byte) ([]byte, error) { return RemoveNode(file, text, "a") }},
	} {
		got, err := c.edit([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if string(got) != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

// checkEdits tries each edit on a file that is read as c and compares what the
// outcome says.
func checkEdits(t *testing.T, text []byte, c *Config) {
	t.Helper()
	expect := func(what string, edited []byte, err error, want Config) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got, err := Parse(file, edited)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", what, err, edited)
		}
		if !got.Equal(&want) {
			t.Fatalf("%s: got %+v, want %+v, from\n%s", what, got, want, edited)
		}
	}
	want := *c
	want.Copies = 7
	if want.Least <= 7 {
		edited, err := SetCount(file, text, "copies", 7)
		expect("set copies", edited, err, want)
	}
	node := Node{Name: "added-by-test", Kind: KindContainer, Path: "/added by \\ test", Capacity: 12345678, Zone: "z", Rate: 20 << 20}
	if _, taken := c.Node(node.Name); !taken && len(c.Nodes) < MaxNodes {
		want = *c
		want.Nodes = append(append([]Node{}, c.Nodes...), node)
		edited, err := AddNode(file, text, node)
		expect("add", edited, err, want)
		back, err := RemoveNode(file, edited, node.Name)
		expect("add and remove", back, err, *c)
	}
	for i, n := range c.Nodes {
		want = *c
		want.Nodes = append(append([]Node{}, c.Nodes[:i]...), c.Nodes[i+1:]...)
		edited, err := RemoveNode(file, text, n.Name)
		expect("remove "+n.Name, edited, err, want)
	}
}

func TestEditsSayWhatIsMeant(t *testing.T) {
	for _, text := range []string{sample, Default, ""} {
		c, err := Parse(file, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		checkEdits(t, []byte(text), c)
	}
}

func TestEditFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(filepath.Join(dir, "real.toml"), []byte(sample), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.toml", path); err != nil {
		t.Fatal(err)
	}
	c, err := Edit(path, func(text []byte) ([]byte, error) { return SetCount(path, text, "copies", 3) }, func(c *Config) { c.Copies = 3 })
	if err != nil || c.Copies != 3 {
		t.Fatal(c, err)
	}
	if again, err := Load(path); err != nil || !again.Equal(c) {
		t.Errorf("read again: %+v, %v", again, err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the symlink was replaced: %v, %v", info, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode changed: %v, %v", info, err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What the edit does not say as meant is not written.
	if _, err := Edit(path, func(text []byte) ([]byte, error) { return SetCount(path, text, "copies", 4) }, func(c *Config) { c.Copies = 5 }); err == nil {
		t.Error("an edit that says something else was written")
	}
	if _, err := Edit(path, func([]byte) ([]byte, error) { return []byte("copies = x"), nil }, func(*Config) {}); err == nil {
		t.Error("a broken file was written")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("a refused edit changed the file: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left beside the file: %v %v", entries, err)
	}
}
