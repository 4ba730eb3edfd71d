// Stasis-peer makes this machine a place where the vaults of others keep crates: it
// serves a node, or a router over several, to the vaults it has invited, over gRPC and HTTP.
package main
