package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stasis/store"
)

const file = "/vaults/one/vault.toml"

const sample = `# mine
copies = 2   # two is enough
least = 1

# the big one
[[node]]
name = "disk"
kind = "directory"
path = "nodes/default"

# in the drawer
[[node]]
name = "usb"
kind = "container"
path = "/media/usb/c"   # label USB
capacity = "500G"
zone = "drawer"
rate = "20MiB/s"
# bought in May

[[node]]
name = "ram"
kind = "memory"
capacity = "64MiB"
`

func TestParse(t *testing.T) {
	c, err := Parse(file, []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{Copies: 2, Least: 1, Bodies: "/vaults/one/bodies", Nodes: []Node{
		{Name: "disk", Kind: KindDirectory, Path: "/vaults/one/nodes/default"},
		{Name: "usb", Kind: KindContainer, Path: "/media/usb/c", Capacity: 500 << 30, Zone: "drawer", Rate: 20 << 20},
		{Name: "ram", Kind: KindMemory, Capacity: 64 << 20},
	}}
	if !c.Equal(want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

func TestParseDefault(t *testing.T) {
	c, err := Parse(file, []byte(Default))
	if err != nil {
		t.Fatal(err)
	}
	if c.Copies != 1 || c.Least != 1 || len(c.Nodes) != 1 || c.Nodes[0].Path != "/vaults/one/nodes/default" {
		t.Errorf("the default says %+v", c)
	}
}

func TestPaths(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	c, err := Parse(file, []byte("bodies = '~/bodies'\n[[node]]\nname='a'\nkind='directory'\npath='../x'\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Bodies != "/home/ann/bodies" || c.Nodes[0].Path != "/vaults/x" {
		t.Errorf("bodies %s, node %s", c.Bodies, c.Nodes[0].Path)
	}
}

// Each fault is refused with its line and, where there is one, a hint: the person
// must find it without reading the source.
func TestFaults(t *testing.T) {
	node := "[[node]]\nname = \"a\"\nkind = \"directory\"\npath = \"/a\"\n"
	for name, c := range map[string]struct {
		text, want string
	}{
		"typo":             {"copies = 1\ncopis = 2\n", `:2: unknown key "copis"; did you mean "copies"?`},
		"esc in a name":    {"[[node]]\nname = \"a\\u001b[2J\"\n", ":2: name has a character that can't be shown, or is too long: \"a\\x1b[2J\"; name it with"},
		"bidi in a path":   {node + "zone = \"\\u202e\"\n", ":5: zone has a character that can't be shown"},
		"esc in the TOML":  {"copies = \x1b]0;owned\a\n", ":1: "},
		"esc in a key":     {"\"\\u001b[2J\" = 1\n", ":1: unknown key"},
		"typo in node":     {node + "capcity = \"1G\"\n", `:5: unknown key "capcity"; did you mean "capacity"?`},
		"not built":        {"scrub = \"30d\"\n", `:1: unknown key "scrub"; known here: copies, least, bodies, cache`},
		"top in node":      {node + "copies = 2\n", `:5: unknown key "copies"; put copies above the first [[node]]`},
		"node key on top":  {"path = \"/x\"\n", `:1: unknown key "path"; path belongs into a [[node]] table`},
		"table":            {"[server]\n", `:1: unknown table "server"`},
		"typo in table":    {"\n[[nodes]]\n", `:2: unknown table "nodes"; did you mean "node"?`},
		"single brackets":  {"[node]\nname = \"a\"\n", `:1: a node's table has double brackets; write [[node]]`},
		"inline nodes":     {"node = [{name = \"a\"}]\n", `:1: unknown key "node"; write each node as a [[node]] table of its own`},
		"dotted":           {"a.b = 1\n", `:1: unknown key "a.b"`},
		"syntax":           {"copies = \n", ":1: "},
		"doubled":          {"copies = 1\ncopies = 2\n", ":2: "},
		"zero copies":      {"copies = 0\n", ":1: copies must be a number from 1 to 64"},
		"text copies":      {"copies = \"2\"\n", ":1: copies must be a number from 1 to 64"},
		"many copies":      {"copies = 65\n", ":1: copies must be a number from 1 to 64"},
		"bool":             {"copies = true\n", ":1: copies must be a number or a text in quotes"},
		"least over":       {"least = 2\n", ":1: least = 2 is more than copies = 1; lower least, or raise copies"},
		"number name":      {"[[node]]\nname = 7\n", `:2: name must be a text in quotes; write name = "7"`},
		"no name":          {"[[node]]\nkind = \"memory\"\ncapacity=\"1G\"", ":1: the node has no name"},
		"no kind":          {"[[node]]\nname = \"a\"\n", ":1: the node has no kind"},
		"no path":          {"[[node]]\nname = \"a\"\nkind = \"directory\"\n", `:1: node "a" has no path`},
		"bad name":         {"[[node]]\nname = \"a,b\"\nkind = \"memory\"\n", `:2: the name "a,b": letters, digits`},
		"dash name":        {"[[node]]\nname = \"-a\"\nkind = \"memory\"\n", `:2: the name "-a": letters, digits`},
		"long name":        {"[[node]]\nname = \"" + strings.Repeat("a", 65) + "\"\nkind = \"memory\"\n", ":2: the name is longer than 64 bytes"},
		"empty zone":       {node + "zone = \"\"\n", ":5: a name can't be empty"},
		"kind typo":        {"[[node]]\nname = \"a\"\nkind = \"directry\"\n", `:3: unknown kind "directry"; did you mean "directory"?`},
		"no address":       {"[[node]]\nname = \"a\"\nkind = \"grpc\"\n", `:1: node "a" has no address`},
		"no peer":          {"[[node]]\nname = \"a\"\nkind = \"grpc\"\naddress = \"h:1\"\n", `:1: node "a" has no peer`},
		"bad address":      {remote("h", finger), `:4: address: "h" is not a host and a port; write it like nas.example:7440`},
		"any address":      {remote("0.0.0.0:1", finger), `:4: address: "0.0.0.0:1" is not a host and a port`},
		"bad peer":         {remote("h:1", "abc"), `:5: peer: "abc" is not a fingerprint, which has 52 letters`},
		"peer path":        {remote("h:1", finger) + "path = \"/x\"\n", ":6: a peer node has no path; remove it"},
		"peer capacity":    {remote("h:1", finger) + "capacity = \"1G\"\n", ":6: a peer node has no capacity; remove it: what"},
		"disk address":     {node + "address = \"h:1\"\n", ":5: a directory node has no address; remove it"},
		"same peer":        {remote("h:1", finger) + strings.Replace(remote("h:2", strings.ToUpper(finger)), `"a"`, `"b"`, 1), `:6: nodes "a" and "b" are the same peer; a second way`},
		"kind far off":     {"[[node]]\nname = \"a\"\nkind = \"tapestry\"\n", `:3: unknown kind "tapestry"; it is one of directory, container, memory, grpc, http`},
		"memory path":      {"[[node]]\nname = \"a\"\nkind = \"memory\"\npath = \"/x\"\n", ":4: a memory node has no path; remove it"},
		"no capacity":      {"[[node]]\nname = \"a\"\nkind = \"memory\"\n", `:1: node "a" is a memory and has no capacity`},
		"bad capacity":     {node + "capacity = \"lots\"\n", `:5: capacity: "lots" is not a size; write it like 500GiB, 500GB or 500G`},
		"little cache":     {"cache = \"1MiB\"\n", ":1: cache: 1.00 MiB is too little; the least is 64.0 MiB"},
		"bad cache":        {"cache = \"big\"\n", `:1: cache: "big" is not a size`},
		"little capacity":  {node + "capacity = \"1MiB\"\n", ":5: capacity: 1.00 MiB is too little; the least is 4.00 MiB"},
		"bad rate":         {node + "rate = \"fast\"\n", `:5: rate: "fast" is not a rate; write it like 20MiB/s`},
		"slow rate":        {node + "rate = \"1KiB/s\"\n", ":5: rate: 1.00 KiB/s is too slow; the least is 2.00 MiB/s"},
		"same name":        {node + node, `:5: two nodes have the name "a", the other at line 1`},
		"same path":        {node + strings.Replace(node, `"a"`, `"b"`, 1), `:5: nodes "a" and "b" have the same path /a`},
		"other's home":     {"[[node]]\nname = \"a\"\nkind = \"directory\"\npath = \"~bob/x\"\n", ":4: path: only `~/` is known"},
		"not utf-8":        {"copies = 1 # \xff\n", ": the file is not a UTF-8 text"},
		"negative copies":  {"copies = -1\n", ":1: copies must be"},
		"capacity too big": {node + "capacity = \"99999999E\"\n", `:5: capacity: "99999999E" is too large a size`},
	} {
		_, err := Parse(file, []byte(c.text))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v, want an *Error", name, err)
		} else if !strings.HasPrefix(err.Error(), file+c.want) {
			t.Errorf("%s: got\n  %v\nwant\n  %s%s", name, err, file, c.want)
		} else if err.Error() != store.Printable(err.Error(), 3*maxShown) {
			t.Errorf("%s: %q can't be shown", name, err)
		}
	}
}

const finger = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// remote is the table of a peer.
func remote(address, peer string) string {
	return "[[node]]\nname = \"a\"\nkind = \"grpc\"\naddress = \"" + address + "\"\npeer = \"" + peer + "\"\n"
}

// A peer.toml has nodes as a vault.toml has, and no setting that a peer does not know.
func TestParsePeer(t *testing.T) {
	const file = "/peers/one/peer.toml"
	c, err := ParsePeer(file, []byte(DefaultPeer))
	if err != nil || c.Copies != 1 || len(c.Nodes) != 1 || c.Nodes[0].Path != "/peers/one/nodes/default" {
		t.Errorf("the default says %+v, %v", c, err)
	}
	if c, err := ParsePeer(file, []byte("copies = 2\n")); err != nil || c.Copies != 2 || len(c.Nodes) != 0 {
		t.Errorf("copies alone: %+v, %v", c, err)
	}
	for _, key := range []string{"least = 1", "bodies = 'x'"} {
		_, err := ParsePeer(file, []byte(key))
		if err == nil || !strings.HasPrefix(err.Error(), file+":1: unknown key") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "12b": 12, "1k": 1024, "1KB": 1000, "1KiB": 1024, "500G": 500 << 30,
		"500GB": 500e9, "500 GiB": 500 << 30, "1.5TiB": 3 << 39, "7E": 7 << 60, "0.5k": 512,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "G", "-1", "+1", "1e3", "8E", "1.2.3G", ".5G", "1/2G", "0x10", "1GiBs", "five", "1 000"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1 << 10: "1.00 KiB", 64 << 20: "64.0 MiB", 3 << 39: "1.50 TiB", 500 << 30: "500 GiB"} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	for _, n := range []int64{4096, 500 << 30, 3 << 39, 500e9, 1, 1 << 62} {
		if got, err := ParseSize(exactSize(n)); err != nil || got != n {
			t.Errorf("%d written as %s is read as %d, %v", n, exactSize(n), got, err)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	var e *Error
	if _, err := Load(path); !errors.As(err, &e) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, MaxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.As(err, &e) {
		t.Errorf("huge file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(Default))
	f.Add([]byte(remote("nas:7440", finger)))
	f.Add([]byte("[[node]]\nname = '''a'''\nkind = \"\\u006demory\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(file, text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		checkEdits(t, text, c)
	})
}

// Settings that are a pipe are refused, and not waited for: they may be another user's.
func TestLoadAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := Load(path); done <- err }()
	select {
	case err := <-done:
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a pipe is waited for")
	}
}
