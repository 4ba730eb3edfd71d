// Package grpcpeer carries the messages of package wire over gRPC: a server for a
// wire.Service, and a client that is a store.Store.
//
// Words. A frame is one gRPC message: a kind, a head in JSON, and bulk bytes that are
// passed through as they are. An attempt is one stream that sends a crate; an attempt
// that breaks off is followed by another, which begins where the server says.
//
// Invariants:
//
//   - Each call is bounded: by a time where no bulk bytes move, else by how long either
//     side waits for the other's next frame.
//   - A link on which nothing is heard is given up after DeadAfter, as servers show a sign
//     of life more often than that.
//   - What fails below the messages is store.Unavailable with the address in it.
//
// The framing is in FORMAT.md.
package grpcpeer
