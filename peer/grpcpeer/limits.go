package grpcpeer

import (
	"time"

	"stasis/peer/wire"
)

const (
	// maxFrame is the longest frame, in bytes.
	maxFrame = frameHeader + wire.MaxHead + wire.MaxData
	// MaxRequest is the longest frame that a server takes, in bytes: a head, or the bulk bytes
	// that are sent in one. Answers may be longer.
	MaxRequest = frameHeader + max(maxRequestHead, wire.DataSize)
	// maxRequestHead is the longest head of a request, in bytes: 512 crates of 250 bytes twice.
	maxRequestHead = 256 << 10
	// maxHeaders bounds the headers of a call, in bytes: they are held as long as it lasts.
	maxHeaders = 8 << 10

	// What each owner is sure of, and what there is beside for whoever asks; see guard.Lanes.

	// ConnectionsAnOwner and ConnectionsPool are how many connections of owners there are, by
	// default: a vault uses one.
	ConnectionsAnOwner = 2
	ConnectionsPool    = 8
	// CallsAnOwner and CallsPool are how many calls are under way; further ones are refused.
	CallsAnOwner = 24
	CallsPool    = 128
	// PutsAnOwner and PutsPool are how many puts and batches are under way, with a Window each;
	// further ones wait for placeLimit. A vault has no more than ten.
	PutsAnOwner = 2
	PutsPool    = 24
	placeLimit  = 20 * time.Second
	// MemoryAnOwner and MemoryPool are the bytes of batches that a server holds, by default.
	MemoryAnOwner = 2 << 20
	MemoryPool    = 32 << 20
	// Strangers is how many connections there are of those who are not known, or not yet.
	Strangers = 64
	// MaxStreams is how many calls one connection may have under way, those included whose
	// answer is not taken. A vault makes 64, and listens.
	MaxStreams = 72
	// strangerCalls is how many calls one connection of a stranger may have under way.
	strangerCalls = 2
	// slowestBatch is the slowest sender of a batch that holds memory, in bytes a second.
	slowestBatch = 64 << 10
	// Window is how many bytes a server takes on a stream ahead of who reads it: with less, each
	// frame of a put waits for a round trip. What comes on calls that nobody reads yet is
	// bounded by HastyMost instead, over all calls of a connection.
	Window = 1 << 20
	// HastyMost is how many bytes a caller may send on calls of one connection that have not
	// been answered in any way; with more, the connection is closed. 64 calls with a head of
	// 32 KiB each have as much. HastyStranger is the same for one who is not known.
	HastyMost     = 2 << 20
	HastyStranger = 512 << 10
	// connectionWindow is the same for a connection. It bounds no memory, as gRPC gives it
	// back before anything is read; so it is wide.
	connectionWindow = 4 << 20
	// clientWindow is a client's, of a stream and of the connection, so that a fast link is
	// not throttled by round trips.
	clientWindow = 4 << 20

	// smallFrame is the size, in bytes, below which a frame of HTTP/2 from a caller costs more
	// than it brings. smallBurst of them are taken at once, and then one for each smallFrame
	// bytes that move either way, beside smallRate a second: whoever sends more waits, and is
	// cut off if he goes on for floodLimit. A client of ours sends two a call at most.
	smallFrame = 4 << 10
	smallBurst = 8 << 10
	smallRate  = 1000
	floodLimit = 5 * time.Second

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
	// lateFrames is how many frames a client takes that a server had sent before it heard that
	// the put is given up.
	lateFrames = 16
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
