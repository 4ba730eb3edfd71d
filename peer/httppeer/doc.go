// Package httppeer carries the messages of package wire over HTTP/1.1 and TLS 1.3: a server
// for a wire.Service, and a client that is a store.Store. Other tools, such as curl with a
// client certificate, can use the server too.
//
// Words. An upload is what a peer has of a crate whose sending broke off. An attempt is one
// request that sends a crate from some offset on; one that breaks off is followed by
// another, which begins where the upload ends. A sender gives a crate up when its source
// fails; then the peer forgets the upload, which it keeps where only the link broke.
//
// Invariants:
//
//   - Each request is bounded: by a time where no bulk bytes move, else by how long either
//     side waits for the other's next bytes.
//   - A client that sees nothing move asks the peer over another connection whether it lives,
//     and gives up within DeadAfter if there is no answer: a link that died is found in
//     seconds, and a peer whose disk is slow is waited for.
//   - A body that ends as HTTP wants it to end, but short, is never taken for whole.
//   - What fails below the messages is store.Unavailable with the address in it.
//
// The resources are in FORMAT.md.
package httppeer
