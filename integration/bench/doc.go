// Bench measures two things in one run on one disk. The first is a vault with two
// directory nodes against what a person would compare it with: the plain filesystem, and
// go-fuse's example/loopback, with passthrough and, in a user namespace where the kernel
// gives none, without. The second is how fast what is closed comes to a node, and back
// from it alone, for a directory and for a peer over each protocol, beside a bare stream
// over the same loopback. Time is taken from the last close until `stasis wait` returns;
// nothing is sent before.
//
// Words. A system is a directory that a workload runs in, with whatever serves it. A
// measure is one workload. A bare stream moves as many bytes with TLS and the protocol's
// own library and nothing else. A round runs every measure on every system once.
//
// Absolute figures drift from minute to minute on a shared machine, so
//
//   - the systems take turns within every measure, in another order each round;
//   - what a system does in the background ends before the next one's turn;
//   - each workload runs in a process of its own that takes its own time;
//   - the table shows medians over the rounds, and the ratios that count.
package main
