// Package api has what the commands ask of a vault or a peer, and what these answer: the
// JSON of the control socket and of `--json`.
//
// A field with the tag `text:"raw"` holds paths as they are; see package control.
//
// Invariant: the fields of what `--json` prints are never renamed or given another meaning.
package api

import (
	"time"
)

// Schema is the version of all JSON that commands print.
const Schema = 1

// The operations a service answers; each with its arguments and its result.
const (
	OpStatus     = "status"      // -, Status
	OpFind       = "find"        // FindArgs, progress []Found, FindResult
	OpWhy        = "why"         // PathArgs, Why
	OpWait       = "wait"        // WaitArgs, progress WaitProgress, WaitResult
	OpCheck      = "check"       // CheckArgs, progress Finding, CheckResult
	OpUnmount    = "umount"      // UnmountArgs, progress UnmountProgress, UnmountResult
	OpNodeAdd    = "node-add"    // NodeAddArgs, NodeAddResult
	OpNodeRemove = "node-remove" // NodeRemoveArgs, NodeRemoveResult
	OpPolicyGet  = "policy-get"  // PathArgs, Policy
	OpPolicySet  = "policy-set"  // PolicySetArgs, Policy
	OpBackup     = "backup"      // BackupArgs, BackupResult
	OpPause      = "pause"       // PauseArgs, PauseResult
	OpResume     = "resume"      // PauseArgs, PauseResult
)

// The answers to "is all safe?", from best to worst.
const (
	StateSafe     = "safe"     // every file has the copies it should have
	StatePending  = "pending"  // copies are under way, nothing stands in their way
	StateDegraded = "degraded" // a node is away or damaged, or files are short of copies
	StateAtRisk   = "at risk"  // some content has a single copy that is in danger
)

// Status is `stasis status --json`. Sizes are bytes.
type Status struct {
	Schema   int      `json:"schema"`
	State    string   `json:"state"`
	Reason   string   `json:"reason"` // a sentence for the person
	Files    int64    `json:"files"`
	Bytes    int64    `json:"bytes"`
	Copies   int      `json:"copies"`
	Open     int64    `json:"open"`
	Pending  Pending  `json:"pending"`
	Short    Short    `json:"short"`
	Unplaced Unplaced `json:"unplaced"`
	Nodes    []Node   `json:"nodes"`
	Mount    string   `json:"mountpoint" text:"raw"` // empty if it is not mounted
	Dir      string   `json:"state_directory" text:"raw"`
	Peer     *Peer    `json:"peer,omitempty"` // what a peer adds; nil for a vault
}

// Pending is what still has to be sent.
type Pending struct {
	Crates        int64 `json:"crates"`
	Bytes         int64 `json:"bytes"`
	OldestSeconds int64 `json:"oldest_seconds"`
}

// Short is the files for which fewer places have room than copies are wanted.
type Short struct {
	Files  int64  `json:"files"`
	Reason string `json:"reason"`
}

// Unplaced is the files that no place took.
type Unplaced struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Node is one node of the vault.
type Node struct {
	Name          string `json:"name"`
	ID            string `json:"id"`
	Kind          string `json:"kind"`
	Path          string `json:"path,omitempty" text:"raw"`
	Address       string `json:"address,omitempty"` // of a peer
	Peer          string `json:"peer,omitempty"`    // its fingerprint
	Zone          string `json:"zone,omitempty"`
	State         string `json:"state"`
	Durable       bool   `json:"durable"`
	Crates        int64  `json:"crates"`
	Bytes         int64  `json:"bytes"`
	Capacity      int64  `json:"capacity"`
	Free          int64  `json:"free"`
	Reserved      int64  `json:"reserved"`
	PendingCrates int64  `json:"pending_crates"`
	PendingBytes  int64  `json:"pending_bytes"`
	LastError     string `json:"last_error"`
	// Refuses: it is online and takes nothing, as a disk that may only be read; LastError says why.
	Refuses bool `json:"refuses,omitempty"`
	// Barred: it was found lying, and gets nothing more until it is resumed by its name.
	Barred bool `json:"barred,omitempty"`
	// Paused: nothing is sent to it, as a person wishes, until PausedUntil or, if that is
	// zero, until it is resumed.
	Paused      bool      `json:"paused,omitempty"`
	PausedUntil time.Time `json:"paused_until,omitzero"`
	// Unknown is why its copies are being counted and don't count until that is done, whatever its
	// state. Uncounted: it is only that they are counted for the first time.
	Unknown   string `json:"unknown,omitempty"`
	Uncounted bool   `json:"uncounted,omitempty"`
	Warning   string `json:"warning,omitempty"`
}

// PathArgs names something in the vault, counted from its root.
type PathArgs struct {
	Path string `json:"path"`
}

// FindArgs asks for the files below a directory that are in one of the states.
type FindArgs struct {
	Path   string   `json:"path"`
	States []string `json:"states"`
}

