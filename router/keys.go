package router

import (
	"encoding/binary"

	"stasis/store"
)

// Tables, by the first byte of their keys. FORMAT.md describes them.
const (
	tableManifest = 'm' // shared: crate16 -> manifest
	tableSums     = 'k' // shared: crate16 form1 chunk4 -> digests
	tableDead     = 'D' // shared: node16 crate16 -> discard there
	tableSweep    = 'K' // shared: crate16 -> checksums still to be deleted

	tableQueue = 'q' // local: node16 class1 crate16 -> entry
	tableGrant = 'g' // local: node16 -> grant
	tableName  = 'N' // local: name -> node record
	tableToken = 't' // local: token16 -> time
	tablePlace = 'P' // local: node16 -> position up to which all is accounted for
	tableHold  = 'p' // local: name -> until when nothing is sent there
	tableOwed  = 'o' // local: crate16 -> its manifest has changed, and something follows
)

// class tells small crates, which go in batches, from large ones. Each has its own
// queue, so that neither waits for the other.
type class uint8

const (
	small class = iota
	large
	classes
)

func classOf(size int64) class {
	if size <= SmallCrate {
		return small
	}
	return large
}

func manifestKey(c store.CrateID) []byte { return append([]byte{tableManifest}, c[:]...) }

func sumsKey(c store.CrateID, f store.Form, chunk uint32) []byte {
	b := append([]byte{tableSums}, c[:]...)
	return binary.BigEndian.AppendUint32(append(b, byte(f)), chunk)
}

func deadKey(n store.NodeID, c store.CrateID) []byte {
	return append(deadPrefix(n), c[:]...)
}

func deadPrefix(n store.NodeID) []byte { return append([]byte{tableDead}, n[:]...) }

func sweepKey(c store.CrateID) []byte { return append([]byte{tableSweep}, c[:]...) }

func queueKey(n store.NodeID, k class, c store.CrateID) []byte {
	return append(queuePrefix(n, k), c[:]...)
}

func queuePrefix(n store.NodeID, k class) []byte {
	return append(append([]byte{tableQueue}, n[:]...), byte(k))
}

func positionKey(n store.NodeID) []byte { return append([]byte{tablePlace}, n[:]...) }

func grantKey(n store.NodeID) []byte { return append([]byte{tableGrant}, n[:]...) }

func nameKey(name string) []byte { return append([]byte{tableName}, name...) }

func owedKey(c store.CrateID) []byte { return append([]byte{tableOwed}, c[:]...) }

func holdKey(name string) []byte { return append([]byte{tableHold}, name...) }

func tokenKey(t store.Token) []byte { return append([]byte{tableToken}, t[:]...) }

// crateOf takes the crate id from the end of a key.
func crateOf(key []byte) (c store.CrateID) {
	copy(c[:], key[len(key)-len(c):])
	return c
}

// after is the least key that has no key with the given prefix before it or equal:
// the end of a scan over the prefix. No table is 0xff, so there always is one.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; ; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
}

// next is the least key after the given one.
func next(key []byte) []byte { return append(append([]byte(nil), key...), 0) }
