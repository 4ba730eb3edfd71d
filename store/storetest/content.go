package storetest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing/iotest"

	"github.com/zeebo/blake3"

	"stasis/store"
)

const mib = 1 << 20

// edges are the sizes at which blocks and units begin and end.
var edges = []int{1, 511, 4095, 4096, 4097, mib - 1, mib, mib + 1, 2 * mib, 3*mib + 17}

func testRoundTrip(e *env) {
	_, cs := e.crates(edges...)
	sealed := e.Crate(5000)
	sealed.Form = store.Sealed
	e.put(e.reserve(sealed.Charge()), sealed)
	// The same with the digest unknown to the sender.
	blind := e.Crate(mib + 5)
	req := blind.Put(e.reserve(blind.Charge()))
	req.Expect = nil
	receipts, err := e.s.Put(e.ctx, req)
	if err != nil {
		e.Fatalf("put without an expected digest: %v", err)
	}
	e.checkReceipts(receipts, blind)
	for _, c := range append(cs, sealed, blind) {
		e.has(c)
		info, err := e.s.Stat(e.ctx, c.ID)
		want := store.CrateInfo{ID: c.ID, Form: c.Form, Size: int64(len(c.Data)), Root: c.Root()}
		if err != nil || info != want {
			e.Errorf("stat gave %+v, %v; want %+v", info, err, want)
		}
	}
}

func testRanges(e *env) {
	const size = 3*mib + 17
	_, cs := e.crates(size)
	c := cs[0]
	check := func(offset, length int64) {
		e.Helper()
		end := offset + length
		if length < 0 {
			end = size
		}
		p, err := e.read(c.ID, offset, length)
		if err != nil || !bytes.Equal(p, c.Data[offset:end]) {
			e.Errorf("range %d+%d: %d bytes, %v", offset, length, len(p), err)
		}
	}
	points := []int64{0, 1, 4095, 4096, mib - 1, mib, mib + 1, 2 * mib, 3*mib - 1, 3 * mib, size - 1, size}
	for i, from := range points {
		check(from, -1)
		check(from, 0)
		for _, to := range points[i:] {
			check(from, to-from)
		}
	}
	for range 50 {
		from := e.IntN(size)
		check(int64(from), int64(e.IntN(size-from+1)))
	}
	for _, bad := range [][2]int64{{-1, 1}, {-1, -1}, {0, size + 1}, {size, 1}, {size + 1, 0}, {size + 1, -1}, {1, 1<<63 - 1}, {1<<63 - 1, 1}} {
		_, err := e.read(c.ID, bad[0], bad[1])
		e.fails(err, store.Invalid)
	}

	// Many readers at once, each in small portions.
	together(4, func(i int) {
		rc, err := e.s.Open(e.ctx, c.ID, int64(i*1000), -1)
		if err != nil {
			e.Errorf("open: %v", err)
			return
		}
		defer rc.Close()
		p, err := io.ReadAll(iotest.HalfReader(rc))
		if err != nil || !bytes.Equal(p, c.Data[i*1000:]) {
			e.Errorf("reader %d: %d bytes, %v", i, len(p), err)
		}
	})
}

func testVerify(e *env) {
	_, cs := e.crates(2*mib + 9)
	c := cs[0]
	nonce := store.Digest(e.Bytes(store.DigestSize))
	prove := func(p []byte) (d store.Digest) {
		h, err := blake3.NewKeyed(nonce[:])
		if err != nil {
			e.Fatal(err)
		}
		_, _ = h.Write(p)
		h.Sum(d[:0])
		return d
	}
	for _, r := range [][2]int64{{0, -1}, {0, 0}, {5, 10}, {mib - 1, 2}, {mib, mib}, {2 * mib, -1}, {2*mib + 9, 0}} {
		end := r[0] + r[1]
		if r[1] < 0 {
			end = int64(len(c.Data))
		}
		got, err := e.s.Verify(e.ctx, c.ID, r[0], r[1], nonce)
		if want := prove(c.Data[r[0]:end]); err != nil || got != want {
			e.Errorf("verify %v: %s, %v; want %s", r, got, err, want)
		}
	}
	other := nonce
	other[0] ^= 1
	a, _ := e.s.Verify(e.ctx, c.ID, 0, -1, nonce)
	if b, err := e.s.Verify(e.ctx, c.ID, 0, -1, other); err != nil || a == b {
		e.Errorf("another nonce gave the same proof, or an error: %v", err)
	}
	_, err := e.s.Verify(e.ctx, c.ID, 0, int64(len(c.Data))+1, nonce)
	e.fails(err, store.Invalid)
}

func testNotFound(e *env) {
	id := e.ID()
	e.lacks(id)
	_, err := e.s.Verify(e.ctx, id, 0, -1, store.Digest{})
	e.fails(err, store.NotFound)
	if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: id}); err != nil {
		e.Errorf("discard of what is not there: %v", err)
	}
}

