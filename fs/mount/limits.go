package mount

import "time"

const (
	// cacheFor is how long the kernel may use names, the absence of names and attributes
	// unasked. It could be for ever; a bound heals what a bug may leave.
	cacheFor = time.Hour
	// passingFor is that for attributes that are about to change by themselves.
	passingFor = time.Second
	// maxRequest is the largest READ and WRITE, in bytes: what the kernel allows.
	maxRequest = 1 << 20
	// maxBackground is how many requests that nobody waits for, readahead above all, the
	// kernel may have under way.
	maxBackground = 64
	// maxInflight bounds the memory of requests under way, in bytes.
	maxInflight = 128 << 20
	// readAhead is how far the kernel reads ahead of a program, in bytes, where it may
	// be told. More would cost programs that read at random through a mapping.
	readAhead = 1 << 20
	// maxCopy is the most that one copy_file_range(2) does, in bytes.
	maxCopy = 1 << 30
	// ioSize is what stat(2) recommends for reads and writes, in bytes. Each costs a round
	// trip to this process.
	ioSize = 128 << 10
	// statfsBlock is the unit of statfs(2), in bytes.
	statfsBlock = 4096
	// dirPage is how many entries of a directory are read from the ledger at once.
	dirPage = 256
	// reportBurst is how many failures go to the log within reportEvery.
	reportBurst = 20
	reportEvery = time.Minute
	// fusermountLimit bounds a run of fusermount3.
	fusermountLimit = 20 * time.Second
	// unmountSettle is how long an unmount that failed waits for one by somebody else to be
	// over.
	unmountSettle = time.Second
)
