package identity

import (
	"crypto/ed25519"

	"stasis/store"
)

// The labels that open what is signed, so that a signature for one purpose is none for
// another. Fixed for ever by version 1 of the format.
const (
	labelDiscard = "stasis 1 discard\x00"
	labelRedeem  = "stasis 1 redeem\x00"
)

// SignDiscard is the owner's word that a leaf may give up a crate.
func (i Identity) SignDiscard(crate store.CrateID, leaf store.NodeID) []byte {
	return ed25519.Sign(i.OwnerKey(), discardText(crate, leaf))
}

// VerifyDiscard tells whether the owner has signed the discard; Denied if not.
func VerifyDiscard(owner store.OwnerID, crate store.CrateID, leaf store.NodeID, signature []byte) error {
	if verify(owner, discardText(crate, leaf), signature) {
		return nil
	}
	return &store.Error{Kind: store.Denied, Op: "discard crate", Subject: crate.String(), Detail: "it is not signed by the owner"}
}

func discardText(crate store.CrateID, leaf store.NodeID) []byte {
	return append(append([]byte(labelDiscard), crate[:]...), leaf[:]...)
}

// SignRedeem is the owner's word that the holder of a certificate, by its fingerprint,
// redeems an invite for it.
func (i Identity) SignRedeem(secret []byte, fingerprint string) []byte {
	return ed25519.Sign(i.OwnerKey(), redeemText(secret, fingerprint))
}

// VerifyRedeem tells whether the owner has signed the redemption; Denied if not.
func VerifyRedeem(owner store.OwnerID, secret []byte, fingerprint string, signature []byte) error {
	if verify(owner, redeemText(secret, fingerprint), signature) {
		return nil
	}
	return &store.Error{Kind: store.Denied, Op: "redeem an invite", Detail: "it is not signed by the owner"}
}

// redeemText has the fingerprint, whose length is fixed, first.
func redeemText(secret []byte, fingerprint string) []byte {
	return append(append([]byte(labelRedeem), fingerprint...), secret...)
}

func verify(owner store.OwnerID, text, signature []byte) bool {
	return len(signature) == ed25519.SignatureSize && !owner.IsZero() && ed25519.Verify(owner[:], text, signature)
}
