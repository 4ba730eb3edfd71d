// Package router keeps every crate on as many nodes as its policy wants: it
// draws space, replicates, reads with fallback, remembers what must be discarded,
// and tells truthfully what it has.
//
// Words. A node is a place that keeps crates, known to the person by a name and to
// the router by the id of its leaf. A grant is a reservation that is held on a node
// ahead of need and drawn down crate by crate. A plan is the outcome of a draw: the
// nodes on which one content has its space. A manifest is what a crate is and every
// destination it was ever meant for. A silent node is one that is missing (its
// marker is not there) or does not answer; what is meant for it waits in its queue.
//
// Invariants:
//
//   - Space before data: a crate is sent to a node only on space that the node has
//     reserved, drawn from the node's grant. A draw is all or nothing; what a failed
//     draw had taken is back when it returns.
//   - A crate's manifest, with every node it may go to, is synced in the ledger
//     before its first byte is sent, so that no node ever holds a crate that nobody
//     remembers.
//   - A copy counts once its leaf's receipt is recorded, and only on a durable leaf.
//   - This vault knows the digest of what it sends. Checksums are recorded from its own hashing:
//     by a store on this machine, with its receipt, or here, synced before the first byte leaves
//     for another machine. They never change. A send compares each block with them and stops
//     before one that differs.
//   - A receipt from another machine can only agree: one for other bytes is not counted, and the
//     second bars the node until a person trusts it again. It counts for leaves that the node
//     named when it promised the space, each once; another leaf is asked about again.
//   - A word from another machine retracts that machine's own copies, or keeps new ones away from
//     it. It never retires or renews a crate, and has nothing discarded elsewhere. Only a body of
//     our own that changed, of which there is no right copy, retires a crate: it is never sent
//     again under its id. Where a node says Conflict, the crate goes elsewhere.
//   - A node that is not at the position up to which the ledger accounts for it is counted anew.
//     Until then its copies are unknown: not counted, not replaced, still read. What is missing is
//     recorded before the new position is. What a call begun before that has brought is asked for
//     again: the count has not seen it. The ledger's position follows the node's in order.
//   - Work that a node asks for is bounded: its events by a rate, repairs by a pause a crate,
//     comparisons by a pause, listings by an order and a number of pages. Its figures are cut to
//     what can be, and change nothing for another node.
//   - A state change is one update of the ledger: a receipt is recorded with the end of its entry
//     in the queue, the node's position, and what its owner makes of it. What follows of a change
//     and is not in the same update is noted in it, and done again after a kill (owed.go).
//   - Only a recorded removal strikes a copy. The copies of a node of which there is no record
//     are unknown. A node that gets another name has a record at all times, and one that can't be
//     added leaves all as it was.
//   - What a node does not answer is never taken for deleted, and an unknown crate on
//     a node is reported, never discarded. A crate is discarded on a node only because
//     the ledger has a synced record that says so.
//   - Every byte that a read returns was checked against the manifest's checksums, or,
//     where a body was adopted and its receipt not recorded yet, by the local store. That
//     goes for the cache on disk too, which is never the only place of anything.
//   - To a node that a person has paused nothing is sent; what is under way breaks off and goes on
//     later from where it was.
//   - A crate is in flight to a node at most once, be it to be put or to be discarded.
//   - A copy that is wrong is given up only when a right one has been read in full.
//   - What fails at a node has a pause that grows: one for each kind of calls, which only a success
//     of that kind ends, and one for each crate that fails for a reason of its own, which all beyond
//     those that are remembered share (crowd.go). What does not fail waits for neither. A node that
//     answers and takes nothing is said to, and so is one whose copies are unknown, whatever else it is.
//   - Every wait has a bound named in limits.go. No lock is held over a call to a
//     node; each such call runs in a goroutine of its own, which is abandoned, and
//     counted as such, when the call outlives its bound.
//
// Locks. Router.mu guards what is in memory of all nodes and is held for arithmetic and
// look-ups only. A node's questions about its grant go one at a time (lockGrant); what is
// promised from it meanwhile is a matter of mu. Router.claims is held over the one update that says
// which node leads to a store, and is taken before mu.
//
// Where to start reading: api.go has the types, draw.go the space, send.go, expect.go, put.go
// and outcome.go the way of a crate to its nodes, backoff.go and crowd.go what becomes of a node that fails,
// trust.go of one that lies, position.go of one
// that was put back into an earlier state, read.go, fetch.go and run.go the way back,
// reconsider.go and events.go what heals. FORMAT.md describes the records. sim_test.go has the invariants as a program.
package router
