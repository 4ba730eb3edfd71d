// Package blocks moves the bytes of crates in and out of a leaf, a block at a
// time, and checks every one: Ingest hashes what a source gives while it is
// written, Reader verifies what the medium gives before anybody sees it.
//
// It knows nothing of where bytes lie: that is a function of the leaf's.
package blocks
