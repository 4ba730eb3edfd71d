package store

import "context"

// Cursor is a place in a stream of events. The zero Cursor is before all of them.
type Cursor struct {
	// Incarnation changes when the events before can't be told any more.
	Incarnation string `json:"incarnation,omitempty"`
	Sequence    uint64 `json:"sequence,omitempty"`
}

// The kinds of events.
const (
	EventAlive   = "alive"   // nothing happened
	EventGap     = "gap"     // events were missed: compare by List
	EventDamaged = "damaged" // a crate is damaged or gone
	EventSpace   = "space"   // there is room again
	EventCopies  = "copies"  // a crate is on other leaves than its receipts said: ask for them again
)

// Event is what a store says unasked.
type Event struct {
	Cursor
	Kind  string   `json:"kind"`
	Crate *CrateID `json:"crate,omitempty"`
}

// Teller is a store that tells of what happens to it unasked.
type Teller interface {
	// Events gives the events after a cursor as they come, one at a time, until ctx ends or
	// give fails. A cursor of another incarnation, or one too old, starts with an EventGap.
	Events(ctx context.Context, after Cursor, give func(Event) error) error
}
