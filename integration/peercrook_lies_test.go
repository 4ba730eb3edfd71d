package integration

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"stasis/peer/wire"
	"stasis/store"
)

// nasty is what a crook would have a terminal do.
const nasty = "\x1b[2J\x1b]0;owned\a\u009b31m\u202Egpj\u200B\nmore"

// longest is how long a text of a lie may be, and slowest how long one has an answer wait.
const (
	longest = wire.MaxText
	slowest = 300 * time.Millisecond
)

// hugeFigures are sizes and counts that no store has.
var hugeFigures = []int64{-1, 0, 1, math.MinInt64, math.MaxInt64, math.MaxInt64 - 4095, 1 << 62}

func figure(r *rand.Rand) int64 { return hugeFigures[r.IntN(len(hugeFigures))] }

// times are those that nobody should believe.
func strangeTime(r *rand.Rand) time.Time {
	return []time.Time{{}, time.Unix(0, 0), time.Unix(-1<<40, 0), time.Now().Add(1000 * time.Hour), time.Now().Add(-1000 * time.Hour),
		time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)}[r.IntN(7)]
}

func digestOf(r *rand.Rand) (d store.Digest) {
	for i := range d {
		d[i] = byte(r.Uint32())
	}
	return d
}

// forged are checksums that fit together, of bytes that nobody wrote.
func forged(r *rand.Rand, size int64) store.Checksums {
	s := store.Checksums{Size: size}
	for range store.Blocks(size) {
		s.Blocks = append(s.Blocks, digestOf(r))
	}
	return s
}

// onReceipts makes a lie of a change of each receipt.
func onReceipts(name string, change func(r *rand.Rand, a *said, rc *store.Receipt)) untruth {
	return untruth{name: "receipt: " + name, call: callPut, mutate: func(r *rand.Rand, a *said) {
		for i := range a.receipts {
			change(r, a, &a.receipts[i])
		}
	}}
}

// instead makes a lie of other receipts in place of the one.
func instead(name string, make func(r *rand.Rand, a *said, rc store.Receipt) []store.Receipt) untruth {
	return untruth{name: "receipts: " + name, call: callPut, mutate: func(r *rand.Rand, a *said) {
		if len(a.receipts) > 0 {
			a.receipts = make(r, a, a.receipts[0])
		}
	}}
}

var receiptLies = []untruth{
	onReceipts("sums of other bytes", func(r *rand.Rand, a *said, rc *store.Receipt) { rc.Sums = forged(r, a.size) }),
	onReceipts("one digest is wrong", func(r *rand.Rand, _ *said, rc *store.Receipt) {
		if n := len(rc.Sums.Blocks); n > 0 {
			rc.Sums.Blocks = append([]store.Digest(nil), rc.Sums.Blocks...)
			rc.Sums.Blocks[r.IntN(n)] = digestOf(r)
		}
	}),
	onReceipts("sums of a longer crate", func(r *rand.Rand, a *said, rc *store.Receipt) { rc.Sums = forged(r, a.size+1+r.Int64N(3<<20)) }),
	onReceipts("the size is wrong", func(r *rand.Rand, _ *said, rc *store.Receipt) { rc.Sums.Size = figure(r) }),
	onReceipts("no digests", func(_ *rand.Rand, _ *said, rc *store.Receipt) { rc.Sums.Blocks = nil }),
	onReceipts("a leaf that is made up", func(r *rand.Rand, _ *said, rc *store.Receipt) { rc.Leaf = made(r) }),
	onReceipts("no leaf", func(_ *rand.Rand, _ *said, rc *store.Receipt) { rc.Leaf = store.NodeID{} }),
	onReceipts("the leaf of another node", func(_ *rand.Rand, a *said, rc *store.Receipt) {
		if h := a.c.honest.Load(); h != nil {
			rc.Leaf = *h
		}
	}),
	onReceipts("a time", func(r *rand.Rand, _ *said, rc *store.Receipt) { rc.Time = strangeTime(r) }),
	onReceipts("an address", func(r *rand.Rand, _ *said, rc *store.Receipt) {
		rc.Address, rc.Fingerprint = []string{nasty, strings.Repeat("a", longest), "127.0.0.1:1"}[r.IntN(3)], nasty
	}),
	onReceipts("texts that are too long", func(_ *rand.Rand, _ *said, rc *store.Receipt) { rc.Address = strings.Repeat("a", 16*longest) }),
	instead("none", func(*rand.Rand, *said, store.Receipt) []store.Receipt { return []store.Receipt{} }),
	instead("twice the same", func(_ *rand.Rand, _ *said, rc store.Receipt) []store.Receipt { return []store.Receipt{rc, rc} }),
	instead("one more leaf", func(r *rand.Rand, _ *said, rc store.Receipt) []store.Receipt {
		more := rc
		more.Leaf = made(r)
		return []store.Receipt{rc, more}
	}),
	instead("many leaves", func(r *rand.Rand, _ *said, rc store.Receipt) []store.Receipt {
		var all []store.Receipt
		for range wire.MaxReceipts + r.IntN(2) {
			rc.Leaf = made(r)
			all = append(all, rc)
		}
		return all
	}),
	instead("two that differ", func(r *rand.Rand, a *said, rc store.Receipt) []store.Receipt {
		more := rc
		more.Leaf, more.Sums = made(r), forged(r, a.size)
		return []store.Receipt{rc, more}
	}),
	{name: "put: nothing is kept", call: callPut, idle: true},
	{name: "put: asked from the end", call: callPut, from: func(_ *rand.Rand, size int64) int64 { return size }},
	{name: "put: asked from anywhere", call: callPut, from: func(r *rand.Rand, size int64) int64 { return r.Int64N(size + 1) }},
	{name: "put: asked from outside", call: callPut, from: func(r *rand.Rand, size int64) int64 {
		return []int64{-1, size + 1, math.MaxInt64, math.MinInt64}[r.IntN(4)]
	}},
	{name: "batch: in another order", call: callBatch, mutate: func(r *rand.Rand, a *said) {
		r.Shuffle(len(a.results), func(i, j int) { a.results[i], a.results[j] = a.results[j], a.results[i] })
	}},
	{name: "batch: one fewer", call: callBatch, mutate: func(_ *rand.Rand, a *said) { a.results = a.results[:len(a.results)-1] }},
	{name: "batch: one more", call: callBatch, mutate: func(_ *rand.Rand, a *said) { a.results = append(a.results, a.results[0]) }},
}

