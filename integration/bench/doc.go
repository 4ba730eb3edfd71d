// Bench measures a vault with two directory nodes against what a person would compare
// it with, in one run on one disk: the plain filesystem, and go-fuse's example/loopback,
// with passthrough and, in a user namespace where the kernel gives none, without.
//
// Words. A system is a directory that a workload runs in, with whatever serves it. A
// measure is one workload. A round runs every measure on every system once.
//
// Absolute figures drift from minute to minute on a shared machine, so
//
//   - the systems take turns within every measure, in another order each round;
//   - what a system does in the background ends before the next one's turn;
//   - each workload runs in a process of its own that takes its own time;
//   - the table shows medians over the rounds, and the ratios that count.
package main
