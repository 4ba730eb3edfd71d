package guard

import "time"

const (
	// Owners is how many owners a peer has at a time, revoked ones not counted: with more the
	// shares that are kept for each would not be worth having.
	Owners = 64
	// StrangerLimit is how long a connection may be a stranger's: a handshake and the
	// redeeming of an invite.
	StrangerLimit = 30 * time.Second
	// KnownEvery is how often it is asked whether those inside are owners still.
	KnownEvery = time.Second
	// logEvery is how often a refusal of the same kind is logged.
	logEvery = time.Second
)