// onShares makes a lie of a change of each share.
func onShares(name string, change func(r *rand.Rand, a *said, s *store.Share)) untruth {
	return untruth{name: "share: " + name, call: callReserve, mutate: func(r *rand.Rand, a *said) {
		for i := range a.shares {
			change(r, a, &a.shares[i])
		}
	}}
}

var shareLies = []untruth{
	onShares("a leaf that is made up", func(r *rand.Rand, _ *said, s *store.Share) { s.Leaf = made(r) }),
	onShares("the leaf of another node", func(_ *rand.Rand, a *said, s *store.Share) {
		if h := a.c.honest.Load(); h != nil {
			s.Leaf = *h
		}
	}),
	onShares("no leaf", func(_ *rand.Rand, _ *said, s *store.Share) { s.Leaf = store.NodeID{} }),
	onShares("the bytes", func(r *rand.Rand, _ *said, s *store.Share) { s.Bytes = figure(r) }),
	onShares("fewer bytes", func(r *rand.Rand, _ *said, s *store.Share) { s.Bytes = r.Int64N(s.Bytes + 1) }),
	onShares("what was drawn", func(r *rand.Rand, _ *said, s *store.Share) { s.Drawn = figure(r) }),
	onShares("its end", func(r *rand.Rand, _ *said, s *store.Share) { s.Expires = strangeTime(r) }),
	onShares("its zone", func(r *rand.Rand, _ *said, s *store.Share) {
		s.Zone = []string{nasty, strings.Repeat("z", longest), strings.Repeat("\x1b", longest), strings.Repeat("z", 2*longest)}[r.IntN(4)]
	}),
	{name: "shares: none", call: callReserve, idle: true, mutate: func(_ *rand.Rand, a *said) { a.shares, a.err = nil, nil }},
	{name: "shares: many", call: callReserve, mutate: func(r *rand.Rand, a *said) {
		for i := 0; len(a.shares) > 0 && i < wire.MaxShares-1+r.IntN(2); i++ {
			s := a.shares[0]
			s.Leaf = made(r)
			a.shares = append(a.shares, s)
		}
	}},
	{name: "shares: twice the same", call: callReserve, mutate: func(_ *rand.Rand, a *said) { a.shares = append(a.shares, a.shares...) }},
	{name: "shares: nothing is reserved", call: callReserve, idle: true, mutate: func(r *rand.Rand, a *said) {
		a.shares = []store.Share{{Leaf: made(r), Bytes: a.ask.Bytes, Expires: time.Now().Add(time.Hour)}}
	}},
	{name: "renew: its end", call: callRenew, mutate: func(r *rand.Rand, a *said) { a.at, a.err = strangeTime(r), nil }},
	{name: "release: is not done", call: callRelease, idle: true},
}

