package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"stasis/store"
)

const (
	backupsDir   = "backups"
	backupSuffix = ".backup"
	tempSuffix   = ".tmp"
	backupLedger = "back up ledger"
	// backupStamp is how a backup's name gives its time, in UTC.
	backupStamp = "20060102T150405Z"
)

// backupState is what the ledger knows of the backups in its own directory.
type backupState struct {
	making sync.Mutex // held while one is made

	mu   sync.Mutex // guards what follows
	last *Backup    // the newest of this lineage; nil if none
}

// newest gives the position of the newest backup that the journals continue from.
func (s *backupState) newest() (Position, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return 0, false
	}
	return s.last.Position, true
}

func (db *DB) findBackups() error {
	all, err := readBackups(db.dir)
	for _, b := range all {
		if b.lineage == db.lineage {
			db.backups.last = &b.Backup
			break
		}
	}
	return err
}

// Backup writes a consistent, compact copy of the ledger to path, which must not
// exist, while updates go on. Everything in it has been read and checked. When it
// returns the file is complete and durable; after an error it is absent.
func (db *DB) Backup(path string) error {
	_, err := db.backup(path, time.Now())
	return err
}

func (db *DB) backup(path string, now time.Time) (b Backup, err error) {
	if db.isClosed() {
		return b, db.closedError(backupLedger)
	}
	if _, err := os.Lstat(path); err == nil {
		return b, &store.Error{Kind: store.Conflict, Op: backupLedger, Subject: "to " + path, Detail: "the file exists"}
	}
	if err := db.foldUpTo(db.Position()); err != nil {
		return b, err
	}
	temp := path + tempSuffix
	if err := ignoreAbsent(os.Remove(temp)); err != nil {
		return b, diskError(backupLedger, "to "+path, err)
	}
	defer func() {
		if err != nil {
			err = diskError(backupLedger, "to "+path, errors.Join(err, ignoreAbsent(os.Remove(temp))))
		}
	}()
	m, err := db.table.copyTo(temp, func(m *tableMeta) { m.made = now.UnixNano() }, func() error {
		if db.isClosed() {
			return db.closedError(backupLedger)
		}
		return nil
	})
	if err != nil {
		return b, err
	}
	st, err := os.Stat(temp)
	if err != nil {
		return b, err
	}
	if err := os.Rename(temp, path); err != nil {
		return b, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return b, errors.Join(err, ignoreAbsent(os.Remove(path)))
	}
	return Backup{Path: path, Position: m.position, Time: time.Unix(0, m.made), Size: st.Size()}, nil
}

// copyTo writes the table's entries, checked, into a new durable table at path,
// with a description that change may alter. stop is asked now and then.
func (t *table) copyTo(path string, change func(*tableMeta), stop func() error) (m tableMeta, err error) {
	err = t.view(func(tx *bolt.Tx) error {
		if m, err = getMeta(tx); err != nil {
			return err
		}
		change(&m)
		to, err := openTable(path, tableOptions{small: true, noSync: true})
		if err != nil {
			return err
		}
		for i := range spaces {
			if err == nil {
				err = to.copySpace(tx, SpaceID(i+1), m.tallies[i], stop)
			}
		}
		if err == nil {
			err = to.update(func(tx *bolt.Tx) error {
				if _, err := tx.CreateBucketIfNotExists(metaBucket); err != nil {
					return err
				}
				return putMeta(tx, m)
			})
		}
		if err == nil {
			err = to.guard(to.b.Sync)
		}
		return errors.Join(err, to.close())
	})
	return m, err
}

