package harness

import "time"

const (
	// buildLimit bounds the build of the binaries.
	buildLimit = 10 * time.Minute
	// commandLimit bounds a command that a test runs, unless the test says otherwise.
	commandLimit = 2 * time.Minute
	// slowCommand is how long a command takes that is worth a line in the test's log.
	slowCommand = 3 * time.Second
	// endLimit bounds how long a daemon may take to end.
	endLimit = 30 * time.Second
	// testLimit is how long a vault may be in use by one test; soakLimit is that of a test
	// with full counts.
	testLimit = 4 * time.Minute
	soakLimit = 60 * time.Minute
	// dumpTime is what a stuck daemon gets to write down where it stands.
	dumpTime = 2 * time.Second
	// pollStep is how often something that is waited for is looked at.
	pollStep = 20 * time.Millisecond
	// logTail is how many bytes of a daemon's log the report of a failed test shows.
	logTail = 16 << 10
	// maxDifferences is how many differences of two trees are named.
	maxDifferences = 20
	// slowBurst is how much passes a slowed link at once, slowQueue how much waits before it,
	// in bytes.
	slowBurst = 32 << 10
	slowQueue = 256 << 10
	// compareBuffer is the size of one read of a comparison, in bytes.
	compareBuffer = 1 << 20
)
