package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"stasis/store"
)

const (
	tableTemp  = "ledger.tmp"
	openLedger = "open ledger"
)

// filled gives the options with the defaults in the place of zeros.
func (o Options) filled(dir string) (Options, error) {
	if o.Log == nil {
		o.Log = discardLog()
	}
	if o.State == "" {
		o.State = filepath.Dir(filepath.Clean(dir))
	}
	for _, size := range []struct {
		value *int64
		usual int64
	}{
		{&o.Segment, DefaultSegment}, {&o.Overlay, DefaultOverlay},
		{&o.Ballast, DefaultBallast}, {&o.KeepJournal, DefaultKeepJournal},
	} {
		if *size.value == 0 {
			*size.value = size.usual
		}
	}
	if o.UpdateKeys == 0 {
		o.UpdateKeys = MaxUpdateKeys
	}
	if o.UpdateKeys < 1 || o.UpdateKeys > MaxUpdateKeys {
		return o, invalid(openLedger, "updates of %d keys; 1 to %d are possible", o.UpdateKeys, MaxUpdateKeys)
	}
	if o.Segment < minSegment {
		return o, invalid(openLedger, "a segment of %d bytes; at least %d are needed", o.Segment, int64(minSegment))
	}
	if o.Overlay < minOverlay {
		return o, invalid(openLedger, "an overlay of %d bytes; at least %d are needed", o.Overlay, int64(minOverlay))
	}
	if o.files == nil {
		o.files = osFiles{dir}
	}
	return o, nil
}

// small tells the ledger of a store's index from that of a vault.
func (o Options) small() bool { return o.Overlay <= SmallOverlay }

// Open opens the ledger in dir and creates it where dir is absent or empty.
// Conflict if another process has it open, Corrupt if it is damaged before the
// last recorded sync, Invalid if a newer program wrote it. It needs no room on the
// disk for a ledger that exists.
func Open(dir string, o Options) (*DB, error) {
	o, err := o.filled(dir)
	if err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, diskError(openLedger, dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	db, err := openLocked(dir, o)
	if err != nil {
		return nil, errors.Join(advise(err, dir, o), lock.Close())
	}
	db.lock = lock
	db.start()
	return db, nil
}

// makeDir makes a directory with a durable name.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}

// openLocked opens what is in dir. The caller holds the lock.
func openLocked(dir string, o Options) (db *DB, err error) {
	if _, err := finishRestore(dir); err != nil {
		return nil, diskError(openLedger, dir, err)
	}
	t, m, err := openOrCreate(dir, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	db = &DB{dir: dir, options: o, log: o.Log, fs: o.files, table: t, lineage: m.lineage, restored: m.made != 0}
	for i := range db.spaces {
		db.spaces[i] = Space{db: db, id: SpaceID(i + 1)}
	}
	db.position.Store(uint64(m.position))
	db.folded.Store(uint64(m.position))
	db.active = newGeneration()
	if db.journal, err = openJournal(o, m, db.active); err != nil {
		return nil, diskError(openLedger, dir, err)
	}
	db.position.Store(uint64(db.journal.last))
	if err := db.findBackups(); err != nil {
		return nil, errors.Join(diskError(openLedger, dir, err), db.journal.close())
	}
	db.ballast = &ballast{fs: o.files, size: o.Ballast}
	if err := db.ballast.find(); err != nil {
		return nil, errors.Join(diskError(openLedger, dir, err), db.journal.close())
	}
	return db, nil
}

// start begins the background work.
func (db *DB) start() {
	db.syncer = startWorker(0, false, db.syncRound)
	db.steward = startWorker(tidyEvery, false, db.tidy)
	db.checkpointer = startWorker(checkpointEvery, true, db.checkpoint)
	db.journal.onRotate = db.steward.kick
	db.steward.kick()
	if !db.active.empty() {
		db.checkpointer.kick()
	}
}

// openOrCreate opens the table and makes a new one where there never was one.
func openOrCreate(dir string, o Options) (t *table, m tableMeta, err error) {
	path := filepath.Join(dir, tableName)
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(dir, o); err != nil {
			return nil, m, diskError("create ledger", dir, err)
		}
	case err != nil:
		return nil, m, diskError(openLedger, path, err)
	case st.Size() < minTable:
		// bbolt would take an empty file for one to begin.
		return nil, m, &store.Error{Kind: store.Corrupt, Op: openLedger, Subject: path, Detail: fmt.Sprintf("only %d bytes are left of the file", st.Size())}
	}
	if t, err = openTable(path, tableOptions{small: o.small()}); err != nil {
		return nil, m, err
	}
	if m, err = t.meta(); err != nil {
		return nil, m, errors.Join(err, t.close())
	}
	return t, m, nil
}

// create makes an empty table under its name. Journals or backups without a table
// are what is left of a ledger, not the absence of one.
func create(dir string, o Options) error {
	names, err := o.files.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := segmentNumber(name); ok || name == backupsDir || strings.HasPrefix(name, asidePrefix) {
			return &store.Error{
				Kind: store.Corrupt, Op: openLedger, Subject: filepath.Join(dir, tableName),
				Detail: "the file is missing beside " + name,
			}
		}
	}
	temp := filepath.Join(dir, tableTemp)
	if err := ignoreAbsent(os.Remove(temp)); err != nil {
		return err
	}
	if err := createTable(temp, o.small(), tableMeta{version: formatFirst, lineage: newLineage()}); err != nil {
		return errors.Join(err, ignoreAbsent(os.Remove(temp)))
	}
	if err := os.Rename(temp, filepath.Join(dir, tableName)); err != nil {
		return err
	}
	return syncDir(dir)
}

// advise adds to a refusal for damage what the person can do about it.
func advise(err error, dir string, o Options) error {
	if store.KindOf(err) != store.Corrupt || o.KeepJournal < 0 {
		return err
	}
	hint := "there is no backup in " + filepath.Join(dir, backupsDir) + "; if you have one elsewhere run `stasis restore " + o.State + " BACKUP`"
	if all, listErr := readBackups(dir); listErr == nil && len(all) > 0 {
		hint = "run `stasis restore " + o.State + " " + all[0].Path + "`: it goes back to the newest backup, of " +
			all[0].Time.Local().Format("2006-01-02 15:04") + ", and replays the journals kept since"
	}
	out := &store.Error{Kind: store.Corrupt, Op: openLedger, Subject: dir, Err: err, Hint: hint}
	var e *store.Error
	if errors.As(err, &e) && e.Op == openLedger && e.Detail != "" {
		// One sentence says it as well as two.
		out.Detail, out.Err = e.Detail, e.Err
		if e.Subject != "" {
			out.Detail = e.Subject + ": " + e.Detail
		}
	}
	return out
}
