package names

const (
	// MaxName is the longest name of a dentry, in bytes.
	MaxName = 255
	// MaxTarget is the longest target of a symlink, in bytes.
	MaxTarget = 4095
	// MaxLinks is the most names a file may have, as on ext4. Subdirectories are not
	// bounded by it, as on ext4 with dir_nlink.
	MaxLinks = 65000
	// MaxXattrName is the longest name of an extended attribute, in bytes, with its
	// namespace prefix.
	MaxXattrName = 255
	// MaxXattrValue is the largest value of an extended attribute, in bytes.
	MaxXattrValue = 64 << 10
	// MaxXattrList is how long the names of one inode's attributes may be together, in
	// bytes with a NUL after each: what one listxattr(2) can answer.
	MaxXattrList = 64 << 10
	// MaxPolicy is the largest policy of an inode, in bytes.
	MaxPolicy = 64 << 10
	// MaxSize is the largest size of a file, in bytes.
	MaxSize = 1<<63 - 1
	// MaxDepth is how many directories a walk towards the root passes before it takes
	// the namespace for damaged.
	MaxDepth = 1 << 20

	// inheritanceMost is of how many directories it is remembered where their policy is set, in
	// 16 bytes each.
	inheritanceMost = 1 << 16

	// allocationBlock is how many numbers are taken from the ledger at once. A crash
	// skips what is left of a block.
	allocationBlock = 4096
	// scanPage is how many pairs one scan of the ledger asks for.
	scanPage = 512
	// removeBatch is how many attributes one update of Remove deletes; an update may
	// hold 100 keys.
	removeBatch = 64
	// directorySize is what a directory says of its size, in bytes, as ext4 does for one
	// block.
	directorySize = 4096
)
