// Package memory is a leaf that keeps crates in memory, up to a bound. It is for
// caches, for tests and for simulations: nothing outlives the process, it says so
// in Status.Durable, and a copy in it never counts.
//
// Invariants: it promises and keeps as strictly as any other store, no byte leaves
// it unverified, and the memory it holds for crates never passes its capacity.
package memory
