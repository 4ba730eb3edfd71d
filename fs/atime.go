package fs

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"stasis/fs/names"
	"stasis/store/ledger"
)

// Access times are kept as Linux does with relatime: a read sets it where it is not newer
// than the last change, or a day old. What was noted goes into the namespace a little
// later, many at once; a crash loses it.
type atimes struct {
	mu    sync.Mutex
	noted map[names.Ino]int64 // ns since the epoch
	full  chan struct{}
}

func (a *atimes) init() {
	a.noted = make(map[names.Ino]int64)
	a.full = make(chan struct{}, 1)
}

// of gives the access time of an inode that is in the namespace with another.
func (a *atimes) of(in names.Inode) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t, ok := a.noted[in.Ino]; ok {
		return t
	}
	return in.Atime
}

// due reports whether reading an inode now sets its access time.
func (a *atimes) due(ino names.Ino, was seen, now int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t, ok := a.noted[ino]; ok {
		was.atime = t
	}
	return was.atime <= was.changed || now-was.atime >= int64(atimeAge)
}

// note sets the access time of an inode.
func (a *atimes) note(ino names.Ino, t int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noted[ino] = t
	if len(a.noted) >= atimesMost {
		kick(a.full)
	}
}

// drop forgets what was noted of an inode, which has another access time now, or is gone.
// When it returns nothing is on its way into the namespace.
func (a *atimes) drop(ino names.Ino) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.noted, ino)
}

// seen is what tells whether reading an inode sets its access time, in nanoseconds since the
// epoch.
type seen struct {
	changed int64 // when it was last changed
	atime   int64 // in the namespace
}

// seenOf is for an inode with what was written to it since; the caller holds the lock of the
// file, unless there is none.
func seenOf(in names.Inode, f *file) seen {
	was := seen{max(in.Mtime, in.Ctime), in.Atime}
	if f != nil {
		was.changed = max(was.changed, f.written())
	}
	return was
}

// Accessed notes that an inode is read now, and reports whether that changed its access
// time.
func (s *FS) Accessed(ino names.Ino) bool {
	in, err := s.tree.Get(ino)
	if err != nil {
		return false // the read says what is wrong
	}
	f := s.pinned(ino)
	if f == nil {
		return s.accessed(ino, seenOf(in, nil))
	}
	f.mu.RLock()
	was := seenOf(in, f)
	f.mu.RUnlock()
	s.unpin(f)
	return s.accessed(ino, was)
}

func (s *FS) accessed(ino names.Ino, was seen) bool {
	now := names.Now()
	if s.ro || !s.atimes.due(ino, was, now) {
		return false
	}
	s.atimes.note(ino, now)
	return true
}

// atimeLoop writes down what was noted.
func (s *FS) atimeLoop() {
	t := time.NewTicker(atimeEvery)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		case <-s.atimes.full:
		}
		if err := s.keepAtimes(); err != nil {
			// Whatever is wrong with the ledger is said by those who need it.
			s.log.WithError(err).Debug("some access times are lost")
		}
	}
}

// keepAtimes puts the access times noted into the namespace.
func (s *FS) keepAtimes() error {
	for {
		n, err := s.keepSomeAtimes()
		if n == 0 || err != nil {
			return err
		}
	}
}

// keepSomeAtimes is that for as many as one update holds. The lock is held so that a time
// that a program sets comes after it.
func (s *FS) keepSomeAtimes() (n int, err error) {
	a := &s.atimes
	a.mu.Lock()
	defer a.mu.Unlock()
	var kept []names.Ino
	for ino := range a.noted {
		if kept = append(kept, ino); len(kept) == s.keys {
			break
		}
	}
	if len(kept) == 0 {
		a.noted = make(map[names.Ino]int64) // a map does not shrink
		return 0, nil
	}
	_, err = s.shared.Update(func(tx *ledger.Tx) error {
		for _, ino := range kept {
			_, err := s.tree.UpdateTx(tx, ino, func(in *names.Inode) error {
				in.Atime = a.noted[ino]
				return nil
			})
			if err != nil && !errors.Is(err, syscall.ENOENT) {
				return err
			}
		}
		return nil
	})
	for _, ino := range kept {
		delete(a.noted, ino) // also if they are lost: a disk that is full is no reason to hold more and more
	}
	return len(kept), err
}
