// Package wire is what both protocols between a vault and its peers share: the
// messages, the errors, the limits, and the interface that a server serves.
//
// Words. A session is one owner's view of a peer: a store.Store of its own. A head is a
// message in JSON; bulk bytes travel beside heads and are never re-encoded. Putting a crate
// resumes: the server says from which block on it wants the bytes (Begin), and the
// client's source is opened there.
//
// Invariants:
//
//   - A reader takes no more than the limits of limits.go, whatever the other side sends.
//   - Nothing that a reader passes over comes without bound: a stream with more signs of life
//     than anybody needs is ended (Signs).
//   - A reader ignores fields it does not know; a writer never changes the meaning of one.
//   - A text that was read is printable and bounded, whatever the other side sent.
//   - The kind of a store.Error is the same on both sides.
//   - A client takes no receipt for other bytes than its caller says it sends: a peer has no say
//     in what a crate is.
//
// The formats are in FORMAT.md; golden messages are in testdata.
package wire
