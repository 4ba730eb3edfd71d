package main

import "time"

const (
	// smallFiles of smallSize bytes each are made by smallWorkers at once, smallPerDir
	// in a directory.
	smallFiles   = 5000
	smallSize    = 4 << 10
	smallWorkers = 4
	smallPerDir  = 100

	// bigSize is the bytes of the big file, written and read in pieces of bigPiece bytes.
	bigSize  = 512 << 20
	bigPiece = 1 << 20

	// hugeSize is the bytes of the file, and manyFiles the number of small ones, that are
	// copied to a node and read back.
	hugeSize  = 1 << 30
	manyFiles = 10000
	// A bare stream moves hugeSize bytes too, in messages of barePiece bytes with a
	// flow-control window of bareWindow.
	barePiece  = 256 << 10
	bareWindow = 4 << 20
	// bareGoal is the part of a bare stream's speed that a copy is to have, and manyGoal
	// how many small files a second are to be copied.
	bareGoal = 0.6
	manyGoal = 1500

	// mountTimeout bounds the wait for a mount to serve, and for a daemon to end.
	mountTimeout = 30 * time.Second
	// endTimeout is how long go-fuse's example may take to end before it is killed.
	endTimeout = 5 * time.Second
	// waitTimeout bounds one `stasis wait`.
	waitTimeout = 10 * time.Minute
	// workTimeout bounds one workload.
	workTimeout = 10 * time.Minute

	// A daemon is idle when it used less than idleShare of a core over idleSpan; idleTimeout
	// bounds how long that is waited for.
	idleSpan    = 500 * time.Millisecond
	idleShare   = 0.06
	idleTimeout = time.Minute

	// pollEvery is how often a mount is looked for.
	pollEvery = 20 * time.Millisecond

	// clockTick is the unit of the CPU times in /proc: USER_HZ, 100 on every Linux that Go
	// runs on.
	clockTick = time.Second / 100
)
