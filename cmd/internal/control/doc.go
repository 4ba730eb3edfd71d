// Package control is how the commands talk to a running daemon: over the Unix
// socket STATE/control.sock, one request a connection.
//
// Words. A frame is four bytes of length, big-endian, and that many bytes of JSON. A
// client sends one frame, the request: {"op", "args"}, with "mount", the device number of the
// mount that it is about, if it is about one. The server answers with any number
// of frames {"progress"} and ends with one {"result"} or {"error"}; while it works on
// something long it sends empty frames, so that a client can tell slow from dead.
// Closing the connection cancels the request. One request every server answers itself, "who":
// its process and the device number of the mount that it serves.
//
// Invariants:
//
//   - Only root and the user the daemon runs as are answered; the kernel says who asks.
//   - Who asks about one mount gets no answer about another: what a mount says of itself, its
//     type and its source, anybody may say who mounts. The device number is the kernel's.
//   - A process that has the socket open, and does not answer, is not taken for a daemon that
//     serves, nor for one that has ended: one that was killed has it for as long as the kernel
//     takes to end it.
//   - A frame is refused by its length before it is read.
//   - The texts of an answer are printable, as the daemon may be another user's.
//   - A client waits MaxSilence for the next frame and no longer.
package control
