package fs

import (
	"maps"
	"sync"

	"stasis/fs/names"
	"stasis/store"
	"stasis/store/lean"
)

// waitingTable knows, for each inode whose copies are under way, the crates that
// still wait for a receipt. Its size follows what is being sent.
type waitingTable struct {
	mu   sync.Mutex
	inos lean.Map[names.Ino, map[store.CrateID]bool]
}

// set replaces what an inode waits for.
func (t *waitingTable) set(ino names.Ino, crates []store.CrateID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(crates) == 0 {
		t.inos.Delete(ino)
		return
	}
	m := make(map[store.CrateID]bool, len(crates))
	for _, c := range crates {
		m[c] = true
	}
	t.inos.Set(ino, m)
}

// of gives a copy of what an inode waits for.
func (t *waitingTable) of(ino names.Ino) map[store.CrateID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	waits := t.inos.Get(ino)
	m := make(map[store.CrateID]bool, len(waits))
	maps.Copy(m, waits)
	return m
}

// arrived takes one crate away; last says that the inode waits for nothing more, known
// that it did wait for this.
func (t *waitingTable) arrived(ino names.Ino, c store.CrateID) (known, last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.inos.Get(ino)
	if !m[c] {
		return false, false
	}
	delete(m, c)
	if len(m) == 0 {
		t.inos.Delete(ino)
		return true, true
	}
	return true, false
}

// waits reports whether an inode waits for a crate.
func (t *waitingTable) waits(ino names.Ino, c store.CrateID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inos.Get(ino)[c]
}

// any reports whether an inode waits for anything.
func (t *waitingTable) any(ino names.Ino) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.inos.Get(ino)) > 0
}

// listSet holds the lists that are being made.
type listSet struct {
	mu  sync.Mutex
	ids map[names.ListID]struct{}
}

func (l *listSet) add(id names.ListID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = make(map[names.ListID]struct{})
	}
	l.ids[id] = struct{}{}
}

func (l *listSet) remove(id names.ListID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.ids, id)
}

func (l *listSet) has(id names.ListID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.ids[id]
	return ok
}

// broadcast wakes everybody who waits for a change.
type broadcast struct {
	mu sync.Mutex
	c  chan struct{}
}

// next gives a channel that is closed at the next change.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

// notify says that the state of some inode changed.
func (s *FS) notify() {
	s.changed.mu.Lock()
	defer s.changed.mu.Unlock()
	if s.changed.c != nil {
		close(s.changed.c)
		s.changed.c = nil
	}
}
