package guard

import "time"

const (
	// StrangerLimit is how long a connection may be a stranger's: a handshake and the
	// redeeming of an invite.
	StrangerLimit = 30 * time.Second
	// logEvery is how often a refusal of the same kind is logged.
	logEvery = time.Second
)
