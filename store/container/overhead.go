package container

import "stasis/store/booking"

// What a container sets aside of its capacity, in pages, so that everything that
// booking promises fits in the rest:
//
//   - the superblocks and marks;
//   - logLimit for the log. A checkpoint of n pages full of the smallest crates in as many
//     pieces as possible takes at most n/82; while it is written it is there twice, and
//     what is left is for the commits in between;
//   - one page in 256 for headers that grow beyond what store.Charge has for them because their crate
//     lies in many pieces. A test goes through the sizes and finds no crate that needs more.

// logLimit is the most pages the log takes in a container of so many pages.
func logLimit(pages int64) int64 { return pages/32 + 3*poolPages + reservationLimit(pages)/8 }

// overhead is how many pages of a container are not for crates.
func overhead(pages int64) int64 { return firstPage + logLimit(pages) + pages/256 + 1 }

// usable is how many bytes of store.Charge a container of capacity bytes takes.
func usable(capacity int64) int64 {
	pages := capacity / PageSize
	return (pages - overhead(pages)) * PageSize
}

// reservationLimit is how many reservations a container of so many pages keeps.
func reservationLimit(pages int64) int64 {
	return min(booking.MaxReservations, max(minReservations, pages/64))
}
