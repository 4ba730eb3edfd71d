package router

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stasis/store"
	"stasis/store/ledger"
	"stasis/store/memory"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

// simClock follows the time of a synctest bubble, which only moves when everything
// waits.
type simClock struct{ begin time.Time }

func (c simClock) Now() time.Time      { return time.Now() }
func (c simClock) Wall() time.Time     { return time.Now() }
func (c simClock) Boot() time.Duration { return time.Hour + time.Since(c.begin) }
func (c simClock) BootID() [16]byte    { return [16]byte{1} }

// sim is a router under random trouble, beside a model of what it was asked for.
type sim struct {
	*rig
	rng   *rand.Rand
	alive []*wantedCrate
	dead  []*wantedCrate
	lines []string
	// troubled are places that something may be wrong with.
	troubled map[*spot]bool
	// squatters are reservations of somebody else that fill a node.
	squatters map[*spot]store.ReservationID
}

type wantedCrate struct {
	storetest.Crate
	wanted int
}

const simNodes = 5

// TestSimulation puts a router through random failures of its nodes, of the space on
// them and of itself, in a time of its own, and compares it with a model all along and,
// when everything has healed, to the last byte.
func TestSimulation(t *testing.T) {
	seed := storetest.Seed(t)
	runs, steps := 6, 120
	if storetest.Soak() {
		runs, steps = 60, 400
	}
	if os.Getenv("STASIS_SEED") != "" {
		runs = 1
	}
	for i := range runs {
		s := seed + uint64(i)
		if !t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, s, steps) })
		}) {
			return
		}
	}
}

