package fs

import (
	"errors"
	"sync"
	"time"

	"stasis/fs/body"
	"stasis/fs/names"
	"stasis/store/ledger"
)

// A blank is a body made ahead of use: an empty file, and the ledger's record that it
// is the body of an inode whose number nobody has been given yet. A new file that takes the
// number has a body from its first byte on, without a file being made or the ledger being
// updated while a program waits.
//
// An inode that was made and not written has an empty body by this, or, after Release,
// none: both read as nothing. A start forgets the blanks whose inode was never made.
type blank struct {
	ino  names.Ino
	body *body.Body
}

// blankPool is the blanks there are.
type blankPool struct {
	mu    sync.Mutex
	ready []blank
	// given are those of inodes that may have been made and have no other body.
	given map[names.Ino]*body.Body
	// spent are those whose inodes do without: they get another number.
	spent []blank
	low   chan struct{}
	// wanted is how many are kept ready. Not changed after Start.
	wanted int
}

func (p *blankPool) init() {
	p.wanted = blanksWanted
	p.given = make(map[names.Ino]*body.Body)
	p.low = make(chan struct{}, 1)
}

// take gives a blank for an inode about to be made, if there is one. From then on the
// inode, whoever gets to it first, has its body; waive takes that back.
func (p *blankPool) take() (names.Ino, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.ready)
	if n <= blanksLow {
		kick(p.low)
	}
	if n == 0 {
		return 0, false
	}
	b := p.ready[n-1]
	p.ready = p.ready[:n-1]
	p.given[b.ino] = b.body
	return b.ino, true
}

// claim makes the blank of an inode its body; nil if it has none.
func (p *blankPool) claim(ino names.Ino) *body.Body {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.given[ino]
	delete(p.given, ino)
	return b
}

// unclaim undoes claim.
func (p *blankPool) unclaim(ino names.Ino, b *body.Body) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given[ino] = b
}

// waive says that an inode does without its blank, if it has one.
func (p *blankPool) waive(ino names.Ino) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.given[ino]; b != nil {
		delete(p.given, ino)
		p.spent = append(p.spent, blank{ino, b})
	}
}

// wants gives how many blanks are to be made, and spent ones to make some of them from.
func (p *blankPool) wants() (n int, from []blank) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = min(p.wanted-len(p.ready), blanksAtOnce)
	if n <= 0 {
		return 0, nil
	}
	left := max(0, len(p.spent)-n)
	from = append(from, p.spent[left:]...)
	p.spent = p.spent[:left]
	return n, from
}

func (p *blankPool) add(bs []blank) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, bs...)
}

func (p *blankPool) spend(bs []blank) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent = append(p.spent, bs...)
}

// all takes out every blank that is no body yet.
func (p *blankPool) all() []blank {
	p.mu.Lock()
	defer p.mu.Unlock()
	bs := append(p.ready, p.spent...)
	for ino, b := range p.given {
		bs = append(bs, blank{ino, b})
	}
	p.ready, p.spent, p.given = nil, nil, make(map[names.Ino]*body.Body)
	return bs
}

// blankLoop sees to it that there are blanks.
func (s *FS) blankLoop() {
	for s.ctx.Err() == nil {
		more, err := s.makeBlanks()
		if more {
			continue
		}
		var pause <-chan time.Time
		if err != nil {
			// Files do without meanwhile, and say what is wrong when they are written.
			s.log.WithError(err).Debug("make bodies ahead of use")
			pause = time.After(blankRetry)
		}
		select {
		case <-s.ctx.Done():
		case <-s.blanks.low:
			if pause != nil { // a pool that is empty asks at every file
				select {
				case <-s.ctx.Done():
				case <-pause:
				}
			}
		}
	}
}

// makeBlanks makes some blanks if there are too few, and reports whether it did.
func (s *FS) makeBlanks() (more bool, err error) {
	n, from := s.blanks.wants()
	if n == 0 {
		return false, nil
	}
	var fresh []blank
	for _, b := range from {
		fresh = append(fresh, blank{body: b.body})
	}
	for len(fresh) < n && err == nil {
		var b *body.Body
		if b, err = s.bodies.Blank(); err == nil {
			fresh = append(fresh, blank{body: b})
		}
	}
	for i := 0; i < len(fresh) && err == nil; i++ {
		fresh[i].ino, err = s.tree.NewIno()
	}
	if err == nil {
		_, err = s.local.Update(func(tx *ledger.Tx) error {
			if err := forgetBlanksTx(tx, from); err != nil {
				return err
			}
			for _, b := range fresh {
				r := bodyRecord{Body: b.body.ID, Whole: true}
				tx.Put(key(tableBody, uint64(b.ino)), r.encode())
			}
			return nil
		})
	}
	if err != nil {
		s.blanks.spend(from)
		for _, b := range fresh[len(from):] {
			err = errors.Join(err, s.bodies.Recycle(b.body.ID))
		}
		return false, err
	}
	s.blanks.add(fresh)
	return true, nil
}

// forgetBlanksTx deletes the records of blanks, unless their inodes have got other bodies.
func forgetBlanksTx(tx *ledger.Tx, bs []blank) error {
	for _, b := range bs {
		k := key(tableBody, uint64(b.ino))
		v, ok, err := tx.Get(k)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		r, err := decodeBody(v)
		if err != nil {
			return err
		}
		if r.Body == b.body.ID {
			tx.Delete(k)
		}
	}
	return nil
}

// dropBlanks forgets the blanks there are, for a clean end. Their files stay: the next
// start makes bodies of them.
func (s *FS) dropBlanks() error {
	var errs error
	for bs := s.blanks.all(); len(bs) > 0; {
		n := min(len(bs), s.keys)
		_, err := s.local.Update(func(tx *ledger.Tx) error { return forgetBlanksTx(tx, bs[:n]) })
		errs = errors.Join(errs, err)
		bs = bs[n:]
	}
	return errs
}
