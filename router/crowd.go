package router

import (
	"encoding/binary"
	"time"

	"stasis/store"
)

// crowd remembers crates of a node beyond those that are remembered one by one: by a bit each,
// which some share by chance, and with one pause for all of them. The pause doubles each time that it
// is over and crates join again. A crate of which there is no bit has no pause, so that what is well
// goes on beside any number that fail.
type crowd struct {
	pause allowance
	bits  []byte // nil: it is empty
}

// add has a crate wait until the pause is over. fresh says that another one has begun.
func (c *crowd) add(id store.CrateID, now, first, most time.Duration) (fresh bool) {
	if fresh = c.pause.take(now, first, most); fresh || c.bits == nil {
		c.bits = make([]byte, CrowdBits/8)
	}
	at, bit := crowdBit(id)
	c.bits[at] |= bit
	return fresh
}

// rests is after how long a crate may be tried again; 0: now.
func (c *crowd) rests(id store.CrateID, now time.Duration) time.Duration {
	if now >= c.pause.until {
		c.bits = nil
	}
	if c.bits == nil {
		return 0
	}
	if at, bit := crowdBit(id); c.bits[at]&bit == 0 {
		return 0
	}
	return c.pause.until - now
}

// crowdBit is where the bit of a crate is. This vault draws the ids of its crates, and their last
// bytes at random.
func crowdBit(id store.CrateID) (at uint32, bit byte) {
	n := binary.BigEndian.Uint32(id[len(id)-4:]) % CrowdBits
	return n / 8, 1 << (n % 8)
}