// onStatus makes a lie of a change of a status.
func onStatus(name string, change func(r *rand.Rand, a *said)) untruth {
	return untruth{name: "status: " + name, call: callStatus, mutate: change}
}

var statusLies = []untruth{
	onStatus("a leaf that changes", func(r *rand.Rand, a *said) { a.status.Leaf = made(r) }),
	onStatus("the leaf of another node", func(_ *rand.Rand, a *said) {
		if h := a.c.honest.Load(); h != nil {
			a.status.Leaf = *h
		}
	}),
	onStatus("no leaf", func(_ *rand.Rand, a *said) { a.status.Leaf = store.NodeID{} }),
	onStatus("not durable", func(_ *rand.Rand, a *said) { a.status.Durable = false }),
	onStatus("the capacity", func(r *rand.Rand, a *said) { a.status.Capacity = figure(r) }),
	onStatus("what is used", func(r *rand.Rand, a *said) { a.status.Used = figure(r) }),
	onStatus("what is reserved", func(r *rand.Rand, a *said) { a.status.Reserved = figure(r) }),
	onStatus("what is free", func(r *rand.Rand, a *said) { a.status.Free = figure(r) }),
	onStatus("how many crates", func(r *rand.Rand, a *said) { a.status.Crates = figure(r) }),
	onStatus("how many leaves", func(r *rand.Rand, a *said) { a.status.Leaves = int(figure(r)) }),
	onStatus("the damage", func(r *rand.Rand, a *said) { a.status.Damage = figure(r) }),
}

// onPage makes a lie of a change of a page.
func onPage(name string, change func(r *rand.Rand, a *said)) untruth {
	return untruth{name: "list: " + name, call: callList, mutate: change}
}

func foreign(r *rand.Rand) store.CrateInfo {
	return store.CrateInfo{ID: made(r), Size: 1 + r.Int64N(1<<20), Root: digestOf(r)}
}

var listLies = []untruth{
	onPage("not in order", func(r *rand.Rand, a *said) {
		a.page.Crates = append(a.page.Crates, foreign(r), foreign(r))
		r.Shuffle(len(a.page.Crates), func(i, j int) { a.page.Crates[i], a.page.Crates[j] = a.page.Crates[j], a.page.Crates[i] })
	}),
	onPage("twice the same", func(_ *rand.Rand, a *said) { a.page.Crates = append(a.page.Crates, a.page.Crates...) }),
	onPage("the same again", func(_ *rand.Rand, a *said) {
		if a.page.Next = a.cursor; len(a.cursor) == 0 {
			a.page.Next = []byte{1}
		}
	}),
	onPage("no end", func(r *rand.Rand, a *said) {
		a.page.Crates, a.page.Next = []store.CrateInfo{foreign(r)}, []byte{byte(r.Uint32()), 1}
	}),
	onPage("empty, and goes on", func(r *rand.Rand, a *said) { a.page.Crates, a.page.Next = nil, []byte{byte(r.Uint32()), 1} }),
	onPage("empty", func(_ *rand.Rand, a *said) { a.page = store.Page{} }),
	onPage("one is missing", func(r *rand.Rand, a *said) {
		if n := len(a.page.Crates); n > 0 {
			i := r.IntN(n)
			a.page.Crates = append(a.page.Crates[:i:i], a.page.Crates[i+1:]...)
		}
	}),
	onPage("what nobody put", func(r *rand.Rand, a *said) {
		for len(a.page.Crates) < store.MaxPage {
			a.page.Crates = append(a.page.Crates, foreign(r))
		}
	}),
	onPage("too many", func(r *rand.Rand, a *said) {
		for len(a.page.Crates) <= store.MaxPage {
			a.page.Crates = append(a.page.Crates, foreign(r))
		}
	}),
	onPage("other roots", func(r *rand.Rand, a *said) {
		for i := range a.page.Crates {
			a.page.Crates[i].Root = digestOf(r)
		}
	}),
	onPage("other sizes", func(r *rand.Rand, a *said) {
		for i := range a.page.Crates {
			a.page.Crates[i].Size += 1 + r.Int64N(1000)
		}
	}),
	onPage("sizes that can't be", func(r *rand.Rand, a *said) {
		for i := range a.page.Crates {
			a.page.Crates[i].Size = figure(r)
		}
	}),
	onPage("another form", func(_ *rand.Rand, a *said) {
		for i := range a.page.Crates {
			a.page.Crates[i].Form = store.Sealed
		}
	}),
	onPage("a long cursor", func(_ *rand.Rand, a *said) { a.page.Next = bytes.Repeat([]byte{1}, wire.MaxCursor+1) }),
}

