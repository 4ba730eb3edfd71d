package wire

import (
	"time"

	"stasis/store"
)

const (
	// Version is the protocol spoken; the first number changes when an older side would
	// misunderstand.
	Version = 1

	// MaxHead is the longest message in JSON, in bytes: the receipt of the largest crate has
	// 2.8 MiB of checksums.
	MaxHead = 4 << 20
	// MaxData is the most bulk bytes in one frame.
	MaxData = 1 << 20
	// DataSize is how many are sent in one.
	DataSize = 256 << 10

	// MaxBatchCrates is the most crates in one exchange of small ones, and MaxBatchBytes
	// their content in all.
	MaxBatchCrates = 512
	MaxBatchBytes  = 32 << 20
	// ClientBatchBytes is the most content of one batch that a client holds.
	ClientBatchBytes = 8 << 20
	// MaxBatchCrate is the largest crate that goes into a batch, in bytes.
	MaxBatchCrate = store.BlockSize
	// MaxShares is the most shares of one reservation.
	MaxShares = 64
	// MaxReceipts is the most receipts for one crate.
	MaxReceipts = 64
	// MaxIDs is the most ids in one list of a request.
	MaxIDs = 1024
	// MaxTokens is the most tokens a Fence may name, the latest: 144 KiB of JSON.
	MaxTokens = 4096
	// maxDepth is how deep a message may be nested.
	maxDepth = 16
	// MaxCursor is the longest cursor of a listing, in bytes.
	MaxCursor = 256
	// MaxText is the longest text in a message, in bytes.
	MaxText = 4096
	// MaxErrorText is the longest part of an error that is sent or read, in bytes; what is
	// longer is cut.
	MaxErrorText = 1024
	// MaxEventKind is the longest kind of an event that is read, in bytes.
	MaxEventKind = 64

	// CallLimit bounds a call that moves no bulk bytes.
	CallLimit = 30 * time.Second
	// StallLimit is how long either side of a transfer waits for the other's next bytes.
	StallLimit = 30 * time.Second
	// EventsHeartbeat is how often a stream of events shows that it lives.
	EventsHeartbeat = 2 * time.Second
	// signsRate is how many signs of life a second a reader heeds in one stream, and signsBurst
	// how many at once: while it was busy with an event, those of half an hour may have come.
	signsRate  = 10
	signsBurst = 1024
)
