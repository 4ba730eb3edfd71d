package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"stasis/store"
)

// FileName and PeerFileName are the names of the configuration in the state directory of
// a vault and of a peer.
const (
	FileName     = "vault.toml"
	PeerFileName = "peer.toml"
)

// The kinds of node.
const (
	KindDirectory = "directory"
	KindContainer = "container"
	KindMemory    = "memory"
	KindGRPC      = "grpc"
	KindHTTP      = "http"
)

// Config is what a vault.toml or a peer.toml says. Paths are absolute. A peer has no
// bodies, and Least is 1.
type Config struct {
	Copies int    // copies a file should have
	Least  int    // fewer places than this with space for it: the close fails
	Bodies string // directory in which open and recent files lie
	Cache  int64  // bytes of what was read from peers that are kept here at most; 0: the default
	Nodes  []Node
}

// Node is one place that keeps crates.
type Node struct {
	Name     string
	Kind     string
	Path     string // absolute; empty for memory and for peers
	Address  string // of a peer, as host:port
	Peer     string // a peer's fingerprint
	Capacity int64  // bytes; 0: bounded by the device alone
	Zone     string
	Rate     int64 // what may be sent there, in bytes a second; 0: no bound

	line int // where its table starts in the file
}

// Remote reports whether the node is a peer.
func (n Node) Remote() bool { return n.Kind == KindGRPC || n.Kind == KindHTTP }

// Line is where the node's table starts in its file; 0 if it is in none.
func (n Node) Line() int { return n.line }

// Durable reports whether copies there count.
func (n Node) Durable() bool { return n.Kind != KindMemory }

// Node gives the node of a name.
func (c *Config) Node(name string) (Node, bool) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// Equal reports whether two configurations say the same, wherever in their files
// they say it.
func (c *Config) Equal(o *Config) bool {
	if c.Copies != o.Copies || c.Least != o.Least || c.Bodies != o.Bodies || c.Cache != o.Cache || len(c.Nodes) != len(o.Nodes) {
		return false
	}
	for i := range c.Nodes {
		a, b := c.Nodes[i], o.Nodes[i]
		a.line, b.line = 0, 0
		if a != b {
			return false
		}
	}
	return true
}

// Error is a fault in the file, at a line. Its text starts as compilers' do, so
// that editors find the place.
type Error struct {
	File    string
	Line    int // from 1; 0: the file as a whole
	Message string
	Hint    string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(store.Printable(e.File, maxShown))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": " + store.Printable(e.Message, maxShown))
	if e.Hint != "" {
		b.WriteString("; " + store.Printable(e.Hint, maxShown))
	}
	return b.String()
}

// Load reads the configuration of the file at path. Faults in it are *Error.
func Load(path string) (*Config, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, text)
}

// LoadPeer is Load for a peer.toml.
func LoadPeer(path string) (*Config, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return ParsePeer(path, text)
}

// Read reads the text of a file, or what a link there leads to. It waits for nothing: the file may have been
// put there by another user than the one who reads it.
func Read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{File: path, Message: "there is no such file", Hint: "is its directory a state directory?"}
		}
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{File: path, Message: "it is not a regular file"}
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration %s: %w", path, err)
	}
	if len(text) > MaxFile {
		return nil, &Error{File: path, Message: "the file is larger than " + FormatSize(MaxFile)}
	}
	return text, nil
}

// absolute makes a path of the file at base absolute: `~/` is the home of the
// user, anything else relative counts from the file.
func absolute(base, path string) (string, error) {
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", errors.New("`~` can't be resolved as HOME is not set; write the path in full")
		}
		return filepath.Join(home, path[1:]), nil
	}
	if strings.HasPrefix(path, "~") {
		return "", errors.New("only `~/` is known, not the home of another user; write the path in full")
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	abs, err := filepath.Abs(base)
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(abs), path), nil
}

// CheckName reports what is wrong with the name of a node or zone: it stands in
// comma-separated lists, on command lines and in file names.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a name can't be empty")
	case len(name) > MaxName:
		return fmt.Errorf("the name is longer than %d bytes", MaxName)
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("._-", r)) {
			return fmt.Errorf("the name %q: letters, digits, and behind the first also . _ - are allowed", name)
		}
	}
	return nil
}
