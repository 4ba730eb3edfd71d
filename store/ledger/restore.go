package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stasis/store"
)

const (
	restoreLedger = "restore ledger"
	restoreTemp   = "restore.tmp"
	// restoredName is a restored table that is complete and has not taken its place.
	// That the name is there decides the restore: whoever finds it carries it through.
	restoredName = "restored.db"
	asidePrefix  = "replaced-"
)

// Restore rebuilds the ledger in dir from a backup and replays the journals
// kept since it. The ledger must not be open: Conflict. What was there is set
// aside, not deleted. Until the new ledger is complete the old one is untouched, and a
// restore that is interrupted after that is carried through by the next Open.
func Restore(dir, backup string) (r Restored, err error) {
	if err := makeDir(dir); err != nil {
		return r, diskError(restoreLedger, dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return r, err
	}
	defer func() { err = diskError(restoreLedger, dir, errors.Join(err, lock.Close())) }()
	if _, err := finishRestore(dir); err != nil {
		return r, err
	}
	// Its room may be what the copy needs; the next Open makes it again.
	if err := ignoreAbsent(os.Remove(filepath.Join(dir, ballastName))); err != nil {
		return r, err
	}
	temp := filepath.Join(dir, restoreTemp)
	if err := ignoreAbsent(os.Remove(temp)); err != nil {
		return r, err
	}
	if r, err = rebuild(dir, temp, backup); err != nil {
		return r, errors.Join(err, ignoreAbsent(os.Remove(temp)))
	}
	if err := os.Rename(temp, filepath.Join(dir, restoredName)); err != nil {
		return r, err
	}
	if err := syncDir(dir); err != nil {
		return r, err
	}
	r.Aside, err = finishRestore(dir)
	return r, err
}

// rebuild makes the restored table at temp, durable.
func rebuild(dir, temp, backup string) (r Restored, err error) {
	was, err := copyBackup(dir, temp, backup)
	if err != nil {
		return r, err
	}
	r = Restored{Backup: was.position, Reached: was.position, Expected: was.position}
	// What the replaced table says of itself, if it can still be read, tells of updates
	// whose journals were given up.
	if m, err := readTableMeta(filepath.Join(dir, tableName)); err == nil {
		r.Expected = max(r.Expected, m.position)
	}
	return r, replayOnto(dir, temp, was, &r)
}

// copyBackup copies a backup to temp, checked, as the beginning of a new lineage. It
// gives what the backup says of itself.
func copyBackup(dir, temp, backup string) (was tableMeta, err error) {
	defer func() {
		if err == nil || isFull(err) {
			return
		}
		e := &store.Error{Kind: kindOr(err, store.Unavailable), Op: restoreLedger, Subject: "from " + backup, Err: err}
		if errors.Is(err, fs.ErrNotExist) {
			e.Kind = store.NotFound
		} else if e.Kind == store.Corrupt {
			e.Hint = "choose another backup; those that the ledger made are in " + filepath.Join(dir, backupsDir)
		}
		err = e
	}()
	from, err := openTable(backup, tableOptions{readOnly: true})
	if err != nil {
		return was, err
	}
	if was, err = from.meta(); err != nil {
		return was, errors.Join(err, from.close())
	}
	_, err = from.copyTo(temp, func(m *tableMeta) {
		m.lineage, m.made = newLineage(), time.Now().UnixNano()
	}, func() error { return nil })
	return was, errors.Join(err, from.close())
}

// replayOnto folds the updates of the journals in dir that continue the backup
// into the table at temp.
func replayOnto(dir, temp string, was tableMeta, r *Restored) error {
	all, err := openSegments(osFiles{dir})
	if err != nil {
		return err
	}
	closeAll := func(err error) error { return errors.Join(err, closeSegments(all)) }
	to, err := openTable(temp, tableOptions{})
	if err != nil {
		return closeAll(err)
	}
	g := newGeneration()
	flush := func() error {
		if g.empty() {
			return nil
		}
		err := to.fold(g)
		g = newGeneration()
		return err
	}
	related, foreign := r.sort(all, was.lineage)
	y := replay{base: was.position}
	err = y.run(related, func(p Position, c []change) error {
		g.apply(p, c)
		if g.bytes < SmallOverlay {
			return nil
		}
		return flush()
	})
	if store.KindOf(err) == store.Corrupt {
		// What came before the damage is kept; the person is told of the rest.
		y.damage, err = err.Error(), nil
	}
	err = errors.Join(err, flush(), to.close())
	r.Reached = max(r.Reached, y.reached)
	r.Expected = max(r.Expected, y.seen, y.synced)
	if y.damage != "" {
		r.Damage = y.damage
	}
	r.count(foreign)
	if r.Expected > r.Reached && r.Damage == "" {
		r.Damage = fmt.Sprintf("the journals of updates %d to %d are not there", r.Reached+1, r.Expected)
	}
	return closeAll(err)
}

// sort tells the segments of a lineage from others, and notes those that can't be
// read.
func (r *Restored) sort(all []*segment, l lineage) (related, foreign []*segment) {
	for _, s := range all {
		switch {
		case s.unreadable:
			r.Damage = "the header of " + s.name + " is damaged"
		case s.header.lineage != l:
			foreign = append(foreign, s)
		default:
			related = append(related, s)
		}
	}
	return related, foreign
}

// count takes into account what segments of another lineage held, as far as they
// can be read.
func (r *Restored) count(foreign []*segment) {
	var y replay
	// Of these only the positions are wanted: an error leaves those that came before.
	_ = y.run(foreign, func(Position, []change) error { return nil })
	if y.seen > r.Reached {
		r.Expected = max(r.Expected, y.seen)
		r.Damage = fmt.Sprintf("%d journals were written after another restore and do not continue this backup", len(foreign))
	}
}

// asideOf names the directory for what a restored table replaces: the same
// whenever it is asked, and another for each restore.
func asideOf(dir string, m tableMeta) string {
	return filepath.Join(dir, fmt.Sprintf("%s%s-%x", asidePrefix, time.Unix(0, m.made).UTC().Format(backupStamp), m.lineage[:4]))
}

// finishRestore carries a restore through whose table is complete: it sets aside
// what was there and puts the table in its place. It gives the directory with what
// was set aside, empty if nothing was or no restore was under way. Doing it again after
// an interruption comes to the same.
func finishRestore(dir string) (aside string, err error) {
	restored := filepath.Join(dir, restoredName)
	if _, err := os.Stat(restored); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	m, err := readTableMeta(restored)
	if err != nil {
		return "", err
	}
	aside = asideOf(dir, m)
	names, err := osFiles{dir}.List()
	if err != nil {
		return "", err
	}
	moved := false
	for _, name := range names {
		if name != tableName && !strings.HasPrefix(name, segmentPrefix) {
			continue
		}
		if err := makeDir(aside); err != nil {
			return "", err
		}
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(aside, name)); err != nil {
			return "", err
		}
		moved = true
	}
	if moved {
		if err := errors.Join(syncDir(aside), syncDir(dir)); err != nil {
			return "", err
		}
	} else if _, err := os.Stat(aside); errors.Is(err, fs.ErrNotExist) {
		aside = ""
	}
	if err := os.Rename(restored, filepath.Join(dir, tableName)); err != nil {
		return "", err
	}
	return aside, syncDir(dir)
}
