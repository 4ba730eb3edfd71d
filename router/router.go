package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/router/cache"
	"stasis/store"
	"stasis/store/keyed"
	"stasis/store/ledger"
)

// Router keeps crates on nodes. All methods may be called concurrently, once New
// has returned; those that take a transaction only within it.
type Router struct {
	o             Options
	log           logrus.FieldLogger
	clock         Clock
	shared, local *ledger.Space
	blocks        *blockCache
	disk          *cache.Cache // nil: there is none
	files         verifiedFiles
	tokens        []store.Token // every token of this vault so far
	token         store.Token   // this start's
	cpu           chan struct{} // bounds hashing in the background
	keys          int           // that the router puts into one update of the ledger
	sealing       chan struct{} // one large crate's checksums are recorded at a time
	hashing       keyed.Locks[store.CrateID]
	extras        chan store.CrateID
	begun         time.Time
	ctx           context.Context
	cancel        context.CancelFunc
	work          sync.WaitGroup                 // loops that belong to no node
	doubts        atomic.Uint64                  // how often copies that counted may have stopped to
	unsure        atomic.Int32                   // nodes whose copies are unknown
	known         atomic.Pointer[[]store.NodeID] // of which there is a record

	// claims is held while it is settled which node leads to a store, and under which name the ledger
	// has that. It is taken before mu.
	claims sync.Mutex

	// mu guards what follows and the nodes. It is held for arithmetic and look-ups in
	// memory only.
	mu      sync.Mutex
	nodes   []*node // in the person's order; those not configured come last
	byID    map[store.NodeID]*node
	started bool
	closed  bool
	running int // calls and other goroutines that may outlive their caller
	quiet   []chan struct{}
	sweep   chan struct{}
	again   chan struct{}          // an audit is called for
	rotten  map[store.CrateID]bool // bodies that are not read any more; true: their bytes are not those recorded
	holds   map[string]hold        // by the name of the node; some may be over
	// self is what Via was told; zero for a vault's router.
	self store.NodeID
}

// deaf is an Observer that does not listen.
type deaf struct{}

func (deaf) Placed([]Manifest) error                              { return nil }
func (deaf) ReceivedTx(*ledger.Tx, *Manifest, bool) (bool, error) { return false, nil }
func (deaf) Adopted(store.CrateID, store.NodeID)                  {}
func (deaf) Retired(Manifest)                                     {}
func (deaf) Rotten(store.CrateID)                                 {}
func (deaf) Counted()                                             {}
func (deaf) NodesChanged()                                        {}

// New reads the router's records from the ledger, and mints and records the token
// of this start. It talks to no node.
func New(o Options) (*Router, error) {
	if o.Ledger == nil || o.Bodies == nil {
		return nil, &store.Error{Kind: store.Invalid, Op: "start the router", Detail: "no ledger or no bodies"}
	}
	if o.Observer == nil {
		o.Observer = deaf{}
	}
	if o.Clock == nil {
		o.Clock = System
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = CacheBytes
	}
	if o.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		o.Log = l
	}
	r := &Router{
		o: o, log: o.Log, clock: o.Clock,
		shared: o.Ledger.Space(ledger.Shared), local: o.Ledger.Space(ledger.Local),
		blocks: newBlockCache(o.CacheBytes), keys: o.Ledger.UpdateKeys() - spareKeys,
		cpu: make(chan struct{}, max(1, runtime.NumCPU()/2)), sealing: make(chan struct{}, 1),
		extras: make(chan store.CrateID, ExtraQueue), sweep: make(chan struct{}, 1),
		byID: make(map[store.NodeID]*node), again: make(chan struct{}, 1),
		rotten: make(map[store.CrateID]bool), holds: make(map[string]hold), begun: o.Clock.Now(),
	}
	r.known.Store(new([]store.NodeID))
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if err := r.loadNodes(); err != nil {
		return nil, err
	}
	if err := r.loadHolds(); err != nil {
		return nil, err
	}
	if err := r.mint(); err != nil {
		return nil, err
	}
	r.openCache()
	return r, nil
}

// openCache opens the cache on disk. Without it reads are slower, and nothing else.
func (r *Router) openCache() {
	if r.o.CacheDir == "" {
		return
	}
	if r.o.CacheDiskBytes <= 0 {
		r.o.CacheDiskBytes = CacheDiskBytes
	}
	if r.o.CacheFloor <= 0 {
		r.o.CacheFloor = CacheFloor
	}
	c, err := cache.Open(cache.Options{Dir: r.o.CacheDir, Bytes: r.o.CacheDiskBytes, Floor: r.o.CacheFloor, Spare: r.spare, Log: r.log})
	if err != nil {
		r.log.WithError(err).Warn("no cache on disk")
		return
	}
	r.disk = c
}

