// Package invite is the text that a peer's person hands to a vault's: who the peer is,
// where it listens, and a secret that entitles to keep crates there.
//
// Words. To redeem an invite is to show its secret to the peer over a connection to
// the fingerprint in it. The secret is random; the peer keeps its hash only.
//
// Invariants:
//
//   - A text that was cut short or mistyped is noticed before anything is dialled.
//   - How a text was wrapped, spaced or cased on its way is forgiven.
//   - The secret appears in no error.
//
// The format is in FORMAT.md.
package invite
