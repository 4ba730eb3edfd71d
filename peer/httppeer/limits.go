package httppeer

import (
	"time"

	"stasis/peer/wire"
)

const (
	// ConnectionsAnOwner and ConnectionsPool are how many connections of owners there are, by
	// default: what each is sure of, and what there is beside for whoever asks; see guard.Lanes.
	// A vault uses one for each call that is under way, one to listen, and one to ask.
	ConnectionsAnOwner = 4
	ConnectionsPool    = 128
	// MemoryAnOwner and MemoryPool are the bytes that a server holds of requests, by default:
	// of batches, and of long messages.
	MemoryAnOwner = 2 << 20
	MemoryPool    = 32 << 20
	// Strangers is how many connections there are of those who are not known, or not yet.
	Strangers = 128
	// maxHeader is the most bytes in the header of a request, maxAnswerHeader in that of an
	// answer.
	maxHeader       = 16 << 10
	maxAnswerHeader = 64 << 10
	// maxMessage is the longest request in JSON, in bytes, but for those that say otherwise:
	// wire.MaxIDs ids twice are 80 KiB.
	maxMessage = 256 << 10
	// maxStranger is the longest request of one who is not known, in bytes. Longer ones of
	// owners wait for memory, messageMemory each: while it is read and decoded a message takes
	// some times its length.
	maxStranger   = 16 << 10
	messageMemory = 4 * maxMessage
	// maxBatchHead is the longest head of a batch, in bytes: 512 crates of 250 bytes.
	maxBatchHead = 256 << 10
	// maxFailure is the longest answer that tells of an error, in bytes.
	maxFailure = 64 << 10
	// maxErrorText is the longest part of an error in a header, in bytes before quoting.
	maxErrorText = 512
	// maxStatus is how much is shown of a line that says how a request went, in bytes.
	maxStatus = 80
	// maxEvent is the longest line of a stream of events, in bytes.
	maxEvent = 64 << 10

	// maxLinks is how many connections a client has at a time.
	maxLinks = 64
	// chunkSize is how many bulk bytes a client sends at once: with what HTTP puts around
	// them they fill TLS records.
	chunkSize   = wire.DataSize - chunkMargin
	chunkMargin = 16
	// writeBuffer and readBuffer are those of a client's connection, in bytes.
	writeBuffer = wire.DataSize
	readBuffer  = 32 << 10

	// suspectAfter is how long a client sees nothing move before it asks whether the peer
	// lives, and pingWait how long it waits for the answer. It need not ask where it has heard
	// from the peer lately.
	suspectAfter = 1500 * time.Millisecond
	pingWait     = 3 * time.Second
	lately       = time.Second
	// leastMoved is how many bytes must move for a link to be doing well, so that a request
	// that the system of a peer has taken note of is no answer.
	leastMoved = 64 << 10
	// trust is how long moving bytes spare the question where the peer itself has not been
	// heard.
	trust = 10 * time.Second
	// DeadAfter is how long it takes a client to give up a link that died.
	DeadAfter = suspectAfter + pingWait
	// workLimit bounds how long a peer that lives may work on one crate without taking
	// bytes.
	workLimit = 10 * time.Minute
	// probeIdle, probeEvery and probeCount are the system's own probes of a quiet
	// connection, on both sides.
	probeIdle  = 3 * time.Second
	probeEvery = time.Second
	probeCount = 3

	// dialLimit bounds the making of a connection, on both sides.
	dialLimit = 5 * time.Second
	// reconnectFirst and reconnectMost bound the pauses between attempts to connect, in which
	// calls fail at once.
	reconnectFirst = 200 * time.Millisecond
	reconnectMost  = 5 * time.Second
	// headerLimit bounds the coming of a request's header.
	headerLimit = 10 * time.Second
	// lingerLimit bounds how long a server waits for the rest of a body that it refuses.
	lingerLimit = time.Second
	// idleLimit is how long a server keeps a connection without requests, and clientIdle,
	// which is shorter, a client.
	idleLimit  = 2 * time.Minute
	clientIdle = time.Minute
	// slowestBatch is the slowest sender of a batch that holds memory, in bytes a second.
	slowestBatch = 64 << 10

	// attempts is how often a put that breaks off goes on within one call, as long as each
	// attempt brought bytes over.
	attempts = 4
	// attemptPause is between them.
	attemptPause = 300 * time.Millisecond
	// maxMoves is how often a peer may name another offset in one attempt.
	maxMoves = 4
	// verifyRate is the slowest medium for which a verification is waited for, in bytes a
	// second.
	verifyRate = 10 << 20
	// sourceWait bounds how long a put that failed waits for its source to let go.
	sourceWait = time.Second
	// endWait bounds how long the closing of a reader that has all its bytes waits for their
	// end, so that its connection can serve again.
	endWait = time.Second
)
