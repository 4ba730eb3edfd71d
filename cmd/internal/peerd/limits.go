package peerd

import "time"

// What the limits add up to, in MiB, where every one is reached; see those of guard, grpcpeer,
// httppeer and host. Each owner is sure of a share, and what the shares leave is for whoever
// asks: so 64 owners have no more than six times what one can have alone.
//
//	                                     one owner  all owners
//	connections, calls nobody reads             35         352
//	windows of puts that are read               26         152
//	answers under way                           71         512
//	crates that are read or verified            83         240
//	batches and long messages                   34         160
//	small crates, chunks of large ones          51         240
//	all strangers together                      82          82
//	                                           382       1,738
//
// Go's collector lets as much gather again before it works, but beyond the memoryGoal of the
// daemon, 1,024, no more than a tenth; the process itself has 32. Not in it are the system's
// buffers of connections. Integration tests hold attacks to these two:
const (
	// MostOfOwner is what one owner and all strangers can have the peer take, in bytes, and
	// MostOfOwners what all owners can.
	MostOfOwner  = 796 << 20
	MostOfOwners = 1944 << 20
)

const (
	// openLimit bounds one attempt to open the node.
	openLimit = 30 * time.Second
	// memoryAnOwner and memoryPool are the bytes of batches and of long messages that the servers
	// of both protocols hold together; see guard.Lanes.
	memoryAnOwner = 2 << 20
	memoryPool    = 32 << 20
	// glanceLimit is how long the node's answer is waited for by a person who asks.
	glanceLimit = 3 * time.Second
	// glancePoll is how often it is tried where the node is being opened.
	glancePoll = 20 * time.Millisecond
	// probeEvery is how often the node is asked whether it is there, and probeLimit how long
	// its answer is waited for.
	probeEvery = 5 * time.Second
	probeLimit = 10 * time.Second
	// retryEvery is how often a node that is away is looked for.
	retryEvery = 2 * time.Second
	// swapLimit bounds what is waited for what is under way when the node is closed to be
	// opened anew.
	swapLimit = 10 * time.Second
	// backupPoll is how often it is asked whether a daily backup of the ledger is due.
	backupPoll = time.Hour
	// MinQuota is the least quota of an owner, in bytes: room for one block of content and
	// what comes with it.
	MinQuota = 4 << 20
	// MaxAddresses is the most addresses that one invite is asked for.
	MaxAddresses = 8
	// minPrefix is the least beginning of an id that names an owner, in letters.
	minPrefix = 6
	// findingsOwner is the most findings that a check tells of one owner.
	findingsOwner = 1000
)
