package statedir

import "time"

const (
	// lockWait is how long an opening waits for another process to let go of the state
	// directory: a daemon whose work is done still syncs for a moment.
	lockWait = 10 * time.Second
	// endWait is how long a process that has the state directory, and answers nothing, is
	// waited for to end, or to answer.
	endWait = 30 * time.Second
	// lockPoll is how often it looks.
	lockPoll = 50 * time.Millisecond
	// MaxNote is the most of a small file of a state directory that is read, in bytes: a path
	// or some addresses.
	MaxNote = 64 << 10
	// MaxLog is the size, in bytes, at which a log is rotated; the one before is kept,
	// so that both together stay below twice as much.
	MaxLog = 8 << 20
)
