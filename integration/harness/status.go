package harness

import (
	"encoding/json"
	"testing"
)

// Status is what `stasis status --json` promises to scripts.
type Status struct {
	Schema   int
	State    string
	Files    int64
	Bytes    int64
	Pending  struct{ Crates, Bytes int64 }
	Short    Short
	Unplaced struct{ Files, Bytes int64 }
	Nodes    []Node
	Peer     struct{ Owners []Owner } // of a peer alone
}

// Owner is a vault that keeps crates at a peer.
type Owner struct {
	ID       string
	Name     string
	Quota    int64
	Used     int64
	Reserved int64
	Crates   int64
	Revoked  bool
}

// Short is the files with fewer copies than wanted.
type Short struct {
	Files  int64
	Reason string
}

// Node is one node of a status.
type Node struct {
	Name          string
	ID            string
	Kind          string
	State         string
	Durable       bool
	Crates        int64
	Bytes         int64
	Free          int64
	Reserved      int64
	PendingCrates int64  `json:"pending_crates"`
	PendingBytes  int64  `json:"pending_bytes"`
	LastError     string `json:"last_error"`
	Warning       string
}

// Node gives the node of a name.
func (s Status) Node(t testing.TB, name string) Node {
	t.Helper()
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("the status names no node %q: %+v", name, s)
	return Node{}
}

// Status asks the vault.
func (v *Vault) Status() Status {
	v.t.Helper()
	var s Status
	v.JSON(&s, "status", v.State, "--json")
	return s
}

// JSON runs a command that has to succeed and reads the JSON that it prints.
func (v *Vault) JSON(into any, args ...string) {
	v.t.Helper()
	readJSON(v.t, into, v.OK(args...))
}

// Parse reads what `stasis status --json` printed.
func (s *Status) Parse(out string) error { return json.Unmarshal([]byte(out), s) }

func readJSON(t testing.TB, into any, out string) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("what should be JSON is not: %v\n%s", err, out)
	}
}
