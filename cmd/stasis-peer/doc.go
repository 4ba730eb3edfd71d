// Stasis-peer makes this machine a place where the vaults of others keep crates: it
// serves a node to the vaults it has invited, over gRPC and HTTP.
package main
