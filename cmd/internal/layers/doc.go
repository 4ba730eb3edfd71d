// Package layers holds the test of the module's shape: which part may import which,
// what stands at its top level, and that each package says what it is for.
package layers
