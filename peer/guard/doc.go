// Package guard bounds what the callers of a peer's servers can take of it.
//
// Words. A stranger is whoever has not shown, on this connection, that he is an owner: those
// who have yet to say who they are, and those whom nobody knows. A share is the part of
// something bounded that one owner may have.
//
// Invariants:
//
//   - Strangers and owners have places of their own: no number of strangers takes a place from
//     an owner. Where strangers have taken all of theirs, the next takes the place of the one
//     who has been one longest, at the address that has most of them: whoever can show that he
//     is an owner gets the time for it.
//   - An owner who takes all he may leaves the others theirs.
//   - What is refused is logged now and then, with how often.
package guard
