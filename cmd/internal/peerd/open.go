package peerd

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/cmd/internal/config"
	"stasis/peer/identity"
	"stasis/store"
	"stasis/store/ledger"
)

// Options say how to open a peer.
type Options struct {
	// State is the state directory, absolute and free of symlinks.
	State string
	// Create makes a new peer where there is none.
	Create bool
	// TakeOver is a person's decision that this state directory may use the node although a
	// copy of it used that last.
	TakeOver bool
	Log      logrus.FieldLogger
}

// Peer is an open peer. Handle may be called concurrently.
type Peer struct {
	o        Options
	log      logrus.FieldLogger
	identity identity.Identity
	leaf     store.NodeID
	ledger   *ledger.DB
	settings atomic.Pointer[config.Config]
	editing  sync.Mutex // held while peer.toml is edited
	keeper   *keeper
	servers  []running
	serving  sync.WaitGroup

	ctx     context.Context // ends when Close begins
	cancel  context.CancelFunc
	work    sync.WaitGroup
	closers []func(context.Context) error // in the order in which things were opened
}

// Open opens the peer of a state directory, without its node. Conflict if another process
// has it.
func Open(ctx context.Context, o Options) (*Peer, error) {
	p := &Peer{o: o, log: o.Log}
	p.keeper = newKeeper(p)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	err := p.takeState(ctx)
	if err == nil {
		p.ledger, err = ledger.Open(p.ledgerPath(), ledger.Options{Log: p.log, State: o.State})
	}
	if err != nil {
		return nil, errors.Join(err, p.Close(context.WithoutCancel(ctx)))
	}
	p.closers = append(p.closers, func(context.Context) error { return p.ledger.Close() })
	return p, nil
}

// Start opens the node and looks after it until Close. That it is away is no error: the
// peer goes on without.
func (p *Peer) Start(ctx context.Context) error {
	err := p.keeper.look(ctx)
	if err != nil && !errors.Is(err, store.Unavailable) {
		return err
	}
	if err != nil {
		p.log.WithError(err).Warn("the node is away; it is looked for again and again")
	}
	p.work.Go(p.keeper.run)
	p.work.Go(p.backupLoop)
	return nil
}

// Close ends the work, waits for what is under way as long as ctx lives, and gives the
// state directory free. Nothing that was acknowledged is lost if ctx ends first.
func (p *Peer) Close(ctx context.Context) error {
	p.cancel()
	p.work.Wait()
	// What the servers wait for ends with the node's sessions.
	drained := p.drain(ctx)
	errs := p.keeper.close(ctx)
	<-drained
	p.serving.Wait()
	for len(p.closers) > 0 {
		last := len(p.closers) - 1
		errs = errors.Join(errs, p.closers[last](ctx))
		p.closers = p.closers[:last]
	}
	return errs
}

// backupLoop has the ledger backed up once a day.
func (p *Peer) backupLoop() {
	t := time.NewTicker(backupPoll)
	defer t.Stop()
	for {
		if b, made, err := p.ledger.BackupIfDue(time.Now()); err != nil {
			p.log.WithError(err).Warn("the daily backup of the ledger failed; it is tried again")
		} else if made {
			p.log.WithField("file", b.Path).Info("the ledger was backed up")
		}
		select {
		case <-p.ctx.Done():
			return
		case <-t.C:
		}
	}
}
