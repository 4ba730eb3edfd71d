package fs

import "time"

const (
	// partSize is the length, in bytes, of the crates that content is cut into for which no
	// place has room whole.
	partSize = 1 << 30
	// sealDelay is how long a closed file rests before it is cut into crates: what is
	// renamed, rewritten or removed within it never goes anywhere.
	sealDelay = time.Second
	// sealQuiet is how long no file must have been closed for the sealer to begin, and
	// sealPatience how long a closed file rests at most while others are: sealing,
	// hashing and sending what a program writes would slow it down by half. What a power cut may
	// take from a program that syncs nothing is as old as that.
	sealQuiet    = 300 * time.Millisecond
	sealPatience = 10 * time.Second
	// snapshotAge is how old, at most, what a program has written to a file that it keeps
	// open becomes before it is copied, and snapshotPoll how often that is looked at.
	snapshotAge  = 5 * time.Minute
	snapshotPoll = 30 * time.Second
	// sealBatch is the most files that share one sync.
	sealBatch = 512
	// sealBacklog is how many closed files may rest at once; past it they are sealed
	// early.
	sealBacklog = 16384
	// sealTries is how often a file that is being written is synced beside its writers
	// before they are held up for it.
	sealTries = 3
	// sealAhead is how many bytes more than was committed are drawn, at first, when writers are held
	// up.
	sealAhead = 8 << 20
	// sealSyncAll is from how many files on a batch is synced with one syncfs.
	sealSyncAll = 8
	// sealLarge is the size, in bytes, from which a body is synced in a lane of its own, so
	// that small files don't wait for it.
	sealLarge = 16 << 20
	// syncEvery is how long, at most, the ledger runs ahead of what survives a power cut.
	syncEvery = 2 * time.Second
	// stampSlack is how far the stamps of the filesystem that bodies lie on may be ahead
	// of names.Now when both are taken at once: it may stamp finer than the coarse clock
	// ticks.
	stampSlack = 10 * time.Millisecond
	// adoptionWait bounds what a read waits for a body that is on its way into a node, and
	// adoptionPoll is how often it looks.
	adoptionWait = 4 * time.Second
	adoptionPoll = 5 * time.Millisecond
	// workRetry is the pause before work in the background that failed is tried again.
	workRetry = 10 * time.Second
	// retryUnplaced is how often content that found no space is tried again unasked.
	retryUnplaced = 30 * time.Second
	// namesKeys is how many of the keys that an update of the ledger has are left to package
	// names, where it changes or removes an inode in the same update.
	namesKeys = 15
	// reapQuiet is how long no file must have been removed for the content of those that were
	// to be given up, and reapPatience how long that is put off at most.
	reapQuiet    = 200 * time.Millisecond
	reapPatience = 5 * time.Second
	// blanksWanted is how many bodies with a number for a new file are kept ready; at
	// blanksLow more are made, blanksAtOnce in one update of the ledger. blankRetry is how long
	// to wait after that failed.
	blanksWanted = 2048
	blanksLow    = 1024
	blanksAtOnce = 40
	blankRetry   = time.Second
	// promiseWait bounds how long a close waits, after a crash, until the files found then
	// have their space again.
	promiseWait = 5 * time.Second
	// sparesAtOnce is how many files for bodies are made ahead, every syncEvery, while nothing
	// else is to be done.
	sparesAtOnce = 1024
	// makeRoomWait bounds how long a close waits for the discards that make room for it,
	// and makeRoomPoll is how often it looks.
	makeRoomWait = 2 * time.Second
	makeRoomPoll = 50 * time.Millisecond
	// anyCopies stands for every copy that is wanted.
	anyCopies = 1 << 16
	// extentsPerScan is how many extents one scan of the ledger gives.
	extentsPerScan = 64
	// walkPages is of how many directories above the one that a walk is in it keeps what it has
	// read ahead. Of others it reads that again, so that a deep tree costs memory for its
	// depth and not for what lies beside each step down.
	walkPages = 64
	// maxPath is the most that is told of a path, in bytes: what the commands take of a text.
	// A program can use paths of up to 4,096 bytes.
	maxPath = 64 << 10
	// readRetries is how often a read starts anew because the content was switched
	// under it.
	readRetries = 4
	// sealPoll is how often a wait looks whether everything that was closed is sealed.
	sealPoll = 10 * time.Millisecond
	// waitBurst is how long a wait lets news gather, and waitLook how often it looks
	// without any.
	waitBurst = 20 * time.Millisecond
	waitLook  = 2 * time.Second
	// atimeAge is from when on a read renews an access time that is newer than the last
	// change, atimeEvery how often what reads have set is written down, and atimesMost at how
	// many inodes that happens at once.
	atimeAge   = 24 * time.Hour
	atimeEvery = 5 * time.Second
	atimesMost = 4096
	// MaxFileSize is the largest file, in bytes.
	MaxFileSize = 1 << 50
)
