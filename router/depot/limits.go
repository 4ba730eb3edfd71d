package depot

import (
	"time"

	"stasis/router"
)

const (
	// PutPatience is how long a put waits, once a leaf has its crate, for the other nodes of its
	// plan that answer; it asks the router every PutLook which do.
	PutPatience = time.Second
	PutLook     = 250 * time.Millisecond
	// PutLimit is how long a put waits for a first receipt, beside the time that its bytes take at
	// PutRate, in bytes a second.
	PutLimit = 2 * time.Minute
	PutRate  = router.SendRate
	// SilentPatience is how long a put waits for a first receipt while no node of its plan
	// answers.
	SilentPatience = 5 * time.Second
	// BatchPuts is how many crates of a batch are on their way at a time.
	BatchPuts = 128
	// MendEvery is how often all crates are looked through for copies that nobody is going to
	// make, MendFirst how long after the start for the first time, and MendRetry when again
	// if there was no room for all. MendRefusals in a row end a look; MendPause is how long a change
	// waits for others.
	MendPause    = 200 * time.Millisecond
	MendEvery    = time.Hour
	MendFirst    = 5 * time.Second
	MendRetry    = time.Minute
	MendRefusals = 8
	// RoomEvery is how often it is said at most that there may be room again.
	RoomEvery = 10 * time.Second
	// MaxNews is of how many crates at once it is remembered that their copies have changed.
	MaxNews = 1 << 16
	// undoLimit bounds what is done for a caller who has gone.
	undoLimit = 10 * time.Second
	// closeLimit bounds the closing, once the calls under way have ended.
	closeLimit = 15 * time.Second
	// pageCrates is how many manifests are read at a time.
	pageCrates = 512
)
