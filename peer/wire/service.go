package wire

import (
	"context"

	"stasis/store"
)

// Service is what a server serves: a store for each owner it knows.
type Service interface {
	// Session gives the view of the owner who showed a certificate with this fingerprint;
	// Denied for strangers and revoked owners, with nothing said of which it was. mount is the
	// token of the owner's mount that calls, zero if it has not said: a view of one that
	// another has taken over from changes nothing.
	Session(fingerprint string, mount store.Token) (Session, error)
	// Redeem binds an invite to the owner with this certificate. Denied for a secret that
	// is unknown, used by another, or expired. A repeat by the same owner succeeds.
	Redeem(ctx context.Context, r Redeem, fingerprint string) (Redeemed, error)
}

// Session is one owner's view of a peer. Its Put resumes: it opens the source where the
// bytes that it has from an earlier, broken attempt end.
type Session interface {
	store.Store
	store.Batcher
	store.Fencer
	store.Unverified
	// Events gives the events after a cursor as they come, until ctx ends or give fails. A
	// cursor of another incarnation, or one too old, starts with an event that says Gap.
	Events(ctx context.Context, after Cursor, give func(Event) error) error
}
