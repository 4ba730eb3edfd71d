package invite

import "time"

const (
	// SecretSize is the length of the secret, in bytes.
	SecretSize = 16
	// MaxAddresses is the most addresses for each protocol.
	MaxAddresses = 8
	// MaxAddress is the longest address, in bytes: a name of 253 and a port.
	MaxAddress = 260
	// DefaultLifetime is how long an invite can be redeemed unless told otherwise.
	DefaultLifetime = 24 * time.Hour

	// checkSize is the length of the checksum at the end, in bytes.
	checkSize = 8
	// maxText is the longest text that is read as an invite, in bytes: more than the
	// longest invite, broken into lines, has.
	maxText = 16 << 10
)
