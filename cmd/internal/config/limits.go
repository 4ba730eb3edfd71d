package config

const (
	// MaxFile is the largest vault.toml that is read, in bytes.
	MaxFile = 1 << 20
	// MaxNodes is the most [[node]] tables a vault may have.
	MaxNodes = 256
	// MaxCopies is the most copies a vault may ask for.
	MaxCopies = 64
	// maxText is the longest text in the file, in bytes: the longest path.
	maxText = 4096
	// maxShown is the most that is shown of each part of a message about the file, in bytes.
	maxShown = 8192
	// MaxName is the longest name of a node or zone, in bytes.
	MaxName = 64
	// MinCapacity is the least a node may be given, in bytes: room for one block of
	// content and what comes with it.
	MinCapacity = 4 << 20
	// MinCache is the least cap of the cache, in bytes: what a sequential reader has open
	// at once, and some.
	MinCache = 64 << 20
	// MinRate is the least rate a node may be given, in bytes a second: slower than
	// this and a large crate may outlive the time that is waited for it.
	MinRate = 2 << 20
)
