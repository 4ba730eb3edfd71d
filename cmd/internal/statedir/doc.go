// Package statedir is what every daemon of stasis does with its state directory, whatever it
// keeps there: taking it for one process, finding it again, logging in it, and telling
// the service manager how things stand.
//
// Invariants:
//
//   - One process uses a state directory at a time, and says which it is.
//   - A log has a bounded size.
package statedir
