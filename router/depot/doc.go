// Package depot is a router as a store: it keeps what it is given on several further nodes,
// directories or peers, and answers for them. It is what a peer with more than one node serves.
//
// Words. A body is the file in which a crate lies while it is on its way to its first nodes.
// A hold is what stands behind one reservation: a plan of the router's, whose nodes have
// promised the space that is not drawn yet.
//
// Invariants:
//
//   - A reservation is given when every node of its plan that answers has promised all of it,
//     and what a refused one had taken is back. The promises outlive a restart.
//   - A put succeeds when at least one leaf has given its receipt, and waits a while for the
//     other nodes of the plan that answer. The receipts are those of the leaves, so that
//     whoever counts copies counts each leaf once.
//   - A crate without any receipt is visible to nobody, and gone after a restart: there are
//     no bodies after one. One with a receipt is the router's, which makes the copies it still
//     lacks from those there are, repairs them, and replaces nodes that are away for good.
//   - Nothing goes in a circle: what came through a store is not sent to it again, and
//     nothing goes through more peers than its sender allowed.
//   - What one sender says of paths, hops and places to leave out holds for what it sends, and
//     for nothing else. The space that the router keeps at a peer for all crates is asked for in
//     the depot's own name, with no path but the depot itself, which is all that it knows: what a
//     sender names it can't check. A crate that came through peers, as its sender says, goes on
//     under a reservation of its own, which says all that its sender has said, and one hop less.
//     So a path is exact for each crate, a lie in it costs the liar, and a circle ends at the
//     first peer that finds itself in the path, or after router.MaxHops peers.
//
// Where to start: reserve.go is the space, put.go the way of a crate in, read.go the way out,
// onward.go the way on to peers.
// FORMAT.md has the records.
package depot
