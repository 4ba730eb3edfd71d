package grpcpeer

import (
	"time"

	"stasis/peer/wire"
)

const (
	// maxFrame is the longest frame, in bytes.
	maxFrame = frameHeader + wire.MaxHead + wire.MaxData
	// MaxConnections is how many connections a server has at a time, by default.
	MaxConnections = 256
	// MaxStreams is how many calls one connection may have under way.
	MaxStreams = 128
	// BatchMemory bounds the content of batches that a server holds, in bytes, by default.
	BatchMemory = 256 << 20
	// window is the flow-control window of a stream and of a connection, in bytes, so that a
	// fast link is not throttled by round trips.
	window = 4 << 20

	// pingEvery is how often a server shows on a quiet link that it lives.
	pingEvery = 2 * time.Second
	// pingWait is how long a server waits for the answer.
	pingWait = 4 * time.Second
	// DeadAfter is how long a client hears nothing before it gives a link up.
	DeadAfter = 6 * time.Second
	// dialLimit bounds the making of a connection.
	dialLimit = 5 * time.Second
	// reconnectFirst and reconnectMost bound the pauses between attempts to connect.
	reconnectFirst = 200 * time.Millisecond
	reconnectMost  = 5 * time.Second
	// aliveEvery is how often a server that works on a crate says so.
	aliveEvery = 5 * time.Second
	// attempts is how often a put that breaks off goes on within one call, as long as each
	// attempt brought bytes over.
	attempts = 4
	// attemptPause is between them.
	attemptPause = 300 * time.Millisecond
	// verifyRate is the slowest medium for which a verification is waited for, in bytes a
	// second.
	verifyRate = 10 << 20
	// maxErrorText is the longest part of an error in a trailer, in bytes; all headers of a
	// call have 16 KiB.
	maxErrorText = 1024
)
