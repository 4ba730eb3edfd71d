package router

import "time"

// Space.
const (
	// GrantFraction: a grant's unpromised part is at most 1/GrantFraction of what a
	// node has free.
	GrantFraction = 8
	// GrantTarget is the most that a grant keeps unpromised, in bytes.
	GrantTarget = 1 << 30
	// GrantLease is the lease asked for.
	GrantLease = time.Hour
	// GrantRenew is how often a lease is renewed.
	GrantRenew = GrantLease / 4
	// GrantMargin is how long before the end of its lease a grant is not drawn on any
	// more.
	GrantMargin = GrantLease / 6
	// GrantSure is after how long without a put a node is asked what is left of its grant, where
	// that is not sure.
	GrantSure = time.Second
	// ReserveLimit bounds what a Draw waits for nodes that must grow a grant, all in all.
	ReserveLimit = 500 * time.Millisecond
	// AnswerLimit is how long a question about space may be under way before draws ask
	// nothing more of the node.
	AnswerLimit = ReserveLimit / 4
	// MuteFor is how long draws don't ask a node again that left one without an answer. It
	// doubles from one time to the next, up to MuteMost, until the node answers.
	MuteFor  = ProbeLimit
	MuteMost = time.Minute
	// RefillEvery is the least pause between two refills that draws call for.
	RefillEvery = 100 * time.Millisecond
	// TendWait is what a node's keeper waits for its grant to be tended.
	TendWait = time.Second
	// GrantLimit bounds a call that refills, renews or shrinks a grant in the background.
	GrantLimit = 10 * time.Second
)

// Nodes.
const (
	// OpenLimit bounds the opening and fencing of a store.
	OpenLimit = 30 * time.Second
	// StartLimit bounds what Start waits for the first attempts at the nodes.
	StartLimit = 3 * time.Second
	// ProbeEvery is how often a healthy node is asked for its status.
	ProbeEvery = 3 * time.Second
	// ProbeLimit bounds one such question; without an answer the node is silent.
	ProbeLimit = 5 * time.Second
	// KnockLimit bounds what Knock waits for silent nodes, and KnockPoll is how often it
	// looks.
	KnockLimit = 500 * time.Millisecond
	KnockPoll  = 50 * time.Millisecond
	// StatusLimit bounds what Router.Status waits for fresh figures.
	StatusLimit = time.Second
	// RetryFirst and RetryCap bound the pause between attempts at a silent node; it
	// doubles, and each pause is shortened by up to a quarter at random.
	RetryFirst = 250 * time.Millisecond
	RetryCap   = 5 * time.Second
	// DeniedCap bounds the pause before a node that answers and denies this mount is opened anew.
	DeniedCap = 5 * time.Minute
	// RefusesAfter is how many failures of one kind of calls in a row, none of them for a reason of
	// one crate's, make a node that answers one that takes nothing.
	RefusesAfter = 3
	// SlowFor is how long a node that let a read time out is asked last.
	SlowFor = 15 * time.Second
	// Grace is how long a silent node still counts as a place for new content.
	Grace = 7 * 24 * time.Hour
	// SeenEvery is how often the time at which a node was last seen is recorded.
	SeenEvery = time.Hour
	// MaxCalls is how many calls may be under way on one node, abandoned ones included.
	MaxCalls = 64
	// MaxReads is how many of them may be reads; more wait.
	MaxReads = 32
	// EventRetry is the longest pause before a node is listened to again.
	EventRetry = 30 * time.Second
	// EventRate is how many events of a node are heeded a second, EventBurst how many at once;
	// further ones wait, and with them the node. What has more done counts as EventWeight.
	EventRate   = 50
	EventBurst  = 512
	EventWeight = 16
	// RepairFirst is how long a node on another machine waits at least until a crate that was
	// made again there is made again once more. It doubles each time, up to RepairMost.
	RepairFirst = 10 * time.Second
	RepairMost  = time.Hour
	// MaxRepairs is how many such crates are remembered a node; further ones are a crowd with one
	// such pause.
	MaxRepairs = 4096
	// CompareFirst and CompareMost are the same for comparing with all that a node lists, and for
	// asking after all that it has passed on, because it has missed events.
	CompareFirst = 30 * time.Second
	CompareMost  = time.Hour
	// ListPages is how many pages of a listing are read in any case. One more is for each
	// ListPer crates on them that the vault knows.
	ListPages = 1024
	ListPer   = 64
	// ExplainFor is for how long a call of ours that failed may still explain that the position of a
	// node moves: the node may go on with it.
	ExplainFor = 2 * time.Minute
	// UnknownFor is for how long the copies on a node may be unknown before they are replaced.
	UnknownFor = 30 * time.Minute
	// LiesBar is how many receipts for other bytes than were sent bar a node.
	LiesBar = 2
	// MaxHops is how many peers one after the other may pass a crate on.
	MaxHops = 4
	// CloseLimit bounds the closing of one store.
	CloseLimit = 10 * time.Second
)