func testRepeat(e *env) {
	r, cs := e.crates(mib+1, 10)
	was := e.account()
	for _, c := range cs {
		req := c.Put(r)
		for _, expect := range []*store.Digest{req.Expect, nil} {
			req.Expect = expect
			receipts, err := e.s.Put(e.ctx, req)
			if err != nil {
				e.Fatalf("repeat: %v", err)
			}
			e.checkReceipts(receipts, c)
		}
		// The answer to a repeat doesn't hang on the reservation: it may have ended.
		if receipts, err := e.s.Put(e.ctx, c.Put(store.NewReservationID())); err != nil {
			e.Errorf("repeat under an unknown reservation: %v", err)
		} else {
			e.checkReceipts(receipts, c)
		}
		e.has(c)
	}
	e.unchanged(was)
}

func testConflict(e *env) {
	_, cs := e.crates(5000)
	r := e.reserve(1 << 20)
	was := e.account()
	c := cs[0]
	other, longer, sealed := e.Crate(5000), e.Crate(5001), c
	other.ID, longer.ID, sealed.Form = c.ID, c.ID, store.Sealed
	for _, x := range []Crate{other, longer, sealed} {
		req := x.Put(r)
		_, err := e.s.Put(e.ctx, req)
		e.fails(err, store.Conflict)
		req.Expect = nil
		_, err = e.s.Put(e.ctx, req)
		e.fails(err, store.Conflict)
	}
	e.has(c)
	e.unchanged(was)
}

func testInvalidPut(e *env) {
	r := e.reserve(1 << 20)
	was := e.account()
	good := e.Crate(100)
	for name, change := range map[string]func(*store.PutRequest){
		"size 0":    func(p *store.PutRequest) { p.Size = 0 },
		"negative":  func(p *store.PutRequest) { p.Size = -1 },
		"too large": func(p *store.PutRequest) { p.Size = store.MaxCrate + 1 },
		"no id":     func(p *store.PutRequest) { p.Crate = store.CrateID{} },
		"no source": func(p *store.PutRequest) { p.Source = nil },
		"no form":   func(p *store.PutRequest) { p.Form = 77 },
	} {
		req := good.Put(r)
		change(&req)
		if _, err := e.s.Put(e.ctx, req); !errors.Is(err, store.Invalid) {
			e.Errorf("%s: %v, want invalid", name, err)
		}
	}
	e.unchanged(was)
}

func testBadSource(e *env) {
	const size = 2*mib + 100
	c := e.Crate(size)
	r := e.reserve(c.Charge())
	was := e.account()
	flipped := bytes.Clone(c.Data)
	flipped[mib+3] ^= 4
	type bad struct {
		name   string
		source store.Source
		kind   store.Kind
		blind  bool // wrong even where no digest is expected
	}
	cases := []bad{
		{"flipped", BytesSource(flipped), store.Corrupt, false},
		{"short", BytesSource(c.Data[:size-1]), store.Corrupt, true},
		{"a block short", BytesSource(c.Data[:mib]), store.Corrupt, true},
		{"long", BytesSource(append(bytes.Clone(c.Data), 0)), store.Corrupt, true},
		{"empty", BytesSource(nil), store.Corrupt, true},
		{"unopenable", UnopenableSource(), store.Unavailable, true},
	}
	for _, n := range []int64{0, 1, mib - 1, mib, mib + 1, size - 1, size} {
		cases = append(cases, bad{"breaks off", BreakingSource(c.Data, n), store.Unavailable, true})
	}
	for _, b := range cases {
		req := c.Put(r)
		req.Source = b.source
		_, err := e.s.Put(e.ctx, req)
		if !errors.Is(err, b.kind) {
			e.Errorf("%s: %v, want %v", b.name, err, b.kind)
		}
		if b.blind {
			req.Expect = nil
			if _, err := e.s.Put(e.ctx, req); !errors.Is(err, b.kind) {
				e.Errorf("%s, no digest expected: %v, want %v", b.name, err, b.kind)
			}
		}
		e.lacks(c.ID)
		e.unchanged(was)
	}
	if _, err := e.s.Put(e.ctx, func() store.PutRequest { q := c.Put(r); q.Source = UnopenableSource(); return q }()); !errors.Is(err, ErrSource) {
		e.Logf("the source's own error is not in the chain (allowed over a wire): %v", err)
	}
	e.put(r, c)
	e.has(c)
}

func testCancel(e *env) {
	c := e.Crate(2*mib + 100)
	r := e.reserve(c.Charge())
	was := e.account()
	for _, n := range []int64{0, 1, mib, mib + 7, 2*mib + 100} {
		ctx, cancel := context.WithCancel(e.ctx)
		req := c.Put(r)
		src, stalled := StallingSource(c.Data, n)
		req.Source = src
		done := make(chan error, 1)
		go func() { _, err := e.s.Put(ctx, req); done <- err }()
		e.soon("the put's first read", func() { <-stalled })
		cancel()
		e.soon("a cancelled put", func() { e.fails(<-done, store.Unavailable) })
		e.lacks(c.ID)
		e.unchanged(was)
	}
	e.put(r, c)
	e.has(c)
}