var crateLies = []untruth{
	{name: "stat: another size", call: callStat, mutate: func(r *rand.Rand, a *said) { a.info.Size, a.err = a.info.Size+1+r.Int64N(1000), nil }},
	{name: "stat: a size that can't be", call: callStat, mutate: func(r *rand.Rand, a *said) { a.info.Size, a.err = figure(r), nil }},
	{name: "stat: another root", call: callStat, mutate: func(r *rand.Rand, a *said) { a.info.Root, a.err = digestOf(r), nil }},
	{name: "stat: another crate", call: callStat, mutate: func(r *rand.Rand, a *said) { a.info, a.err = foreign(r), nil }},
	{name: "verify: made up", call: callVerify, mutate: func(r *rand.Rand, a *said) { a.digest, a.err = digestOf(r), nil }},
	{name: "verify: zero", call: callVerify, mutate: func(_ *rand.Rand, a *said) { a.digest, a.err = store.Digest{}, nil }},
	{name: "discard: is not done", call: callDiscard, idle: true},
}

// spoilt is a range with a change of its bytes.
type spoilt struct {
	src    io.Reader
	change func(p []byte) ([]byte, error)
}

func (s *spoilt) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	if n > 0 {
		q, failed := s.change(p[:n])
		if failed != nil {
			err = failed
		}
		n = len(q)
	}
	return n, err
}

// onBody makes a lie of a change of the bytes that a read gives.
func onBody(name string, change func(r *rand.Rand, src io.Reader) io.Reader) untruth {
	return untruth{name: "open: " + name, call: callOpen, mutate: func(r *rand.Rand, a *said) {
		if a.body != nil {
			a.body = change(r, a.body)
		}
	}}
}

var openLies = []untruth{
	onBody("wrong bytes", func(r *rand.Rand, src io.Reader) io.Reader {
		return &spoilt{src, func(p []byte) ([]byte, error) { p[r.IntN(len(p))] ^= 1 << r.IntN(8); return p, nil }}
	}),
	onBody("zeros", func(_ *rand.Rand, src io.Reader) io.Reader {
		return &spoilt{src, func(p []byte) ([]byte, error) { clear(p); return p, nil }}
	}),
	onBody("short", func(r *rand.Rand, src io.Reader) io.Reader { return io.LimitReader(src, r.Int64N(1<<16)) }),
	onBody("long", func(_ *rand.Rand, src io.Reader) io.Reader {
		return io.MultiReader(src, strings.NewReader(strings.Repeat("x", 1<<16)))
	}),
	onBody("nothing", func(*rand.Rand, io.Reader) io.Reader { return strings.NewReader("") }),
	onBody("slow", func(_ *rand.Rand, src io.Reader) io.Reader {
		return &spoilt{src, func(p []byte) ([]byte, error) { time.Sleep(slowest); return p, nil }}
	}),
	onBody("an error amid it", func(r *rand.Rand, src io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(src, 1+r.Int64N(1<<15)), &spoilt{strings.NewReader("x"), func([]byte) ([]byte, error) { return nil, saying(r) }})
	}),
}

// onEvent makes a lie of an event that never happened.
func onEvent(name string, change func(r *rand.Rand, c *crook, e *wire.Event)) untruth {
	return untruth{name: "event: " + name, call: callEvent, mutate: func(r *rand.Rand, a *said) { change(r, a.c, &a.event) }}
}

