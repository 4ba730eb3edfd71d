package identity

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"stasis/store"
)

// SecretSize is the length of the secret, in bytes.
const SecretSize = 32

// The labels of the derivations, fixed for ever by version 1 of the format.
const (
	labelOwner = "stasis 1 owner key"
	labelSeal  = "stasis 1 sealing key"
	labelTLS   = "stasis 1 tls key"
)

// Identity is a vault's secret. It prints as nothing that could be used.
type Identity struct {
	secret [SecretSize]byte
}

// New makes a fresh secret. The system's random source either gives its bytes or
// ends the process.
func New() Identity {
	var i Identity
	rand.Read(i.secret[:]) // documented never to return an error
	return i
}

// Owner is the vault towards the stores it uses: the public half of OwnerKey.
func (i Identity) Owner() store.OwnerID {
	return store.OwnerID(i.OwnerKey().Public().(ed25519.PublicKey))
}

// OwnerKey signs what only the vault may ask for.
func (i Identity) OwnerKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(i.derive(labelOwner, ed25519.SeedSize))
}

// SealingKey encrypts content for places that must not read it.
func (i Identity) SealingKey() [32]byte {
	return [32]byte(i.derive(labelSeal, 32))
}

// TLSKey is the key of the certificate the vault shows to its peers. It differs
// from OwnerKey, so that a handshake never signs with the key that owns data.
func (i Identity) TLSKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(i.derive(labelTLS, ed25519.SeedSize))
}

// derive gives n bytes for a label. HKDF refuses only lengths far beyond what is
// asked for here.
func (i Identity) derive(label string, n int) []byte {
	key, err := hkdf.Key(sha256.New, i.secret[:], nil, label, n)
	if err != nil {
		panic(fmt.Sprintf("derive %s: %v", label, err))
	}
	return key
}

// String names the vault by its owner, never by its secret.
func (i Identity) String() string { return "identity of " + i.Owner().String()[:16] }

// GoString keeps %#v from printing the secret.
func (i Identity) GoString() string { return i.String() }

// Format keeps every verb from printing the secret.
func (i Identity) Format(f fmt.State, _ rune) { fmt.Fprint(f, i.String()) }
