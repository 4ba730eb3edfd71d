package names

import "sync"

// inheritance remembers of directories where the policy in force for them is set, so that what
// lies in one directory climbs to there once, and not with each look. It holds inheritanceMost
// of them. Whatever changes what a directory inherits forgets all.
type inheritance struct {
	mu   sync.Mutex
	age  uint64 // how often something was forgotten
	from map[Ino]Ino
}

// now gives the age, for who is about to climb.
func (h *inheritance) now() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.age
}

// of gives where the policy of a directory is set; 0: nowhere.
func (h *inheritance) of(dir Ino) (from Ino, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	from, ok = h.from[dir]
	return from, ok
}

// learn notes it of directories, for who began to climb at an age: what was forgotten since may
// be what he saw.
func (h *inheritance) learn(age uint64, dirs []Ino, from Ino) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if age != h.age {
		return
	}
	if h.from == nil || len(h.from)+len(dirs) > inheritanceMost {
		h.from = make(map[Ino]Ino)
	}
	for _, d := range dirs {
		h.from[d] = from
	}
}

// forget forgets all, after a policy was set or a directory was moved.
func (h *inheritance) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.age++
	h.from = nil
}

// gone forgets an inode that was removed. Nothing lies in it.
func (h *inheritance) gone(ino Ino) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.age++
	delete(h.from, ino)
}
