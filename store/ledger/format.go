package ledger

import (
	"time"

	bolt "go.etcd.io/bbolt"
)

// format is the version in which updates are written.
func (db *DB) format() uint32 { return db.journal.version.Load() }

// raise brings the ledger's format up to the newest, for the first update that an older program
// could not read. Such a program refuses the ledger from then on; one that never needs the
// format keeps the old one, so that what only reads a vault, or an index of a store, leaves it as
// it is. Nothing in the table is written anew.
func (db *DB) raise() error {
	db.backups.making.Lock()
	defer db.backups.making.Unlock()
	if db.format() == FormatVersion {
		return nil
	}
	if now := time.Now(); db.options.KeepJournal > 0 && db.Position() > 0 && db.backupDue(now) {
		b, err := db.keepBackupAt(now)
		switch {
		case err == nil:
			db.log.WithField("backup", b.Path).Info("the ledger is backed up before its format is raised")
		case isFull(err):
			// The way back to an older program is worth less than what is being written.
			db.log.WithError(err).Warn("no room for a backup of the ledger before its format is raised")
		default:
			return err
		}
	}
	db.writing.Lock()
	defer db.writing.Unlock()
	if db.isClosed() {
		return db.closedError("update ledger")
	}
	db.folding.Lock()
	defer db.folding.Unlock()
	err := db.table.raise()
	if isFull(err) && db.ballast.release(db.log) {
		err = db.table.raise()
	}
	if err != nil {
		return diskError("update ledger", db.dir, err)
	}
	// The table says so durably before the first segment does.
	db.journal.version.Store(FormatVersion)
	return nil
}

func (t *table) raise() error {
	return t.update(func(tx *bolt.Tx) error {
		m, err := getMeta(tx)
		if err != nil {
			return err
		}
		m.version = FormatVersion
		return putMeta(tx, m)
	})
}
