// Package harness sets up whole systems for tests: the built binaries, vaults that they
// mount, peers, networks between them, and filesystems for their nodes.
//
// Words. The run directory holds everything of one test process: the binaries, and a
// directory for each test. A vault here is a state directory and a mountpoint with
// whatever daemon serves it. A space is a mount namespace, with users of its own if need
// be. A disk is a filesystem in a file, or in memory, that can
// go away.
//
// Invariants:
//
//   - Nothing outlives the test process: no mount, no daemon, no loop device, no network
//     namespace, no file. A test that leaves one fails. What a test process that is killed
//     leaves, the janitor, a child of it, clears.
//   - Only processes that run a binary of the run directory are ever killed.
//   - Nothing waits without end: each command has a limit, and a daemon whose test takes
//     too long says in its log where it stands, then is killed.
//   - Everything random comes from Seed.
package harness
