package api

import "time"

// The operations that a peer answers beside OpStatus and OpCheck; each with its arguments
// and its result.
const (
	OpInvite = "peer-invite" // InviteArgs, InviteResult
	OpOwners = "peer-owners" // -, []Owner
	OpRevoke = "peer-revoke" // RevokeArgs, RevokeResult
)

// Peer is what the status of a peer has beside that of a vault. The files and copies of
// vaults are unknown to it.
type Peer struct {
	Running     bool     `json:"running"`
	Fingerprint string   `json:"fingerprint"`
	Serving     []Serves `json:"serving"` // where it listens, or did when it ran last
	Owners      []Owner  `json:"owners"`
}

// Serves is an address at which a peer listens.
type Serves struct {
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
}

// Owner is a vault that keeps crates on a peer. Sizes are in bytes.
type Owner struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"` // what it calls itself
	Quota    int64     `json:"quota"`
	Used     int64     `json:"used"`
	Reserved int64     `json:"reserved"`
	Crates   int64     `json:"crates"`
	Since    time.Time `json:"since"`
	Revoked  bool      `json:"revoked"`
}

// InviteArgs asks for an invite. Zeros mean the defaults.
type InviteArgs struct {
	Addresses []string      `json:"addresses"` // how others reach the peer
	Quota     int64         `json:"quota"`     // bytes; 0: the peer's capacity
	Lifetime  time.Duration `json:"lifetime"`
}

// InviteResult is the invite, and what to know of it.
type InviteResult struct {
	Invite   string    `json:"invite"`
	Expires  time.Time `json:"expires"`
	OnlyHere bool      `json:"only_here"` // its addresses are this machine's own
	Running  bool      `json:"running"`
}

// RevokeArgs names an owner, by its id, the beginning of that, or its name. With Discard
// its crates are discarded.
type RevokeArgs struct {
	Owner   string `json:"owner"`
	Discard bool   `json:"discard"`
}

// RevokeResult says whom it was about, and what became of it.
type RevokeResult struct {
	Owner     Owner `json:"owner"`
	Discarded int64 `json:"discarded"` // crates
}