func simulate(t *testing.T, seed uint64, steps int) {
	clock := simClock{time.Now()}
	g := &rig{t: t, dir: t.TempDir(), gen: storetest.NewGen(seed), clock: clock}
	g.cache = filepath.Join(g.dir, "cache")
	g.bodies = &bodies{dir: filepath.Join(g.dir, "bodies"), has: make(map[store.CrateID]Body)}
	if err := os.Mkdir(g.bodies.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &sim{rig: g, rng: rand.New(rand.NewPCG(seed, 1)), squatters: make(map[*spot]store.ReservationID), troubled: make(map[*spot]bool)}
	for i := range simNodes {
		m, err := memory.New(int64(1+s.rng.IntN(24))<<20, memory.Options{Clock: clock, Leaf: store.NodeID(g.gen.Bytes(16))})
		if err != nil {
			t.Fatal(err)
		}
		kind := "directory"
		if i%2 == 1 {
			kind = "grpc"
		}
		g.places = append(g.places, &spot{name: fmt.Sprintf("n%d", i), kind: kind, zone: fmt.Sprintf("z%d", i%3), mem: m, fault: fault.Wrap(m)})
	}
	var err error
	if g.db, err = ledger.Open(filepath.Join(g.dir, "ledger"), ledger.Small()); err != nil {
		t.Fatal(err)
	}
	g.start()
	for range steps {
		s.step()
		s.truthful()
	}
	s.heal()
	s.settled()
	if t.Failed() {
		s.dump()
	}
	g.stop()
	for _, p := range g.places {
		if r := status(t, p).Reserved; r != 0 {
			t.Errorf("%d bytes are still reserved at %s", r, p.name)
		}
	}
	if err := g.db.Close(); err != nil {
		t.Error(err)
	}
}

// dump tells what there is to know about a failure.
func (s *sim) dump() {
	for _, l := range s.lines {
		s.t.Log(l)
	}
	if s.r == nil {
		return
	}
	for _, st := range s.r.Status(context.Background()) {
		s.t.Logf("%+v", st)
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for _, n := range s.r.nodes {
		s.t.Logf("%s: grant %+v, queue %+v, in flight %d, failing %+v, paused %v, full until %s, now %s", n.name, n.grant, n.queue,
			len(n.inFlight), n.failing, n.paused, n.fullUntil, s.r.clock.Boot())
	}
}

func (s *sim) log(format string, args ...any) {
	s.lines = append(s.lines, time.Since(s.clock.(simClock).begin).Truncate(time.Millisecond).String()+" "+fmt.Sprintf(format, args...))
}

// step is one random event.
func (s *sim) step() {
	p := s.places[s.rng.IntN(len(s.places))]
	n := 1 + s.rng.IntN(4)
	gone := &store.Error{Kind: store.Unavailable, Op: "reach node", Detail: "simulated"}
	k := s.rng.IntN(100)
	if k >= 58 && k < 87 {
		s.troubled[p] = k < 64 || k >= 74
	}
	switch {
	case k < 34:
		s.addSome()
	case k < 46:
		s.killSome()
	case k < 58:
		s.readSome()
	case k < 62:
		s.log("%s down", p.name)
		p.fault.Down()
	case k < 64:
		s.log("%s missing", p.name)
		p.fault.Down()
		p.unplug(true)
	case k < 74:
		s.log("%s heals", p.name)
		p.fault.Heal()
		p.unplug(false)
	case k < 77:
		op := []fault.Op{fault.Put, fault.Open, fault.Discard, fault.Reserve, fault.Status, fault.Renew}[s.rng.IntN(6)]
		s.log("%s stalls at op %d", p.name, op)
		p.fault.Stall(op, n)
	case k < 80:
		op := []fault.Op{fault.Put, fault.Reserve, fault.Discard, fault.Release, fault.Verify}[s.rng.IntN(5)]
		s.log("%s fails op %d", p.name, op)
		p.fault.Fail(op, n, gone)
	case k < 83:
		op := []fault.Op{fault.Put, fault.Reserve, fault.Discard}[s.rng.IntN(3)]
		s.log("%s loses an answer of op %d", p.name, op)
		p.fault.LoseAnswer(op, n, gone)
	case k < 85:
		s.log("%s flips a bit", p.name)
		op := fault.Open
		if p.kind == "grpc" && s.rng.IntN(2) == 0 {
			op = fault.Put // on the way
		}
		p.fault.Flip(op, n, int64(s.rng.IntN(4096)))
	case k < 87:
		s.rot(p)
	case k < 90:
		s.squat(p)
	case k < 94:
		s.restart()
	case k < 95:
		s.log("a long pause")
		time.Sleep(3 * time.Hour)
	case k < 98:
		s.pause(p)
	default:
		time.Sleep(time.Duration(s.rng.IntN(20000)) * time.Millisecond)
	}
	time.Sleep(time.Duration(s.rng.IntN(200)) * time.Millisecond)
}

func (s *sim) addSome() {
	var crates []storetest.Crate
	bytes := int64(0)
	for range 1 + s.rng.IntN(3) {
		size := 1 + s.rng.IntN(8192)
		switch s.rng.IntN(8) {
		case 0:
			size = 1 + s.rng.IntN(900<<10)
		case 1:
			size = 1 + s.rng.IntN(5<<19)
		}
		c := s.gen.Crate(size)
		c.ID = store.NewCrateID()
		crates = append(crates, c)
		bytes += c.Charge()
	}
	pol := Policy{Copies: 1 + s.rng.IntN(3), Least: 1 + s.rng.IntN(2), Zones: s.rng.IntN(3)}
	promised := s.promised()
	begin := time.Now()
	plan, err := s.r.Draw(context.Background(), DrawRequest{Policy: pol, Bytes: bytes})
	if d := time.Since(begin); d > 2*ReserveLimit+time.Second/2 {
		s.t.Errorf("a draw took %s", d)
	}
	if err != nil {
		s.log("draw of %d refused: %v", bytes, err)
		if !spaceError(err) {
			s.t.Errorf("draw: %v", err)
		}
		if now := s.promised(); now > promised {
			s.t.Errorf("a refused draw holds space: %d, before %d", now, promised)
		}
		return
	}
	if len(plan.Targets) > pol.Copies {
		s.t.Errorf("%d targets, %d wanted", len(plan.Targets), pol.Copies)
	}
	switch s.rng.IntN(12) {
	case 0:
		s.log("plan of %d returned", bytes)
		s.r.Return(plan)
		return
	case 1:
		s.log("restart with a plan of %d", bytes)
		s.restart(plan)
	}
	for _, c := range crates {
		s.bodies.add(s.t, c)
	}
	if s.rng.IntN(12) == 0 {
		s.log("crash between the registration and the queue")
		for _, c := range crates {
			if err := s.register(plan, c); err != nil {
				s.t.Fatal(err)
			}
		}
		s.restart(plan)
	}
	if err := s.enqueue(plan, crates...); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range crates {
		s.log("add %s of %d bytes, %d copies on %d nodes", c.ID, len(c.Data), pol.Copies, len(plan.Targets))
		s.alive = append(s.alive, &wantedCrate{Crate: c, wanted: pol.Copies})
	}
}

// promised is what the router has promised on all nodes.
func (s *sim) promised() (sum int64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for _, n := range s.r.nodes {
		sum += n.grant.promised
	}
	return sum
}

func (s *sim) killSome() {
	if len(s.alive) == 0 {
		return
	}
	i := s.rng.IntN(len(s.alive))
	c := s.alive[i]
	s.log("kill %s", c.ID)
	s.alive = slices.Delete(s.alive, i, i+1)
	s.dead = append(s.dead, c)
	s.kill(c.ID)
	if s.rng.IntN(2) == 0 {
		s.bodies.add(s.t, c.Crate) // what has it open reads on
	}
}

// readSome reads a crate: whatever the nodes do, other bytes never come, and none within
// a bound.
func (s *sim) readSome() {
	if len(s.alive) == 0 {
		return
	}
	c := s.alive[s.rng.IntN(len(s.alive))]
	must := s.readable(c)
	begin := time.Now()
	err := s.read(c.Crate)
	if must && err != nil {
		s.t.Errorf("read of %s, which a healthy node has: %v", c.ID, err)
	}
	most := ReadLimit
	if !must {
		most = NearReadLimit // a local node may be busy with it, and nobody else has it
	}
	if d := time.Since(begin); d > most+500*time.Millisecond {
		s.t.Errorf("a read took %s", d)
	}
	if err != nil && store.KindOf(err) == 0 {
		s.t.Errorf("read of %s: %v", c.ID, err)
	}
	if err != nil {
		s.log("read of %s: %v", c.ID, err)
	}
}

// readable reports whether a node that nothing is wrong with has a copy that counts.
func (s *sim) readable(c *wantedCrate) bool {
	m, err := s.r.Manifest(c.ID)
	if err != nil {
		s.t.Errorf("manifest of %s: %v", c.ID, err)
		return false
	}
	for _, p := range s.places {
		d := m.Destination(status(s.t, p).Leaf)
		if d != nil && d.State == Verified && !s.troubled[p] && s.has(p, c.ID) && !s.r.byName(p.name).away() {
			return true
		}
	}
	return false
}

// sweepBodies removes the bodies of crates that have their copies, as the filesystem
// does.
func (s *sim) sweepBodies() {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	for c, m := range s.seen.placed {
		if m.Copies() >= m.Wanted {
			s.bodies.drop(c)
		}
	}
}

// rot takes a copy away behind the router's back, never the last.
func (s *sim) rot(p *spot) {
	for _, c := range s.alive {
		if s.physical(c.ID) >= 2 && s.has(p, c.ID) {
			s.log("%s loses %s", p.name, c.ID)
			if err := p.mem.Discard(context.Background(), store.DiscardRequest{Crate: c.ID}); err != nil {
				s.t.Fatal(err)
			}
			return
		}
	}
}

func (s *sim) has(p *spot, c store.CrateID) bool {
	_, err := p.mem.Stat(context.Background(), c)
	return err == nil
}

func (s *sim) physical(c store.CrateID) (n int) {
	for _, p := range s.places {
		if s.has(p, c) {
			n++
		}
	}
	return n
}

// squat has somebody else take most of what a node has free, or give it back.
func (s *sim) squat(p *spot) {
	ctx := context.Background()
	if id, there := s.squatters[p]; there {
		s.log("%s has room again", p.name)
		delete(s.squatters, p)
		if err := p.mem.Release(ctx, id); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	free := status(s.t, p).Free
	if free < 64<<10 {
		return
	}
	id := store.NewReservationID()
	s.log("%s is filled", p.name)
	if _, err := p.mem.Reserve(ctx, store.ReserveRequest{ID: id, Bytes: free - 4096, Lease: 24 * time.Hour}); err != nil {
		return
	}
	s.squatters[p] = id
}

// pause has nothing sent to a node for a while, or to all, or ends that.
func (s *sim) pause(p *spot) {
	names := []string{p.name, ""}
	name := names[s.rng.IntN(2)]
	err := error(nil)
	switch s.rng.IntN(3) {
	case 0:
		s.log("%q is resumed", name)
		err = s.r.Resume(name)
	case 1:
		s.log("%q is paused for a minute", name)
		err = s.r.Pause(name, s.clock.Now().Add(time.Minute))
	default:
		s.log("%q is paused", name)
		err = s.r.Pause(name, time.Time{})
	}
	if err != nil {
		s.t.Errorf("pause or resume %q: %v", name, err)
	}
}

// restart ends the router, as well as it may or at once, and starts another.
func (s *sim) restart(plans ...Plan) {
	ctx, cancel := context.WithTimeout(context.Background(), CloseLimit)
	defer cancel()
	if s.rng.IntN(2) == 0 {
		cancel()
	}
	s.log("restart %v", ctx.Err())
	err := s.r.Close(ctx)
	for _, p := range s.places {
		// What still hangs is gone with the process.
		if err != nil {
			p.fault.Heal()
		}
	}
	time.Sleep(time.Second) // nothing of the old one lives on
	synctest.Wait()
	s.start(plans...)
}