// Found is one file of a find.
type Found struct {
	Path   string `json:"path" text:"raw"` // from the vault's root
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// FindResult ends a find.
type FindResult struct {
	Files int64 `json:"files"`
}

// Why is what `stasis why` says.
type Why struct {
	Sentence string `json:"sentence"`
	State    string `json:"state"`
	Wanted   int    `json:"wanted"`
	Copies   []Copy `json:"copies"`
}

// Copy is a place that has, or is to have, a file's content.
type Copy struct {
	Node     string    `json:"node"`
	Verified time.Time `json:"verified,omitzero"` // of the oldest part; zero: not there yet
	Parts    int64     `json:"parts"`             // crates of the content that are there
	Of       int64     `json:"of"`                // crates the content has
	Note     string    `json:"note,omitempty"`
}

// WaitArgs asks to wait until the content of some paths, as it is now, has Copies
// durable copies (0: as many as each wants).
type WaitArgs struct {
	Paths   []string      `json:"paths"`
	Copies  int           `json:"copies"`
	Timeout time.Duration `json:"timeout"` // 0: without end
}

// WaitProgress comes while something is waited for.
type WaitProgress struct {
	Files int64 `json:"files"` // not there yet
	Bytes int64 `json:"bytes"`
}

// The outcomes of a wait.
const (
	Reached    = "reached"
	TimedOut   = "timeout"
	Impossible = "impossible"
)

// WaitResult is how a wait ended.
type WaitResult struct {
	Outcome string `json:"outcome"`
	Detail  string `json:"detail"`
}

// CheckArgs asks for a check; Read also reads and verifies every byte.
type CheckArgs struct {
	Read bool `json:"read"`
}

// Finding is one thing a check came across.
type Finding struct {
	Problem bool   `json:"problem"`         // false: a note
	Text    string `json:"text" text:"raw"` // may have paths of files in it
}

// CheckResult ends a check.
type CheckResult struct {
	Crates   int64 `json:"crates"`
	Copies   int64 `json:"copies"`
	Bytes    int64 `json:"bytes"` // read and verified
	Problems int64 `json:"problems"`
}

// UnmountArgs asks to unmount; with Wait, first until nothing is pending.
type UnmountArgs struct {
	Wait    bool          `json:"wait"`
	Timeout time.Duration `json:"timeout"`
}

// UnmountResult is how an unmount ended.
type UnmountResult struct {
	TimedOut bool   `json:"timed_out"` // still mounted
	Pending  int64  `json:"pending"`   // crates that will be sent when it is mounted again
	Short    int64  `json:"short"`     // files with fewer copies than wanted
	Unplaced int64  `json:"unplaced"`
	Unknown  int64  `json:"unknown"` // durable nodes whose copies were being counted, and didn't count
	Detail   string `json:"detail"`
}

// KindPeer is how a person names a node that is a peer; what it is recorded as is the
// protocol that is spoken.
const KindPeer = "peer"

// NodeAddArgs describes a node to add. Path is absolute. For a peer there is an invite
// instead, and perhaps a protocol.
type NodeAddArgs struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Invite   string `json:"invite,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	Path     string `json:"path"`
	Capacity int64  `json:"capacity"`
	Zone     string `json:"zone"`
	Rate     int64  `json:"rate"` // bytes a second; 0: no bound
}

// NodeAddResult says what became of it.
type NodeAddResult struct {
	ID       string   `json:"id"`
	Known    bool     `json:"known"` // it had been a node of this vault before
	Warnings []string `json:"warnings"`
	Copies   int      `json:"copies"`            // what the vault keeps of each file
	Durable  int      `json:"durable"`           // nodes that count
	Address  string   `json:"address,omitempty"` // at which a peer answered
	Quota    int64    `json:"quota,omitempty"`   // what a peer has given, in bytes; 0: as much as it has
}

// NodeRemoveArgs names a node to remove.
type NodeRemoveArgs struct {
	Name   string `json:"name"`
	Force  bool   `json:"force"`
	DryRun bool   `json:"dry_run"`
}

// NodeRemoveResult says what it means, or meant.
type NodeRemoveResult struct {
	Removed  bool  `json:"removed"`
	Crates   int64 `json:"crates"`
	Bytes    int64 `json:"bytes"`
	Below    int64 `json:"below"` // files that fall below their wanted copies
	Only     int64 `json:"only"`  // files whose only copy is there
	Unsent   int64 `json:"unsent"`
	Refusing bool  `json:"refusing"` // a real run would be refused as asked
}

// PauseArgs names the node whose sending is paused, or resumed; empty: all of them.
type PauseArgs struct {
	Node string        `json:"node"`
	For  time.Duration `json:"for"` // 0: until it is resumed
}

// PauseResult says until when; zero: until it is resumed.
type PauseResult struct {
	Until time.Time `json:"until,omitzero"`
}

// PolicySetArgs sets what a directory's files should have; 0 leaves a value as it is.
type PolicySetArgs struct {
	Path   string `json:"path"`
	Copies int    `json:"copies"`
	Least  int    `json:"least"`
}

// Policy is what holds at a path.
type Policy struct {
	Copies int    `json:"copies"`
	Least  int    `json:"least"`
	From   string `json:"from" text:"raw"` // the directory that says so, or vault.toml
}

// BackupArgs asks for a backup in a directory of this machine.
type BackupArgs struct {
	Dir string `json:"dir"`
}

// BackupResult says where it is.
type BackupResult struct {
	Path  string `json:"path" text:"raw"`
	Bytes int64  `json:"bytes"`
}
