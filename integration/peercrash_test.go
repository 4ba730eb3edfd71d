package integration

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/store"
)

const (
	// crashRounds is how often a peer goes down in each way, crashSoak with full counts.
	crashRounds, crashSoak = 3, 50
	// crashAfter is the longest that its owners work before it goes.
	crashAfter = 900 * time.Millisecond
	// crashGrant is what an owner reserves at a time, in bytes.
	crashGrant = 24 << 20
	// crashKept is how many crates an owner keeps before it discards.
	crashKept = 24
	// crashPause is between attempts to reach a peer that is back.
	crashPause = 50 * time.Millisecond
	// crashBatch is how many crates a batch has.
	crashBatch = 12
)

// A peer is killed, or loses its power, amid puts, batches, discards and reservations:
// what has a receipt is whole afterwards, what was discarded is gone, nothing else is
// there, and the reservations are those that were given.
func TestPeerCrash(t *testing.T) { peerCrashes(t, "") }

// So it is with a peer that keeps everything on two nodes.
func TestPeerWithSeveralNodesCrash(t *testing.T) {
	peerCrashes(t, `copies = 2
[[node]]
name = "one"
kind = "directory"
path = "nodes/one"
[[node]]
name = "two"
kind = "directory"
path = "nodes/two"
`)
}

func peerCrashes(t *testing.T, settings string) {
	disk := harness.NewDisk(t, "xfs", 4<<30)
	p := harness.NewPeerAt(t, filepath.Join(disk.Point, "peer"))
	if settings != "" {
		p.Settings("%s", settings)
	}
	p.Start()
	r := harness.Rand(t)
	var cut atomic.Bool
	var all []*crashOwner
	for i, protocol := range []string{"grpc", "http", "grpc"} {
		all = append(all, &crashOwner{owner: newOwner(t, p, protocol), name: fmt.Sprintf("%s %d", protocol, i),
			cut: &cut, rand: rand.New(rand.NewPCG(r.Uint64(), 0)), crates: map[store.CrateID]*crashCrate{}, grants: map[store.ReservationID]certainty{}})
	}
	for round := range harness.Count(2*crashRounds, 2*crashSoak) {
		var working sync.WaitGroup
		for _, o := range all {
			working.Go(o.work)
		}
		after := time.Duration(r.Int64N(int64(crashAfter)))
		time.Sleep(after)
		how := "killed"
		if round%2 == 1 {
			how = "without power"
			cut.Store(true)
			disk.Cut()
			time.Sleep(time.Duration(r.Int64N(int64(cutLinger))))
		}
		p.Kill()
		working.Wait()
		if how != "killed" {
			disk.Unmount()
			disk.Mount()
		}
		cut.Store(false)
		p.Start()
		for _, o := range all {
			if err := o.compare(); err != nil {
				t.Errorf("round %d, %s after %s, owner %s: %v (it worked until: %v)", round+1, how, after, o.name, err, o.stopped)
			}
		}
		if t.Failed() {
			return
		}
		t.Logf("round %d: %s after %s; %d receipts, %d discards in all", round+1, how, after.Round(time.Millisecond), sum(all, func(o *crashOwner) int { return o.receipts }), sum(all, func(o *crashOwner) int { return o.discards }))
	}
	p.Stop()
}

func sum(all []*crashOwner, of func(*crashOwner) int) (n int) {
	for _, o := range all {
		n += of(o)
	}
	return n
}

// certainty is what an owner knows of something it asked for.
type certainty int

const (
	unsure certainty = iota // it was asked for, or its end was, without an answer
	there
	gone
)

type crashCrate struct {
	number uint64
	size   int
	state  certainty
}

// crashOwner works at a peer until it goes, and knows what it was told.
type crashOwner struct {
	*owner
	name     string
	cut      *atomic.Bool // the power is going: what is answered now never would be
	rand     *rand.Rand
	crates   map[store.CrateID]*crashCrate
	grants   map[store.ReservationID]certainty
	grant    store.ReservationID
	left     int64 // of the grant, in bytes
	stopped  error
	receipts int
	discards int
}

// answered is what an answer means. A disk whose power goes by command may say that it
// has synced what it never will.
func (o *crashOwner) answered(err error) error {
	if err == nil && o.cut.Load() {
		err = errors.New("the answer came after the power had gone")
	}
	return err
}

func (o *crashOwner) work() {
	o.stopped = nil
	for o.stopped == nil {
		switch n := o.rand.IntN(6); {
		case o.left < 6<<20:
			o.stopped = o.renew()
		case o.kept() > crashKept || n == 0:
			o.stopped = o.giveUp()
		case n < 3:
			o.stopped = o.putBatch()
		default:
			id, c := o.fresh(1 + o.rand.IntN(4<<20))
			if o.stopped = o.answered(o.put(o.grant, id, c.number, c.size)); o.stopped == nil {
				c.state = there
				o.receipts++
			}
		}
	}
}

// kept is how many crates it has not given up.
func (o *crashOwner) kept() (n int) {
	for _, c := range o.crates {
		if c.state != gone {
			n++
		}
	}
	return n
}

