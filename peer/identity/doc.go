// Package identity holds a vault's one secret and everything that is derived
// from it.
//
// Words. The secret is 32 random bytes, kept in the vault's state directory in the
// file `key`. From it come, by HKDF, the owner key (Ed25519: who the vault is
// towards the stores it uses), the sealing key (what encrypts content for places
// that must not read it) and the seed of the TLS identity. So one backup of one
// short text restores both access and content.
//
// Invariants:
//
//   - The derivations never change for a version of the format: what one release
//     sealed or signed, every later one can open and prove.
//   - A key file is never overwritten, and never visible half written.
//   - A text that was cut short or mistyped is noticed before anything is derived
//     from it.
//   - The secret appears in no log, error or String.
//   - Nobody is trusted for a certificate's names, dates or issuer: a connection is with
//     the key that was pinned, or it is not made.
//
// tls.go has both ends of a connection between a vault and its peers, sign.go what an
// owner signs.
//
// The format is written down in FORMAT.md.
package identity
