package integration

import (
	"context"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/integration/harness"
	"stasis/peer/grpcpeer"
	"stasis/peer/host"
	"stasis/peer/httppeer"
	"stasis/peer/identity"
	"stasis/peer/invite"
	"stasis/peer/wire"
	"stasis/store"
)

// The calls that a crook lies in. Every result of a batch is one of callPut; what is
// said of a batch as a whole is callBatch.
const (
	callReserve = "reserve"
	callRenew   = "renew"
	callRelease = "release"
	callPut     = "put"
	callBatch   = "batch"
	callOpen    = "open"
	callVerify  = "verify"
	callStat    = "stat"
	callDiscard = "discard"
	callList    = "list"
	callStatus  = "status"
	callFence   = "fence"
	callEvent   = "event"
	callRedeem  = "redeem"
)

// eventPace is the time between two lies that nobody asked for.
const eventPace = 10 * time.Millisecond

// said is what is said to one call: what an honest peer would say, for a lie to change.
type said struct {
	c        *crook
	ask      store.ReserveRequest // of callReserve
	crate    store.CrateID        // that the call is about
	size     int64                // of a crate that is put, in bytes
	cursor   []byte               // that was asked with
	shares   []store.Share
	receipts []store.Receipt
	results  []store.PutResult
	status   store.Status
	info     store.CrateInfo
	page     store.Page
	digest   store.Digest
	at       time.Time
	event    wire.Event
	redeemed wire.Redeemed
	body     io.Reader
	err      error
}

// untruth is one way in which an answer is wrong.
type untruth struct {
	name, call string
	// idle: the call is answered without being done: what was sent is thrown away.
	idle bool
	// from, unless nil, is where the bytes of a put are asked from, of so many.
	from   func(r *rand.Rand, size int64) int64
	mutate func(r *rand.Rand, a *said)
}

// plan is what a crook is about to say.
type plan struct {
	seed   uint64
	rate   float64 // of the calls of which there is a lie
	lies   map[string][]untruth
	events time.Duration // between two lies that nobody asked for; 0: none come
}

// newPlan has the lies told at random: the nth answer to a kind of call depends on the seed
// alone.
func newPlan(seed uint64, rate float64, lies ...untruth) *plan {
	p := &plan{seed: seed, rate: rate, lies: make(map[string][]untruth)}
	for _, l := range lies {
		p.lies[l.call] = append(p.lies[l.call], l)
		if l.call == callEvent {
			p.events = eventPace
		}
	}
	return p
}

// crook is a peer that can lie in every field of every answer. Beneath is an honest host,
// which tells the tests what the crook really has.
type crook struct {
	*host.Host
	identity   identity.Identity
	grpc, http string
	plan       atomic.Pointer[plan]
	honest     atomic.Pointer[store.NodeID] // a node of the vault that is not the crook's
	received   atomic.Int64                 // bytes of content

	mu     sync.Mutex
	calls  map[string]int
	told   map[string]int // lies, by name
	minted map[store.CrateID]bool
	lost   map[store.Digest]bool // roots of what it said it keeps, and doesn't
	seen   []string              // fingerprints that came
}

var _ wire.Service = (*crook)(nil)

// newCrook makes a crook that serves until the test ends, and does not lie yet.
func newCrook(t *testing.T) *crook {
	t.Helper()
	c := &crook{identity: identity.New(), calls: make(map[string]int), told: make(map[string]int),
		minted: make(map[store.CrateID]bool), lost: make(map[store.Digest]bool)}
	log := logrus.New()
	log.SetOutput(io.Discard)
	c.Host = openHost(t, c.identity, log)
	tls, err := c.identity.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	c.grpc = serve(t, grpcpeer.NewServer(grpcpeer.Options{Service: c, TLS: tls, Fingerprint: identity.FingerprintOf, Log: log}))
	c.http = serve(t, httppeer.NewServer(httppeer.Options{Service: c, TLS: tls, Fingerprint: identity.FingerprintOf, Log: log}))
	return c
}

