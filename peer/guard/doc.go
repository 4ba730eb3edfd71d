// Package guard bounds what the callers of a peer can take of it.
//
// Words. A stranger is whoever has not shown, on this connection, that he is an owner: those
// who have yet to say who they are, and those whom nobody knows. A lane is what one owner has
// of something bounded: places, bytes of memory, turns at the store or at the processors. His
// share of it is what is kept for him; the pool is what all shares leave.
//
// Invariants:
//
//   - Every call is admitted in the lane of whoever makes it, before anything is allocated for
//     it. As long as an owner holds no more than his share he gets it at once, whatever the
//     others do. There are Owners of them, so that the shares add up. The pool goes to whoever
//     asks, the one who has least first; so one alone can have all but the others' shares.
//   - What is short has turns instead of places, with no share or one: whoever has none is next.
//     What is long is done in units, between which the turn is given to others.
//   - Nobody waits for more of something while he holds some of it. Whoever takes several things
//     takes them in this order: a connection, a call, a place for bulk bytes, the server's memory;
//     then what the session takes, of which package host has the order. A turn at the processors
//     is held for nothing else.
//   - Where the pool of connections is used up, one on which nothing is under way makes room, of
//     whoever has most. One on which its owner listens to what the peer tells is not such a one,
//     unless he listens on others too.
//   - Strangers and owners have places of their own: no number of strangers takes a place from
//     an owner. Where strangers have taken all of theirs, the next takes the place of the one
//     who has been one longest, at the address that has most of them: whoever can show that he
//     is an owner gets the time for it. Their handshakes have turns, by address, at half of the
//     processors.
//   - Whoever is no owner any more has his connections closed within KnownEvery.
//   - What is refused is logged now and then, with how often.
package guard
