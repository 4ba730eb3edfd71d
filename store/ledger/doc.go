// Package ledger is the vault's transactional database: ordered keys and
// values in two spaces, changed by small atomic updates.
package ledger