// MaxFigure is the most bytes, or crates, that a node can have: what it says beyond that is cut.
const MaxFigure = 1 << 56

// Sending.
const (
	// BatchCrates is the most crates in a batch.
	BatchCrates = 256
	// BatchBytes is the most content in a batch, in bytes.
	BatchBytes = 16 << 20
	// SmallCrate is the largest crate that is sent in a batch, in bytes. Larger ones go
	// one by one and are adopted where possible; writing a small one twice costs less than
	// the syncs of its adoption.
	SmallCrate = 256 << 10
	// BatchesInFlight is how many batches of small crates go to one node at a time: each
	// waits for several syncs in a row, which those under way at once share.
	BatchesInFlight = 4
	// LargeInFlight is how many larger crates go to one node at a time.
	LargeInFlight = 2
	// SmallInFlight is how many small crates of a batch go at a time to a node that takes
	// no batches.
	SmallInFlight = 4
	// IdlePause is how long a sender or discarder that nobody wakes rests before it looks
	// at its queue again.
	IdlePause = time.Minute
	// SendLimit bounds one transfer, beside SendRate.
	SendLimit = 60 * time.Second
	// SendRate is the slowest transfer that is waited for, in bytes a second.
	SendRate = 1 << 20
	// AdoptLooks is how often a sender that finds a body gone looks whether the node that
	// adopts it has recorded so, with AdoptPause between.
	AdoptLooks = 25
	AdoptPause = 20 * time.Millisecond
	// CrateRetryFirst and CrateRetryCap bound the pause before a crate that failed for a
	// reason of its own is sent again.
	CrateRetryFirst = 200 * time.Millisecond
	CrateRetryCap   = 2 * time.Minute
	// MaxFailing is how many crates with a pause of their own are remembered a node, of those that
	// are sent to it and of those that it is to discard each; further ones are a crowd.
	MaxFailing = 4096
	// CrowdFirst and CrowdMost bound the pause that all of them share.
	CrowdFirst = 10 * time.Second
	CrowdMost  = 30 * time.Minute
	// CrowdBits is by how many bits the crates of a crowd are told apart.
	CrowdBits = 8 << 20
	// MaxRefusals is how often in a row a node may refuse space for queued crates before it
	// is not asked for a while.
	MaxRefusals = 16
	// FullRetry is that while, unless something is discarded there, and the first pause of a
	// crate that was refused.
	FullRetry = 10 * time.Second
	// DiscardBatch is how many discards are done between two updates of the ledger.
	DiscardBatch = 256
	// DiscardInFlight is how many discards go to one node at a time.
	DiscardInFlight = 16
	// ForgetWait is how long Forget waits for what is under way with a crate on its nodes,
	// looking every ForgetPause.
	ForgetWait  = 2 * time.Second
	ForgetPause = 10 * time.Millisecond
	// DiscardLimit bounds one discard.
	DiscardLimit = 30 * time.Second
)

