package booking

import "time"

const (
	// MaxLease bounds what a holder may ask for; a longer lease is cut to it.
	MaxLease = 30 * 24 * time.Hour
	// MaxReservations is how many reservations one store keeps at once.
	MaxReservations = 65536
	// transitFloor: of a small disk no more than 1/transitFloor is left free by a Transit.
	transitFloor = 16
	// spaceTries is how often the device is asked anew when its answer was overtaken by
	// writes that finished meanwhile.
	spaceTries = 4
	// undoTimeout bounds how long taking back a promise that could not be persisted may
	// take after the caller has gone.
	undoTimeout = 5 * time.Second
)
