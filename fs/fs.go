package fs

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/fs/body"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/keyed"
	"stasis/store/lean"
	"stasis/store/ledger"
)

// Options of an FS.
type Options struct {
	Ledger *ledger.DB
	// Bodies is the directory of bodies; it is made if it does not exist.
	Bodies string
	// Policy gives what holds where no directory says otherwise; it may change.
	Policy func() router.Policy
	Log    logrus.FieldLogger
	// ReadOnly refuses every change.
	ReadOnly bool
	// Names is what a new vault's root gets.
	Names names.Options
}

// FS is the filesystem of one vault. All methods may be called concurrently.
//
// An operation that returned survives a kill of the process. What Fsync, FsyncDir or a
// wait returned for survives a power cut.
type FS struct {
	tree   *names.Tree
	db     *ledger.DB
	shared *ledger.Space
	local  *ledger.Space
	bodies *body.Dir
	router *router.Router
	policy func() router.Policy
	log    logrus.FieldLogger
	ro     bool

	// keys is how many keys this package puts into one update of the ledger. Those of names come
	// on top where an inode is changed or removed in the same update.
	keys int

	policies atomic.Bool // some inode has a policy of its own

	mu    sync.Mutex
	files map[names.Ino]*file
	refs  lean.Map[names.Ino, uint64] // the kernel's references
	// orphans are the inodes without a name that are still in use; reapable those that
	// are not any more.
	orphans  lean.Map[names.Ino, struct{}]
	reapable []names.Ino
	leftAt   time.Time   // when the last of them was added
	unsealed []names.Ino // could not be sealed, to be tried again

	// doubted are the crates that lay in bodies when the power had been cut. Not changed
	// after Start. wrongBodies are those whose body turned out to be something else.
	doubted     map[store.CrateID]struct{}
	wrongBodies sync.Map    // of store.CrateID
	counted     atomic.Bool // copies count again that were unknown

	waiting waitingTable
	// assessing is held by whoever finds out what an inode waits for, or takes away from it.
	assessing keyed.Locks[names.Ino]
	building  listSet
	sealer    sealer
	blanks    blankPool
	atimes    atimes
	// promised is closed when the files that a crash has left have their space again.
	promised chan struct{}
	changed  broadcast

	reaps   chan struct{}
	reapNow chan struct{}
	tear    chan struct{}
	retry   chan struct{}
	review  chan struct{}

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New opens the filesystem in a ledger. Start must follow before it is used.
func New(o Options) (*FS, error) {
	if err := os.MkdirAll(o.Bodies, 0o700); err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: "make the directory of bodies", Subject: o.Bodies, Err: err}
	}
	dir, err := body.OpenDir(o.Bodies)
	if err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: "open the directory of bodies", Subject: o.Bodies, Err: err}
	}
	tree, err := names.Open(o.Ledger, o.Names)
	if err != nil {
		dir.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &FS{
		tree: tree, db: o.Ledger, shared: o.Ledger.Space(ledger.Shared), local: o.Ledger.Space(ledger.Local),
		bodies: dir, policy: o.Policy, log: o.Log, ro: o.ReadOnly,
		files: make(map[names.Ino]*file), keys: o.Ledger.UpdateKeys() - namesKeys,
		reaps: make(chan struct{}, 1), reapNow: make(chan struct{}, 1), tear: make(chan struct{}, 1), retry: make(chan struct{}, 1), review: make(chan struct{}, 1),
		promised: make(chan struct{}),
		ctx:      ctx, cancel: cancel,
	}
	s.sealer.init()
	s.blanks.init()
	s.atimes.init()
	return s, nil
}

// Start recovers what an earlier run left and begins the work in the background.
// The router must not have been started: it is told of the space that is spoken for.
func (s *FS) Start(ctx context.Context, r *router.Router) error {
	s.router = r
	if err := s.recover(ctx); err != nil {
		return err
	}
	if s.ro {
		return nil
	}
	files := s.unpromised()
	s.done.Go(func() { s.promiseAgain(files) })
	for _, work := range []func(){s.sealLoop, s.reapLoop, s.tearLoop, s.syncLoop, s.retryLoop, s.reviewLoop, s.snapshotLoop, s.blankLoop, s.atimeLoop} {
		s.done.Go(work)
	}
	return s.PolicyChanged()
}

// Close commits and syncs what is there and ends the work in the background. No
// call may be under way. Nothing is lost if ctx ends first: what was not sealed is when the
// vault is next opened.
func (s *FS) Close(ctx context.Context) error {
	s.cancel()
	s.done.Wait()
	err := errors.Join(s.dropBlanks(), s.keepAtimes(), s.settleAll(ctx))
	return errors.Join(err, s.dropBodies(ctx), s.bodies.Close())
}

// syncLoop bounds how far the ledger runs ahead of the disk, and removes what the
// ledger durably does not need.
func (s *FS) syncLoop() {
	t := time.NewTicker(syncEvery)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
		if s.db.Position() != s.db.Synced() {
			if err := s.db.Sync(s.ctx, s.db.Position()); err != nil && s.ctx.Err() == nil {
				s.log.WithError(err).Error("sync the ledger")
				continue
			}
		}
		if err := s.dropBodies(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.WithError(err).Error("remove bodies that are not needed any more")
		}
		if s.sealer.idle() && !s.router.Busy() {
			if err := s.bodies.Prepare(min(sparesAtOnce, s.blanks.wanted)); err != nil {
				s.log.WithError(err).Debug("make files for bodies ahead of use")
			}
		}
	}
}

// retryLoop tries again, from time to time and when the router says that nodes
// changed, what found too little space.
func (s *FS) retryLoop() {
	t := time.NewTicker(retryUnplaced)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		case <-s.retry:
		}
		s.retryAll(s.ctx)
	}
}

// kick wakes a loop that may be asleep.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