// copySpace copies one space in batches.
func (t *table) copySpace(from *bolt.Tx, id SpaceID, want tally, stop func() error) error {
	var keys, entries [][]byte
	size := 0
	flush := func() error {
		if err := stop(); err != nil {
			return err
		}
		err := t.update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucketNames[id-1])
			if err != nil {
				return err
			}
			// Keys come in order: pages can be filled to the brim.
			b.FillPercent = 1
			for i := range keys {
				if err := b.Put(keys[i], entries[i]); err != nil {
					return err
				}
			}
			return nil
		})
		keys, entries, size = keys[:0], entries[:0], 0
		return err
	}
	err := each(from, id, want, func(key, entry []byte) error {
		keys, entries = append(keys, key), append(entries, entry)
		if size += len(key) + len(entry); size < copyBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// keepBackup makes a backup in the ledger's own directory.
func (db *DB) keepBackup() (Backup, error) {
	return db.keepBackupAt(time.Now())
}

func (db *DB) keepBackupAt(now time.Time) (Backup, error) {
	dir := filepath.Join(db.dir, backupsDir)
	if err := makeDir(dir); err != nil {
		return Backup{}, diskError(backupLedger, "to "+dir, err)
	}
	// Position and lineage make names of one second differ where the content does.
	name := fmt.Sprintf("%s-%d-%x%s", now.UTC().Format(backupStamp), db.Position(), db.lineage[:4], backupSuffix)
	path := filepath.Join(dir, name)
	b, err := db.backup(path, now)
	if store.KindOf(err) == store.Conflict {
		var there foundBackup
		there, err = readBackup(path)
		b = there.Backup
	}
	if err != nil {
		return b, err
	}
	db.backups.mu.Lock()
	db.backups.last = &b
	db.backups.mu.Unlock()
	return b, nil
}

// BackupIfDue makes a backup in the ledger's backups directory if the newest is
// older than BackupEvery, if the journals do not continue it, or if they have grown
// long since; and prunes the oldest beyond KeepBackups. It reports whether it made
// one. The caller decides when to ask; asking often costs little. A ledger that keeps
// no journal is never due.
func (db *DB) BackupIfDue(now time.Time) (Backup, bool, error) {
	if db.options.KeepJournal < 0 {
		return Backup{}, false, nil
	}
	db.backups.making.Lock()
	defer db.backups.making.Unlock()
	if !db.backupDue(now) {
		return Backup{}, false, nil
	}
	b, err := db.keepBackupAt(now)
	if err != nil {
		return b, false, err
	}
	db.steward.kick()
	return b, true, db.prune()
}

func (db *DB) backupDue(now time.Time) bool {
	db.backups.mu.Lock()
	last := db.backups.last
	db.backups.mu.Unlock()
	// A time in the future is that of a clock that was wrong.
	if last == nil || now.Sub(last.Time) >= BackupEvery || last.Time.Sub(now) >= BackupEvery {
		return true
	}
	kept, continues := db.journal.kept(last.Position)
	return !continues || kept > db.options.KeepJournal/backupPart
}

// prune removes the oldest backups, never one that can't be read: it may not be ours.
func (db *DB) prune() error {
	all, err := readBackups(db.dir)
	if err != nil {
		return diskError("remove old backups", db.dir, err)
	}
	for i := KeepBackups; i < len(all); i++ {
		if err := ignoreAbsent(os.Remove(all[i].Path)); err != nil {
			return diskError("remove backup", all[i].Path, err)
		}
	}
	return nil
}

// Backups lists the backups that the ledger in dir has made, newest first. A file
// that can't be read as a backup is left out.
func Backups(dir string) ([]Backup, error) {
	all, err := readBackups(dir)
	out := make([]Backup, 0, len(all))
	for _, b := range all {
		out = append(out, b.Backup)
	}
	return out, diskError("list backups", dir, err)
}

// foundBackup is a backup with what ties it to journals.
type foundBackup struct {
	Backup
	lineage lineage
}

func readBackups(dir string) (out []foundBackup, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, backupsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != backupSuffix || !e.Type().IsRegular() {
			continue
		}
		if b, err := readBackup(filepath.Join(dir, backupsDir, e.Name())); err == nil {
			out = append(out, b)
		}
	}
	slices.SortStableFunc(out, func(a, b foundBackup) int { return b.Time.Compare(a.Time) })
	return out, nil
}

func readBackup(path string) (b foundBackup, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return b, err
	}
	m, err := readTableMeta(path)
	b.Backup = Backup{Path: path, Position: m.position, Time: time.Unix(0, m.made), Size: st.Size()}
	b.lineage = m.lineage
	return b, err
}

// readTableMeta reads the description of a table that is not open.
func readTableMeta(path string) (m tableMeta, err error) {
	t, err := openTable(path, tableOptions{small: true, readOnly: true})
	if err != nil {
		return m, err
	}
	m, err = t.meta()
	return m, errors.Join(err, t.close())
}
