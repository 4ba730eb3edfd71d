package ledger

import (
	"context"
	"errors"

	"stasis/store"
)

// checkpoint is the work of the checkpointer: it folds everything there is when
// it is called, in one or two generations.
func (db *DB) checkpoint() error {
	err := db.foldUpTo(db.Position())
	db.steward.kick()
	return err
}

// foldUpTo folds generations until bbolt has every update up to p.
func (db *DB) foldUpTo(p Position) error {
	db.folding.Lock()
	defer db.folding.Unlock()
	for Position(db.folded.Load()) < p {
		g := db.seal()
		if g == nil {
			return nil
		}
		if err := db.fold(g); err != nil {
			return diskError("fold ledger", db.dir, err)
		}
	}
	return nil
}

// seal gives the generation to fold: the one that an earlier attempt left, or
// the active one, which is then active no more. nil if there is nothing.
func (db *DB) seal() *generation {
	db.view.Lock()
	defer db.view.Unlock()
	if db.sealed == nil && !db.active.empty() {
		db.sealed, db.active = db.active, newGeneration()
	}
	return db.sealed
}

// fold folds the sealed generation. The caller holds folding.
func (db *DB) fold(g *generation) error {
	if f := db.options.beforeFold; f != nil {
		if err := f(); err != nil {
			return err
		}
	}
	// bbolt must not get ahead of the journal on the disk: a restore replays the
	// journal from a backup on, without gaps. Where the journal can't be synced the fold
	// goes on all the same, being then the only thing that can make the updates durable.
	if _, err := db.journal.sync(Position(db.folded.Load())); err != nil {
		db.log.WithError(err).Error("the ledger's journal could not be synced before a checkpoint")
	}
	err := db.table.fold(g)
	if isFull(err) && db.ballast.release(db.log) {
		err = db.table.fold(g)
	}
	if err != nil {
		return err
	}
	db.view.Lock()
	db.folded.Store(uint64(g.last))
	db.sealed = nil
	db.view.Unlock()
	db.journal.advance(g.last)
	return nil
}

// pressure says how full the overlay is: more than part of what is allowed.
func (db *DB) pressure(part int64) bool {
	db.view.RLock()
	defer db.view.RUnlock()
	memory, journal := db.active.bytes, db.active.journal
	if db.sealed != nil {
		memory += db.sealed.bytes
		journal += db.sealed.journal
	}
	return memory >= db.options.Overlay/part || journal >= db.options.Segment*unfoldedSegments/part
}

// admit waits while the overlay is full, with a bound.
func (db *DB) admit() error {
	if !db.pressure(1) {
		return nil
	}
	ctx, cancel := boundedContext(MaxUpdateWait)
	defer cancel()
	for db.pressure(1) {
		err := db.checkpointer.join(ctx)
		if err == nil {
			continue
		}
		e := &store.Error{
			Kind: kindOr(err, store.Unavailable), Op: "update ledger", Subject: db.dir,
			Detail: "the overlay is full and can't be folded", Err: err,
		}
		if errors.Is(err, context.DeadlineExceeded) {
			e.Detail, e.Err = "the checkpointer has been busy for "+MaxUpdateWait.String(), nil
			e.Hint = "look at the disk that holds the ledger"
		}
		return e
	}
	return nil
}

// tidy is the work of the steward: it gives up segments, prepares the next one,
// re-makes the ballast, and gives back the memory that reads of the table have taken.
func (db *DB) tidy() error {
	position, has := db.backups.newest()
	err := db.journal.tidy(Position(db.folded.Load()), position, has && db.options.KeepJournal > 0, db.options.KeepJournal)
	if err != nil && isFull(err) {
		// An update that needs the segment releases the ballast; this can wait.
		db.log.WithError(err).Debug("no room to prepare the ledger's next journal segment")
	} else if err != nil {
		db.log.WithError(err).Warn("the ledger's journal could not be tidied")
	}
	if ballastErr := db.ballast.ensure(db.log); ballastErr != nil {
		db.log.WithError(ballastErr).Warn("the ledger's ballast could not be made")
		err = errors.Join(err, ballastErr)
	}
	if unmapErr := db.table.unmap(); unmapErr != nil {
		// It is the system's to take back in any case, when it runs short.
		db.log.WithError(unmapErr).Debug("the memory of the ledger's table could not be given back")
	}
	return err
}
