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
//
// Where to start: reserve.go is the space, put.go the way of a crate in, read.go the way out.
// FORMAT.md has the records.
package depot
