// Package storetest is what every store.Store must pass: Run drives a store
// through the contract in the comments of package store, and through each optional
// interface that it finds by assertion. A store that passes can stand in for any
// other, in a router too.
//
// Words. A Factory makes stores. An Instance is one store with the handles a test
// needs beside it: how to open it again, how to damage what it keeps. A Clock
// is time in the test's hands.
//
// Crates are random and come from a seed, which is printed; STASIS_SEED=<seed>
// repeats a run. STASIS_SOAK=1 runs the full counts.
//
// Beside the suite lie the things other tests of stores need: sources that give
// bytes, break off, stall or lie (BytesSource and the rest), random crates (Gen),
// and, in storetest/fault, a store that fails on demand.
package storetest