// invitation is an invite to the crook.
func (c *crook) invitation(t *testing.T) string {
	t.Helper()
	in := invite.Invite{Fingerprint: c.identity.Fingerprint(), GRPC: []string{c.grpc}, HTTP: []string{c.http}}
	var err error
	if in.Secret, in.Expires, err = c.Invite(t.Context(), 0, 0); err != nil {
		t.Fatal(err)
	}
	text, err := in.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// be has the crook lie as planned from now on; nil: it is honest.
func (c *crook) be(p *plan) { c.plan.Store(p) }

// count notes a call and picks the lie for it, with the source of what it makes up; nil: the
// truth.
func (c *crook) count(call string) (*untruth, *rand.Rand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.calls[call]
	c.calls[call]++
	p := c.plan.Load()
	if p == nil || len(p.lies[call]) == 0 {
		return nil, nil
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(call)) // never fails
	r := rand.New(rand.NewPCG(p.seed^h.Sum64(), uint64(n)))
	if r.Float64() >= p.rate {
		return nil, nil
	}
	l := p.lies[call][r.IntN(len(p.lies[call]))]
	c.told[l.name]++
	return &l, r
}

// tell changes an answer if it is to be a lie.
func (c *crook) tell(l *untruth, r *rand.Rand, a *said) *said {
	if l != nil && l.mutate != nil {
		a.c = c
		l.mutate(r, a)
	}
	return a
}

// figures are the calls, the lies and the bytes so far.
func (c *crook) figures() (calls, lies int, received int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for call, n := range c.calls {
		if call != callEvent { // nobody calls for those
			calls += n
		}
	}
	for _, n := range c.told {
		lies += n
	}
	return calls, lies, c.received.Load()
}

// called is how often a call was made, and how many ids of crates came so far.
func (c *crook) called(call string) (n, minted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[call], len(c.minted)
}

// keeps are the roots of what the crook really has, of all owners, and of what it has said
// falsely that it has.
func (c *crook) keeps(t *testing.T) (has, lost map[store.Digest]bool) {
	t.Helper()
	has = make(map[store.Digest]bool)
	c.mu.Lock()
	seen := slices.Clone(c.seen)
	lost = make(map[store.Digest]bool, len(c.lost))
	for d := range c.lost {
		lost[d] = true
	}
	c.mu.Unlock()
	for _, f := range seen {
		s, err := c.Host.Session(f, store.Token{})
		if err != nil {
			t.Fatal(err)
		}
		for cursor := []byte(nil); ; {
			p, err := s.List(t.Context(), cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range p.Crates {
				has[i.Root] = true
			}
			if cursor = p.Next; cursor == nil {
				break
			}
		}
	}
	return has, lost
}

// Redeem is wire.Service's.
func (c *crook) Redeem(ctx context.Context, r wire.Redeem, fingerprint string) (wire.Redeemed, error) {
	l, rnd := c.count(callRedeem)
	a := &said{}
	a.redeemed, a.err = c.Host.Redeem(ctx, r, fingerprint)
	a = c.tell(l, rnd, a)
	return a.redeemed, a.err
}

// Session is wire.Service's.
func (c *crook) Session(fingerprint string, mount store.Token) (wire.Session, error) {
	s, err := c.Host.Session(fingerprint, mount)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if !slices.Contains(c.seen, fingerprint) {
		c.seen = append(c.seen, fingerprint)
	}
	c.mu.Unlock()
	return crookSession{s, c}, nil
}

// someCrate is one that was put, of those the crook has heard of.
func (c *crook) someCrate(r *rand.Rand) store.CrateID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.minted) == 0 {
		return made(r)
	}
	skip := r.IntN(len(c.minted))
	for id := range c.minted {
		if skip--; skip < 0 {
			return id
		}
	}
	return made(r)
}

// made is an id that was made up.
func made(r *rand.Rand) (id [16]byte) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// besideCrook is a mounted vault whose places are an honest directory and a crook.
func besideCrook(t *testing.T, protocol string, copies int) (*harness.Vault, *crook) {
	t.Helper()
	c := newCrook(t)
	return vaultBeside(t, c, protocol, copies), c
}

func vaultBeside(t *testing.T, c *crook, protocol string, copies int) *harness.Vault {
	t.Helper()
	v := harness.NewVault(t)
	v.Settings("copies = %d\n", copies)
	v.Start()
	v.OK("node", "add", v.Point, "near", "directory", nearPath(v))
	v.OK("node", "add", v.Point, "crook", "peer", c.invitation(t), "--protocol", protocol)
	c.besides(t, v.Status().Node(t, "near").ID)
	return v
}

func (c *crook) besides(t *testing.T, node string) {
	t.Helper()
	id, err := store.ParseNodeID(node)
	if err != nil {
		t.Fatal(err)
	}
	c.honest.Store(&id)
}