// Reading.
const (
	// ReadLimit bounds a whole ReadAt.
	ReadLimit = 4500 * time.Millisecond
	// NearReadLimit bounds one while a local node that answers is busy with it: a disk that is
	// kept busy gives its bytes late, and who reads a file there directly waits as well.
	// NearLook is how often it is looked whether the node still answers.
	NearReadLimit = FetchLimit
	NearLook      = 250 * time.Millisecond
	// FetchLimit bounds the fetch of a block while bytes come in, for who asks again.
	FetchLimit = 30 * time.Second
	// HedgeAfter is how long one node is waited for without a byte before the next is asked
	// too.
	HedgeAfter = time.Second
	// HedgeBlock is how long one node is waited for that does send.
	HedgeBlock = 2 * time.Second
	// ReadSources is the most nodes that one block is asked of.
	ReadSources = 16
	// VerifyAtOnce is the size, in bytes, up to which File verifies a crate while its
	// caller waits; a larger one is verified in the background first.
	VerifyAtOnce = 16 << 20
	// VerifiedFiles is how many verified files are remembered.
	VerifiedFiles = 1 << 16
	// CacheBytes is the default bound of the cache of verified blocks.
	CacheBytes = 64 << 20
	// CacheDiskBytes is the default cap of the cache on disk.
	CacheDiskBytes = 4 << 30
	// CacheFloor is the default of what that cache leaves free of its filesystem, in bytes.
	CacheFloor = 1 << 30
	// ReadAhead is how many blocks a sequential reader of a local node is ahead of, and any
	// reader at first; ReadAheadMost is how many at most.
	ReadAhead     = 2
	ReadAheadMost = 16
	// RunLeast is the fewest blocks that are fetched in one stream; the most are half of what a
	// reader is ahead of.
	RunLeast = 2
	// AheadGrow: while blocks take less, readers go further ahead; AheadShrink: when one takes
	// more, less far.
	AheadGrow   = 500 * time.Millisecond
	AheadShrink = time.Second
	// ReaderAway is after how long without a block a reader is not counted any more.
	ReaderAway = 10 * time.Second
	// MeasureFor is how long what reads have shown of a node's distance counts; after that,
	// what its status takes, with NominalRate, in bytes a second.
	MeasureFor  = 30 * time.Second
	NominalRate = 100 << 20
	// NearEnough: nodes that give a block sooner are as near as each other.
	NearEnough = 15 * time.Millisecond
	// CheckPause is how long a check waits before it looks again at a crate that is on its
	// way.
	CheckPause = 20 * time.Millisecond
	// VerifyLimit bounds the verification of one block by a node.
	VerifyLimit = 10 * time.Second
)

// The ledger.
const (
	// MaxDestinations is how many destinations a manifest may have.
	MaxDestinations = 24
	// MaxBarred is how many nodes a manifest names that must get no copy.
	MaxBarred = 512
	// MaxRecounts is how many crates of which a node tells that their copies have changed wait to
	// be asked after; more, and all it has are.
	MaxRecounts = 4096
	// MaxLeaves is how many leaves behind one node a manifest tells of; further ones do not
	// count.
	MaxLeaves = 16
	// DeadKeys is the most keys that one DeadTx writes.
	DeadKeys = MaxDestinations + 4
	// ChunkBlocks is how many block digests lie in one record.
	ChunkBlocks = 1024
	// spareKeys is how many of the keys that an update of the ledger has the router leaves unused.
	spareKeys = 4
	// receiptKeys is how many keys the recording of one receipt takes at most: the manifest, the
	// entry of the queue, a note, and ReceivedKeys.
	receiptKeys = 3 + ReceivedKeys
	// ReceivedKeys is how many keys an observer may write for one receipt.
	ReceivedKeys = 5
	// OwedEvery is how often it is looked whether something is owed for crates that an error has
	// kept from being done, and OwedPairs of how many the observer is told at once.
	OwedEvery = time.Minute
	OwedPairs = 256
	// ScanPairs is how many pairs the router reads at a time.
	ScanPairs = 512
	// MaxTold is of how many manifests at most the observer is told when a node is removed.
	MaxTold = 4096
	// MaxRotten is how many bodies are remembered whose bytes came out wrong.
	MaxRotten = 4096
	// AuditEvery is how often all manifests are looked through, and AuditFirst how long
	// after the start for the first time.
	AuditEvery = time.Hour
	AuditFirst = 2 * time.Second
	// AuditPause is the pause between ScanPairs manifests of an audit.
	AuditPause = 5 * time.Millisecond
)

// Memory nodes.
const (
	// ExtraQueue is how many crates may wait to be copied to memory nodes; more are not
	// copied.
	ExtraQueue = 256
	// ExtraMax is the largest crate that is copied there, in bytes.
	ExtraMax = 4 << 20
	// ExtraLimit bounds one such copy.
	ExtraLimit = 10 * time.Second
	// ExtraSweep is how often copies of dead crates are looked for there.
	ExtraSweep = 10 * time.Second
)