// SetNodes makes these the configured nodes, in order of preference: at first, and
// whenever the configuration was read again. A node that is left out is closed; its
// queue and what is to be discarded on it are kept until RemoveNode.
func (r *Router) SetNodes(specs []NodeSpec) error {
	for i, s := range specs {
		if s.Name == "" || s.Open == nil {
			return &store.Error{Kind: store.Invalid, Op: "set the nodes", Detail: fmt.Sprintf("node %d has no name or can't be opened", i+1)}
		}
		if slices.ContainsFunc(specs[:i], func(o NodeSpec) bool { return o.Name == s.Name }) {
			return nameTaken(s.Name)
		}
	}
	r.claims.Lock()
	defer r.claims.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed("set the nodes")
	}
	var order []*node
	for _, s := range specs {
		n := r.named(s.Name)
		if n == nil {
			n = newNode(r, s.Name)
		}
		if n.configured && n.spec.Settings != s.Settings {
			n.retire()
			n.rouse(wakeKeeper)
		}
		n.spec, n.configured = s, true
		order = append(order, n)
	}
	for _, n := range r.nodes {
		if slices.Contains(order, n) {
			continue
		}
		n.configured = false
		n.halt()
		if !n.id.IsZero() {
			order = append(order, n)
		}
	}
	r.nodes = order
	if r.started {
		for _, n := range r.nodes {
			if n.configured {
				n.begin(r.ctx)
			}
		}
	}
	return nil
}

// Restore promises again what a plan had drawn before a restart. It is called
// before Start, once for each plan that has not been handed over.
func (r *Router) Restore(p Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range p.Targets {
		if n := r.byID[t.Node]; n != nil && t.Reserved {
			n.grant.promised += t.Bytes
			n.grant.resident += t.Resident
		}
	}
}

// Start opens the nodes, waiting a little for the first attempts, and begins to
// send. That nodes are missing is no error.
func (r *Router) Start(ctx context.Context) error {
	// A node must never hold a token that the ledger could forget.
	if !r.o.ReadOnly {
		if err := r.o.Ledger.Sync(ctx, r.o.Ledger.Position()); err != nil {
			return err
		}
	}
	r.mu.Lock()
	if r.started || r.closed {
		r.mu.Unlock()
		return &store.Error{Kind: store.Invalid, Op: "start the router", Detail: "it was started before"}
	}
	r.started = true
	var tried []<-chan struct{}
	for _, n := range r.nodes {
		if n.configured {
			n.begin(r.ctx)
			tried = append(tried, n.tried)
		}
	}
	r.mu.Unlock()
	if !r.o.ReadOnly {
		for _, f := range []func(context.Context){r.audit, r.sweepLoop, r.payLoop} {
			r.work.Add(1)
			go func() { defer r.work.Done(); f(r.ctx) }()
		}
	}
	t := time.NewTimer(StartLimit)
	defer t.Stop()
	for _, c := range tried {
		select {
		case <-c:
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close ends the loops, gives back what no plan holds of the grants, and closes the
// stores. Within ctx and CloseLimit it waits for all of it; the error says how many
// calls to nodes had not come back. Their goroutines end when they do.
func (r *Router) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, CloseLimit)
	defer cancel()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	nodes := slices.Clone(r.nodes)
	r.mu.Unlock()
	// The loops first, so that nobody draws on the grants any more.
	r.cancel()
	if r.disk != nil {
		r.disk.Close()
	}
	ended := make(chan struct{})
	r.mu.Lock()
	r.background(func() {
		r.work.Wait()
		for _, n := range nodes {
			n.loops.Wait()
		}
		close(ended)
	})
	r.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Add(1)
		go func() { defer wg.Done(); n.part(ctx) }()
	}
	wg.Wait()
	if left := r.waitCalls(ctx); left > 0 {
		return &store.Error{Kind: store.Unavailable, Op: "close the nodes", Detail: fmt.Sprintf("%d calls to nodes have not come back", left)}
	}
	return nil
}

// part gives back the unpromised part of a grant and closes the store.
func (n *node) part(ctx context.Context) {
	r := n.r
	r.mu.Lock()
	idle := n.online() == nil || !n.grant.synced || n.grant.room() <= n.grant.promised
	promised := n.grant.promised
	r.mu.Unlock()
	if !idle && !r.o.ReadOnly && n.lockGrant(ctx) == nil {
		// It lapses by itself if this fails.
		if err := n.resize(ctx, GrantLimit/4, promised); err != nil {
			r.log.WithField("node", n.name).WithError(err).Debug("grant not given back")
		}
		n.unlockGrant()
	}
	n.note(ctx)
	r.mu.Lock()
	n.halt()
	r.mu.Unlock()
}

// note records what a node holds, for a start that does not find it.
func (n *node) note(ctx context.Context) {
	r := n.r
	r.mu.Lock()
	h := n.online()
	r.mu.Unlock()
	if h == nil || r.o.ReadOnly {
		return
	}
	s, from, err := n.askStatus(ctx, h, StatusLimit)
	if err == nil {
		s, err = n.plausible(s)
	}
	if err == nil {
		r.mu.Lock()
		n.stands(s.Position, from)
		n.status, n.seen = s, r.clock.Now()
		rec, _ := n.remember(s)
		r.mu.Unlock()
		err = errors.Join(r.recordNode(n.name, rec), n.recordPosition())
	}
	if err != nil {
		r.log.WithField("node", n.name).WithError(err).Debug("what the node holds is not noted")
	}
}

// Kick wakes the senders and discarders: there may be something to do.
func (r *Router) Kick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		n.rouse(small, large, wakeDiscard)
	}
	select {
	case r.sweep <- struct{}{}:
	default:
	}
}

// named finds a node by its name. Called with mu held.
func (r *Router) named(name string) *node {
	for _, n := range r.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func nameTaken(name string) error {
	return &store.Error{Kind: store.Conflict, Op: "add node", Subject: fmt.Sprintf("%q", name),
		Detail: "there is a node of that name", Hint: "choose another name"}
}

func errClosed(op string) error {
	return &store.Error{Kind: store.Unavailable, Op: op, Detail: "the vault is being closed"}
}
