// Stasis is the person's command for vaults: what is safe and what is not, where
// copies are, which places keep them. It asks the daemon that serves a vault, and opens
// the vault itself where none runs.
package main
