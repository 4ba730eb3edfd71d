package peerd

import "time"

// What the limits add up to, in MiB, where every one is reached; see those of grpcpeer,
// httppeer and host:
//
//	                                     one owner  all owners
//	connections, calls nobody reads             68       1,270
//	requests and answers under way              96         450
//	batches and long messages                  128         256
//	small crates, chunks of large ones          34         256
//	all strangers together                      90          90
//	                                           416       2,320
//
// Go's collector lets as much gather again before it works, up to the memoryGoal of the
// daemon. Not in it are the system's buffers of connections.

const (
	// openLimit bounds one attempt to open the node.
	openLimit = 30 * time.Second
	// memoryAnOwner and memoryPool are the bytes of batches and of long messages that the servers
	// of both protocols hold together; see guard.Lanes.
	memoryAnOwner = 2 << 20
	memoryPool    = 64 << 20
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
