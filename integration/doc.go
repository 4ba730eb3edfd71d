// Package integration tests the system as a user meets it: the built binaries, real
// mounts, the programs people use on them, and the faults of real machines. Each test
// says which promise it is for.
//
// The counts are small; STASIS_SOAK=1 asks for the full ones, STASIS_SEED=N repeats a
// run.
package integration
