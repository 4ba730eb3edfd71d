// Package control is how the commands talk to a running daemon: over the Unix
// socket STATE/control.sock, one request a connection.
//
// Words. A frame is four bytes of length, big-endian, and that many bytes of JSON. A
// client sends one frame, the request: {"op", "args"}. The server answers with any number
// of frames {"progress"} and ends with one {"result"} or {"error"}; while it works on
// something long it sends empty frames, so that a client can tell slow from dead.
// Closing the connection cancels the request.
//
// Invariants:
//
//   - Only root and the user the daemon runs as are answered; the kernel says who asks.
//   - A frame is refused by its length before it is read.
//   - A client waits MaxSilence for the next frame and no longer.
package control
