// Package fault is a store that fails when told to: it wraps a real one, and each
// rule says which call of which operation goes wrong, and how. Tests of whatever
// sits on stores use it.
//
// A rule fires on one call (the nth from now) or, with n = 0, on every call until
// Heal. What no rule concerns goes through untouched. Nothing here is random: a
// test that wants chance takes n from its seed.
package fault
