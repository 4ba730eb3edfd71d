// Package booking keeps the accounts of one store: what is used, what is
// promised, what is free.
//
// Words. A reservation is a promise of space with a lease, in bytes of
// store.Charge. A draw takes a crate's charge from it, tentatively: it becomes a
// fact with Commit, or goes back whence it came with Undo. What a reservation has
// drawn stays drawn: a crate that is discarded gives its space to the store, not
// back to the reservation it once came from.
//
// Invariants:
//
//   - used + reserved never passes the capacity, and what is reserved by all books of
//     this process on one device never passes what the device has free at that
//     moment, however many calls run at once.
//   - A call that fails leaves used, reserved and free as they were.
//   - A promise is durable before it is given, and its end is durable before its
//     space is promised to another.
//   - A jump of the wall clock neither ends nor prolongs a lease while the machine
//     runs; across a restart no lease outlives its own length, counted from the load.
//
// Files on their way. A file that lies on a disk before a store has it (an upload, a body) is
// in the account of its directory, a Transit: its space is promised to its holder as any
// other, beside what the stores on that disk have promised, and given back when it is gone.
// Where a store on the same disk is going to take over the very file, its promise is the only
// one, and what is written meanwhile is taken off it: by Resident, or by Transit.Cover.
//
// How a store uses it. At its opening it reads its counters and the records of
// its reservations and gives them to New. For each crate it calls Draw, writes the
// data, and commits the crate in one transaction of its own that also adds the
// draw's Charge to the reservation's persisted Drawn and to its persisted counters
// (only if the reservation's terms are still there); then it calls Draw.Commit, or
// Draw.Undo after it has removed what it had written. After a discard it calls
// Freed. The Book itself writes nothing but terms, through Journal.
//
// Locks. The books on one device share one mutex. It is held for arithmetic only,
// never over a Journal call or a statfs.
package booking
