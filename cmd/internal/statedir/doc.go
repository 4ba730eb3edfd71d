// Package statedir is what every daemon of stasis does with its state directory, whatever it
// keeps there: taking it for one process, finding it again, logging in it, and telling
// the service manager how things stand.
//
// Invariants:
//
//   - One process uses a state directory at a time, and says which it is.
//   - A process that has it and does not answer is waited for, with a bound, before anybody
//     says that the vault is mounted or takes its mount away: it may be ending.
//   - A log has a bounded size.
package statedir
