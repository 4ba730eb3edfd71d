package vault

import "time"

const (
	// backupPoll is how often it is asked whether a daily backup is due.
	backupPoll = time.Hour
	// partWait is how long after the removal of a node its store may still be in use here.
	partWait = 5 * time.Second
	// partPoll is how often it is tried to open it.
	partPoll = 50 * time.Millisecond
	// findBatch is how many files are sent at once in the answer to a find, and findBytes from
	// how many bytes of paths on fewer are.
	findBatch = 256
	findBytes = 256 << 10
	// pendingPoll is how often an unmount that waits looks at what is pending.
	pendingPoll = 200 * time.Millisecond
	// DefaultWait is how long `umount --wait` waits unless it is told otherwise.
	DefaultWait = 10 * time.Minute
	// riskAge is how long the count of files is used whose only copy is on a node that is
	// away.
	riskAge = time.Minute
	// maxStates is the most states one find asks for.
	maxStates = 8
)