// fresh notes a crate that is about to be put.
func (o *crashOwner) fresh(size int) (store.CrateID, *crashCrate) {
	id := store.NewCrateID()
	c := &crashCrate{number: o.rand.Uint64(), size: size}
	o.crates[id] = c
	o.left -= store.Charge(int64(size))
	return id, c
}

// renew gives a grant back and takes another.
func (o *crashOwner) renew() error {
	if o.grant != (store.ReservationID{}) {
		o.grants[o.grant] = unsure
		ctx, cancel := bounded()
		defer cancel()
		if err := o.answered(o.Release(ctx, o.grant)); err != nil {
			return err
		}
		o.grants[o.grant] = gone
	}
	o.grant = store.NewReservationID()
	o.grants[o.grant] = unsure
	o.left = 0
	if err := o.answered(o.reserve(o.grant, crashGrant, time.Hour)); err != nil {
		return err
	}
	o.grants[o.grant], o.left = there, crashGrant
	return nil
}

func (o *crashOwner) putBatch() error {
	var rs []store.PutRequest
	var cs []*crashCrate
	for range crashBatch {
		id, c := o.fresh(1 + o.rand.IntN(20_000))
		rs, cs = append(rs, putRequest(o.grant, id, c.number, c.size)), append(cs, c)
	}
	ctx, cancel := bounded()
	defer cancel()
	var failed error
	for i, r := range o.PutBatch(ctx, rs) {
		if err := o.answered(r.Err); err != nil {
			failed = err
			continue
		}
		cs[i].state = there
		o.receipts++
	}
	return failed
}

// giveUp discards the crate that was put first.
func (o *crashOwner) giveUp() error {
	kept := slices.SortedFunc(maps.Keys(o.crates), func(a, b store.CrateID) int { return slices.Compare(a[:], b[:]) })
	kept = slices.DeleteFunc(kept, func(id store.CrateID) bool { return o.crates[id].state == gone })
	if len(kept) == 0 {
		return nil
	}
	id, c := kept[0], o.crates[kept[0]]
	c.state = unsure
	if err := o.answered(o.discard(id)); err != nil {
		return err
	}
	c.state = gone
	o.discards++
	return nil
}

// compare holds what the peer has against what the owner was told, and settles what it
// was not sure of.
func (o *crashOwner) compare() error {
	// The link waits a little between attempts.
	err := o.admit()
	for end := time.Now().Add(peerNoticed); errors.Is(err, store.Unavailable) && time.Now().Before(end); err = o.admit() {
		time.Sleep(crashPause)
	}
	if err != nil {
		return fmt.Errorf("be admitted again: %w", err)
	}
	listed, err := o.list()
	if err != nil {
		return err
	}
	used := int64(0)
	for id, c := range o.crates {
		switch {
		case c.state == gone && listed[id]:
			return fmt.Errorf("crate %s was discarded, and is there; read: %v", id, o.has(id, c.number, c.size))
		case c.state == there && !listed[id]:
			return fmt.Errorf("crate %s of %d bytes has a receipt, and is not there", id, c.size)
		}
		if !listed[id] {
			delete(o.crates, id)
			continue
		}
		err := o.has(id, c.number, c.size)
		if c.state == unsure && errors.Is(err, store.NotFound) {
			// Its end was asked for, and half done: asked for again it is done.
			if err := o.discard(id); err != nil {
				return fmt.Errorf("discard crate %s again: %w", id, err)
			}
			delete(o.crates, id)
			delete(listed, id)
			continue
		}
		if err != nil {
			return fmt.Errorf("crate %s of %d bytes, receipt: %v: %w", id, c.size, c.state == there, err)
		}
		c.state = there
		used += store.Charge(int64(c.size))
		delete(listed, id)
	}
	for id := range listed {
		if c := o.crates[id]; c == nil {
			return fmt.Errorf("crate %s is there, and was never put or was discarded before", id)
		}
	}
	return o.compareGrants(used)
}

// compareGrants does so for the reservations, and ends them.
func (o *crashOwner) compareGrants(used int64) error {
	ctx, cancel := bounded()
	defer cancel()
	for id, state := range o.grants {
		_, err := o.Renew(ctx, id)
		switch {
		case err != nil && !errors.Is(err, store.NotFound):
			return err
		case state == there && err != nil:
			return fmt.Errorf("reservation %s was given, and is not there", id)
		case state == gone && err == nil:
			return fmt.Errorf("reservation %s was released, and is there", id)
		}
		if err := o.Release(ctx, id); err != nil {
			return err
		}
		delete(o.grants, id)
	}
	o.grant, o.left = store.ReservationID{}, 0
	s, err := o.Status(ctx)
	if err == nil && (s.Reserved != 0 || s.Used != used || s.Crates != int64(len(o.crates))) {
		err = fmt.Errorf("with every reservation released it says %d reserved, %d used by %d crates, want 0, %d by %d", s.Reserved, s.Used, s.Crates, used, len(o.crates))
	}
	return err
}
