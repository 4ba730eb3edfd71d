package directory

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// sweep puts in order what a stop in the middle of something has left: it ends or
// undoes intents and adoptions, unlinks what is marked, empties tmp/. After a clean
// stop there is nothing to do. Nobody else uses the store yet.
func (s *Store) sweep() error {
	if err := s.sweepTemp(); err != nil {
		return err
	}
	if err := s.sweepAdoptions(); err != nil {
		return err
	}
	if err := s.sweepIntents(); err != nil {
		return err
	}
	return s.sweepMarks()
}

// sweepTemp removes every file from tmp/.
func (s *Store) sweepTemp() error {
	d, err := openAt(s.tree.temp, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			if err := removeAt(s.tree.temp, name); err != nil {
				// Room is lost until the next open, nothing else.
				s.log.WithError(err).Warn("a left-over file could not be removed")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// sweepIntents removes the files of crates that never came to be.
func (s *Store) sweepIntents() error {
	var ids []store.CrateID
	var keys [][]byte
	err := s.index.each(keyIntent, func(number, v []byte) error {
		files, err := parseIntent(v)
		if err != nil {
			return err
		}
		keys = append(keys, key(keyIntent, number))
		for _, f := range files {
			if _, there, err := s.index.find(f.id); err != nil || there {
				if err != nil {
					return err
				}
				continue
			}
			if err := s.tree.remove(f.id, f.form); err != nil {
				return err
			}
			if err := s.index.dropChunks(f.id); err != nil {
				return err
			}
			ids = append(ids, f.id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.settle(ids, keys)
}

// settle syncs the directories of these crates, then forgets these entries.
func (s *Store) settle(ids []store.CrateID, keys [][]byte) error {
	if err := s.tree.syncNames(ids, nil); err != nil {
		return err
	}
	for len(keys) > 0 {
		n := min(len(keys), updateKeys)
		if err := s.index.forget(keys[:n]...); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// sweepMarks unlinks the files of discarded crates.
func (s *Store) sweepMarks() error {
	var ids []store.CrateID
	var keys [][]byte
	err := s.index.each(keyMark, func(k, v []byte) error {
		m, err := parseMark(v)
		if err != nil || len(k) != idSize {
			return errors.Join(err, wrongKey(k))
		}
		id := store.CrateID(k)
		_, there, err := s.index.find(id)
		if err == nil && !there {
			err = s.tree.remove(id, m.form)
		}
		if err != nil {
			return err
		}
		ids = append(ids, id)
		keys = append(keys, key(keyMark, k))
		return nil
	})
	if err != nil {
		return err
	}
	return s.settle(ids, keys)
}

func wrongKey(k []byte) error {
	if len(k) == idSize {
		return nil
	}
	return damagedRecord("a key")
}

// sweepAdoptions ends each adoption that had come as far as the rename, and
// forgets those that had not: their files are still where they were.
func (s *Store) sweepAdoptions() error {
	var open []adoption
	err := s.index.each(keyAdopted, func(k, v []byte) error {
		if err := wrongKey(k); err != nil {
			return err
		}
		a, err := parseAdoption(store.CrateID(k), v)
		open = append(open, a)
		return err
	})
	if err != nil {
		return err
	}
	for _, a := range open {
		if err := s.endAdoption(a); err != nil {
			return err
		}
	}
	return nil
}

// endAdoption ends one that a crash or a failure has interrupted.
func (s *Store) endAdoption(a adoption) error {
	k, err := s.index.lookup(a.rec.id)
	if err != nil {
		return err
	}
	if k.there {
		return s.index.forget(crateKey(keyAdopted, a.rec.id))
	}
	size, ok, err := s.tree.size(a.rec.id, a.rec.form)
	if err != nil {
		return err
	}
	if !ok || size != a.rec.size {
		if _, err := os.Lstat(a.path); errors.Is(err, fs.ErrNotExist) {
			s.log.WithField("file", a.path).WithField("crate", a.rec.id.String()).
				Error("a file that was being adopted is neither where it was nor in the store")
		}
		if err := s.index.dropChunks(a.rec.id); err != nil {
			return err
		}
		return s.index.forget(crateKey(keyAdopted, a.rec.id))
	}
	// The rename may not be durable yet, in either directory.
	if err := s.tree.syncNames([]store.CrateID{a.rec.id}, nil); err != nil {
		return err
	}
	syncParent(a.path)
	_, p, err := s.index.land([]landing{{rec: a.rec, reservation: a.reservation, known: k}}, crateKey(keyAdopted, a.rec.id))
	if err != nil {
		return err
	}
	return s.index.sync(context.Background(), p)
}

// syncParent makes it durable that a file has gone from its directory. If it fails,
// a power cut may show the file in both places, which its owner can bear.
func syncParent(path string) {
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		_ = syncDir(d)
		_ = d.Close()
	}
}

// retireMarks forgets the marks of files that have been unlinked, once that is
// durable.
func (s *Store) retireMarks() error {
	s.marking.Lock()
	defer s.marking.Unlock()
	s.mu.Lock()
	marks := s.marks
	s.marks = make(map[store.CrateID]mark)
	s.mu.Unlock()
	if len(marks) == 0 {
		return nil
	}
	ids := make([]store.CrateID, 0, len(marks))
	for id := range marks {
		ids = append(ids, id)
	}
	watch, err := s.tree.watch()
	if err == nil {
		err = s.tree.syncNames(ids, watch)
	}
	if watch != nil {
		_ = watch.Close() // only synced with
	}
	if err == nil {
		err = s.index.unmark(marks)
	}
	if err != nil {
		s.mu.Lock()
		for id, m := range marks {
			if _, newer := s.marks[id]; !newer {
				s.marks[id] = m
			}
		}
		s.mu.Unlock()
	}
	return err
}

// adoptionOf gives the unfinished adoption of a crate.
func (s *Store) adoptionOf(id store.CrateID) (a adoption, ok bool, err error) {
	v, ok, err := s.index.space.Get(crateKey(keyAdopted, id))
	if err != nil || !ok {
		return a, false, err
	}
	a, err = parseAdoption(id, v)
	return a, err == nil, err
}
