package ledger

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/store"
)

// DB is an open ledger. All methods may be called concurrently.
//
// Lock order: writing, folding, the journal's locks, view.
type DB struct {
	dir     string
	options Options
	log     logrus.FieldLogger
	lock    *os.File
	fs      files
	lineage lineage
	// restored: it began as a copy of a backup.
	restored bool
	table    *table
	journal  *journal
	ballast  *ballast
	spaces   [spaces]Space

	// writing is held while an update runs: updates are serial.
	writing sync.Mutex
	// folding is held while a generation is folded into bbolt.
	folding sync.Mutex

	view   sync.RWMutex // guards what follows
	active *generation
	sealed *generation // being folded, or waiting for another attempt; nil if none
	closed bool

	position atomic.Uint64 // of the last update applied
	folded   atomic.Uint64 // bbolt has everything up to it, synced; changes under view

	backups backupState

	syncer, checkpointer, steward *worker
	closing                       sync.Once
	closeErr                      error
}

// Space is one key space of a DB.
type Space struct {
	db *DB
	id SpaceID
}

// Space gives one of the two key spaces.
func (db *DB) Space(id SpaceID) *Space {
	if !validSpace(id) {
		// Its operations answer Invalid.
		return &Space{db: db, id: id}
	}
	return &db.spaces[id-1]
}

// UpdateKeys is how many keys one update may write.
func (db *DB) UpdateKeys() int { return db.options.UpdateKeys }

// Lineage names the history of updates that this is: a restore begins another.
func (db *DB) Lineage() string { return hex.EncodeToString(db.lineage[:]) }

// Restored reports whether this history began with a restore.
func (db *DB) Restored() bool { return db.restored }

// Position is that of the last update.
func (db *DB) Position() Position { return Position(db.position.Load()) }

// Synced is the position up to which a power cut loses nothing.
func (db *DB) Synced() Position { return Position(db.journal.synced.Load()) }

// Sync returns when every update up to p survives a power cut. Concurrent
// callers share one fdatasync. When ctx ends first the sync goes on and its outcome
// is not known. An error means that the updates are safe from the death of the process
// only; asking again tries again.
func (db *DB) Sync(ctx context.Context, p Position) error {
	if p > db.Position() {
		return invalid("sync ledger", "position %d is ahead of the last update, %d", p, db.Position())
	}
	if db.Synced() >= p {
		return ctx.Err()
	}
	return diskError("sync ledger", db.dir, db.syncer.join(ctx))
}

// syncRound is the work of the syncer.
func (db *DB) syncRound() error {
	for turn := 1; ; turn++ {
		need, err := db.journal.sync(Position(db.folded.Load()))
		if err != nil {
			db.log.WithError(err).Error("the ledger's journal could not be synced; folding it into the table instead")
		}
		if need == 0 {
			break
		}
		if turn == maxSyncTurns {
			return err
		}
		// The fold's own syncs, in another file, make up for what the journal can't vouch
		// for. The journal then vouches for what came later: hence another turn.
		if err := db.foldUpTo(need); err != nil {
			return err
		}
	}
	if err := db.journal.mark(); err != nil {
		// The mark only helps to tell damage from a torn tail; the sync itself is good.
		db.log.WithError(err).Warn("the ledger's sync could not be recorded")
	}
	return nil
}

// Check reads everything that is in bbolt and verifies it: checksums, order, and
// that no entry has vanished. It returns a Corrupt for damage, and ends early when ctx
// does or the ledger is closed.
func (db *DB) Check(ctx context.Context) error {
	if db.isClosed() {
		return db.closedError("check ledger")
	}
	return db.table.check(func() error {
		if db.isClosed() {
			return db.closedError("check ledger")
		}
		return ctx.Err()
	})
}

func (db *DB) isClosed() bool {
	db.view.RLock()
	defer db.view.RUnlock()
	return db.closed
}

// Close folds what it can into bbolt, syncs, and gives up the files and the lock.
// An error means that updates since Synced would not survive a power cut; the
// death of the process they survive in any case.
func (db *DB) Close() error {
	db.closing.Do(func() { db.closeErr = db.close() })
	return db.closeErr
}

// Abandon is Close for a ledger whose directory has come to hold other files than those it
// has open: it gives up files and lock, and makes, cuts and removes nothing there.
func (db *DB) Abandon() error {
	db.closing.Do(func() { db.closeErr = db.abandon() })
	return db.closeErr
}

// refuse refuses further updates and ends what folds and tidies in the background.
func (db *DB) refuse() (why error) {
	db.writing.Lock()
	db.view.Lock()
	db.closed = true
	db.view.Unlock()
	db.writing.Unlock()

	why = db.closedError("sync ledger")
	db.steward.end(why)
	db.checkpointer.end(why)
	return why
}

func (db *DB) abandon() error {
	db.syncer.end(db.refuse())
	return diskError("abandon ledger", db.dir, errors.Join(db.journal.close(), db.table.close(), db.lock.Close()))
}

func (db *DB) close() error {
	why := db.refuse()
	foldErr := db.foldUpTo(db.Position())
	db.syncer.end(why)
	err := db.journal.finish(Position(db.folded.Load()))
	if db.Synced() < db.Position() {
		err = errors.Join(err, foldErr)
	} else if foldErr != nil {
		db.log.WithError(foldErr).Warn("the ledger was closed with its journal not folded")
	}
	err = errors.Join(err, db.journal.close(), db.table.close(), db.lock.Close())
	return diskError("close ledger", db.dir, err)
}

// discardLog is for a DB without a log.
func discardLog() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// boundedContext bounds a wait that has no context of its own.
func boundedContext(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// kindOr gives err's kind, or other if it has none.
func kindOr(err error, other store.Kind) store.Kind {
	if k := store.KindOf(err); k != 0 {
		return k
	}
	return other
}
