package container

import (
	"sync"

	"github.com/sirupsen/logrus"
)

// damages counts places found corrupt, each once.
type damages struct {
	mu    sync.Mutex
	n     int64
	known map[damagedBlock]struct{}
}

type damagedBlock struct {
	seq   uint64 // of the crate
	block int64  // -1: its header
}

// add counts what the opening has found.
func (d *damages) add(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n += int64(n)
}

// note counts a block, and reports whether it is new.
func (d *damages) note(b damagedBlock) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[b]; ok {
		return false
	}
	d.n++
	if len(d.known) < maxKnownDamage {
		if d.known == nil {
			d.known = make(map[damagedBlock]struct{})
		}
		d.known[b] = struct{}{}
	}
	return true
}

func (d *damages) count() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// damaged counts a block of a crate and tells the log of it, once.
func (s *Store) damaged(c *crate, block int64) {
	if s.damage.note(damagedBlock{c.seq, block}) {
		s.log.WithFields(logrus.Fields{"container": s.path, "crate": c.id.String(), "block": block}).
			Warn("a block is damaged; block -1 is the header")
	}
}

// found tells the log what the opening has passed over.
func (s *Store) found(ds []damage) {
	s.damage.add(len(ds))
	for i, d := range ds {
		log := s.log.WithFields(logrus.Fields{"container": s.path, "damages": len(ds)})
		if i == maxDamageLines {
			log.Warn("there is more damage than is listed")
			return
		}
		log.WithFields(logrus.Fields{"page": d.page, "what": d.what}).Warn("damage was passed over")
	}
}