func testCancelledBefore(e *env) {
	r, cs := e.crates(100)
	extra := e.Crate(100)
	big := e.reserve(extra.Charge())
	was := e.account()
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	check := func(what string, err error) {
		e.Helper()
		if err == nil {
			e.Errorf("%s under a cancelled context succeeded", what)
		}
	}
	_, err := e.s.Reserve(ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 4096})
	check("reserve", err)
	check("release", e.s.Release(ctx, r))
	_, err = e.s.Put(ctx, extra.Put(big))
	check("put", err)
	check("discard", e.s.Discard(ctx, store.DiscardRequest{Crate: cs[0].ID}))
	rc, err := e.s.Open(ctx, cs[0].ID, 0, -1)
	if err == nil {
		_, err = io.ReadAll(rc)
		_ = rc.Close()
	}
	check("open", err)
	e.unchanged(was)
	e.has(cs[0])
}

func testDamage(e *env) {
	if e.inst.Damage == nil {
		e.Skip("the test has no way to damage this store")
	}
	_, cs := e.crates(3*mib, 100)
	c := cs[0]
	e.inst.Damage(e, c.ID, mib+12345)
	if st := e.status(); st.Damage != 0 {
		e.Errorf("damage %d before anybody looked", st.Damage)
	}
	for _, r := range [][2]int64{{0, -1}, {mib + 12345, 1}, {mib, 1}, {2*mib - 1, 1}} {
		p, err := e.read(c.ID, r[0], r[1])
		e.fails(err, store.Corrupt)
		if !bytes.Equal(p, c.Data[r[0]:r[0]+int64(len(p))]) {
			e.Errorf("range %v: wrong bytes were served before the error: %s", r, hex.EncodeToString(p[:min(16, len(p))]))
		}
	}
	_, err := e.s.Verify(e.ctx, c.ID, 0, -1, store.Digest{1})
	e.fails(err, store.Corrupt)
	if e.status().Damage == 0 {
		e.Errorf("the status does not tell of the damage")
	}
	for _, r := range [][2]int64{{0, mib}, {2 * mib, -1}} {
		if p, err := e.read(c.ID, r[0], r[1]); err != nil || int64(len(p)) != mib {
			e.Errorf("an undamaged block beside it: %d bytes, %v", len(p), err)
		}
	}
	e.has(cs[1])
	// The way to heal it: discard, then put anew.
	if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
		e.Fatal(err)
	}
	e.put(e.reserve(c.Charge()), c)
	e.has(c)
}

// testLost: what is told of a crate, and counted by it, is what lies there and not what the
// store notes.
func testLost(e *env) {
	if e.inst.Lose == nil {
		e.Skip("the test has no way to take a crate out of this store")
	}
	n := 40
	if _, ok := e.s.(store.Batcher); ok {
		n = 2*store.MaxPage + 40
	}
	r := e.reserve(int64(n) * store.Charge(100))
	cs, reqs := make([]Crate, n), make([]store.PutRequest, n)
	for i := range cs {
		cs[i] = e.Crate(100)
		reqs[i] = cs[i].Put(r)
	}
	e.putAll(reqs)
	was := e.account()
	slices.SortFunc(cs, func(a, b Crate) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	lost := append(slices.Clone(cs[5:n/2+5]), cs[n-1]) // a whole page, among others
	for _, c := range lost {
		e.inst.Lose(e, c.ID)
	}
	check := func() {
		e.Helper()
		there := e.list()
		if len(there) != n-len(lost) {
			e.Errorf("%d crates are listed, %d of %d are there", len(there), n-len(lost), n)
		}
		for _, c := range []Crate{lost[0], lost[len(lost)/2], lost[len(lost)-1]} {
			_, err := e.s.Stat(e.ctx, c.ID)
			e.fails(err, store.Corrupt)
			_, err = e.read(c.ID, 0, -1)
			e.fails(err, store.Corrupt)
			_, err = e.s.Put(e.ctx, c.Put(r))
			e.fails(err, store.Corrupt)
			if slices.ContainsFunc(there, func(i store.CrateInfo) bool { return i.ID == c.ID }) {
				e.Error("a crate is listed of which nothing is there")
			}
		}
		if _, err := e.s.Stat(e.ctx, cs[0].ID); err != nil {
			e.Errorf("a crate beside those that are lost: %v", err)
		}
		if e.status().Damage == 0 {
			e.Error("the status does not tell of the damage")
		}
	}
	check()
	if e.inst.Reopen != nil {
		e.reopen()
		check()
	}
	e.unchanged(was) // it is the owner who gives a crate up
	for _, c := range lost {
		if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			e.Fatal(err)
		}
	}
	back := lost[0]
	e.put(e.reserve(back.Charge()), back)
	e.has(back)
	if there := e.list(); len(there) != n-len(lost)+1 {
		e.Errorf("%d crates are listed, %d are there", len(there), n-len(lost)+1)
	}
}
