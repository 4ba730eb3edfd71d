package config

// DefaultNode is the name of the node a new vault has, and DefaultNodePath where
// it lies, counted from the state directory.
const (
	DefaultNode     = "disk"
	DefaultNodePath = "nodes/default"
)

// Default is the vault.toml of a new vault.
const Default = `# This vault's settings. Change them here or with the command ` + "`stasis`" + `; a running
# vault reads the file again on SIGHUP. What it does not understand it refuses,
# and goes on with the settings it had.

copies = 1          # how many copies a file should have, each on another node
# least = 1         # a close fails when fewer nodes than this have space for the file
# bodies = "bodies" # where open and recent files lie
# cache = "4GiB"    # how much of what was read from peers is kept here at most

# A node is a place that keeps copies. The first ones are read first. Relative
# paths count from this file, ~/ is your home.
#
#   stasis node add VAULT usb directory /media/usb/stasis
#   stasis node add VAULT nas container /mnt/nas/stasis.container --capacity 500GiB
#   stasis node add VAULT basement peer INVITE
#
# kind      directory (one file a crate), container (all in one file), memory (fast, never counted),
#           grpc or http (a peer: address = "host:port", peer = its fingerprint)
# capacity  what stasis may use there, like "500GiB"; a directory may leave it out
# zone      a name for places that can be lost together
# rate      the most to send there, like "20MiB/s"
[[node]]
name = "` + DefaultNode + `"
kind = "directory"
path = "` + DefaultNodePath + `"
`

// DefaultPeer is the peer.toml of a new peer.
const DefaultPeer = `# This peer's settings: where it keeps the crates that vaults send it. A running peer
# reads the file again on SIGHUP. What it does not understand it refuses, and goes on with
# the settings it had. Relative paths count from this file, ~/ is your home.
#
# With more than one node, each crate is kept on as many of them as copies says; what goes to
# a node that is a peer itself is passed on to it.
#
#   stasis node add THIS-DIRECTORY second directory /media/second/stasis
#   stasis node add THIS-DIRECTORY far peer INVITE
#
# kind      directory (one file a crate), container (all in one file), memory (never counted),
#           grpc or http (a further peer: address = "host:port", peer = its fingerprint)
# capacity  what stasis may use there, like "500GiB"; a directory may leave it out
# zone      a name for places that can be lost together
# rate      the most to send there, like "20MiB/s"

copies = 1

[[node]]
name = "` + DefaultNode + `"
kind = "directory"
path = "` + DefaultNodePath + `"
`