var eventLies = []untruth{
	onEvent("damaged", func(r *rand.Rand, c *crook, e *wire.Event) {
		id := c.someCrate(r)
		e.Kind, e.Crate = wire.EventDamaged, &id
	}),
	onEvent("damaged, of another", func(r *rand.Rand, _ *crook, e *wire.Event) {
		id := store.CrateID(made(r))
		e.Kind, e.Crate = wire.EventDamaged, &id
	}),
	onEvent("damaged, of none", func(_ *rand.Rand, _ *crook, e *wire.Event) { e.Kind = wire.EventDamaged }),
	onEvent("gap", func(_ *rand.Rand, _ *crook, e *wire.Event) { e.Kind = wire.EventGap }),
	onEvent("space", func(_ *rand.Rand, _ *crook, e *wire.Event) { e.Kind = wire.EventSpace }),
	onEvent("copies", func(r *rand.Rand, c *crook, e *wire.Event) {
		id := c.someCrate(r)
		e.Kind, e.Crate = wire.EventCopies, &id
	}),
	onEvent("an unknown kind", func(_ *rand.Rand, _ *crook, e *wire.Event) { e.Kind = nasty }),
	onEvent("another incarnation", func(r *rand.Rand, _ *crook, e *wire.Event) { e.Incarnation = strings.Repeat("i", 1+r.IntN(40)) }),
	onEvent("an incarnation for the terminal", func(_ *rand.Rand, _ *crook, e *wire.Event) { e.Incarnation = nasty }),
	onEvent("another place", func(r *rand.Rand, _ *crook, e *wire.Event) {
		e.Sequence = []uint64{0, 1, e.Sequence + 1000, math.MaxUint64}[r.IntN(4)]
	}),
}

// saying is an error of any kind, with a text for the terminal.
func saying(r *rand.Rand) error {
	kinds := []store.Kind{store.NotFound, store.Unavailable, store.NoSpace, store.Quota, store.Corrupt, store.Denied, store.Conflict, store.Invalid}
	return refusing(kinds[r.IntN(len(kinds))])
}

func refusing(k store.Kind) error {
	return &store.Error{Kind: k, Op: nasty, Subject: nasty, Detail: strings.Repeat(nasty, 50), Hint: nasty}
}

// errorLies are errors of every kind for every call, whether it was done or not.
func errorLies() []untruth {
	var all []untruth
	for _, call := range []string{callReserve, callRenew, callRelease, callPut, callOpen, callVerify, callStat, callDiscard, callList, callStatus, callFence} {
		for _, k := range []store.Kind{store.NotFound, store.Unavailable, store.NoSpace, store.Quota, store.Corrupt, store.Denied, store.Conflict, store.Invalid} {
			for _, idle := range []bool{false, true} {
				name := call + ": " + k.Error()
				switch {
				case idle && (call == callReserve || call == callRelease || call == callPut || call == callDiscard):
					name += ", and is not done"
				case idle:
					continue
				}
				all = append(all, untruth{name: name, call: call, idle: idle, mutate: func(_ *rand.Rand, a *said) { a.err = refusing(k) }})
			}
		}
	}
	return all
}

// redeemLies are told when an invite is redeemed.
var redeemLies = []untruth{
	{name: "redeem: no leaf", call: callRedeem, mutate: func(_ *rand.Rand, a *said) { a.redeemed.Leaf = store.NodeID{} }},
	{name: "redeem: a leaf that is made up", call: callRedeem, mutate: func(r *rand.Rand, a *said) { a.redeemed.Leaf = made(r) }},
	{name: "redeem: the leaf of another node", call: callRedeem, mutate: func(_ *rand.Rand, a *said) {
		if h := a.c.honest.Load(); h != nil {
			a.redeemed.Leaf = *h
		}
	}},
	{name: "redeem: a quota", call: callRedeem, mutate: func(_ *rand.Rand, a *said) { a.redeemed.Quota = math.MinInt64 }},
	{name: "redeem: denied", call: callRedeem, mutate: func(_ *rand.Rand, a *said) { a.err = refusing(store.Denied) }},
	{name: "redeem: unavailable", call: callRedeem, mutate: func(_ *rand.Rand, a *said) { a.err = refusing(store.Unavailable) }},
	{name: "redeem: conflict", call: callRedeem, mutate: func(_ *rand.Rand, a *said) { a.err = refusing(store.Conflict) }},
}

// allLies are all that a crook can say wrong in answers that the wire's types have words for.
func allLies() (all []untruth) {
	for _, some := range [][]untruth{receiptLies, shareLies, statusLies, listLies, crateLies, openLies, eventLies, errorLies()} {
		all = append(all, some...)
	}
	return all
}

// named picks lies by the beginnings of their names.
func named(names ...string) (some []untruth) {
	for _, l := range allLies() {
		for _, n := range names {
			if strings.HasPrefix(l.name, n) {
				some = append(some, l)
			}
		}
	}
	if len(some) == 0 {
		panic("no such lie: " + strings.Join(names, ", "))
	}
	return some
}
