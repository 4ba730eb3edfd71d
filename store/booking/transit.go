package booking

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"stasis/store"
)

// Transit keeps the account of a directory in which files lie on their way to a store. Their
// space is promised, to one holder, before the first byte is written, and beside whatever
// the stores on the same disk have promised. All methods may be called concurrently.
type Transit struct {
	book *Book

	mu   sync.Mutex
	held map[store.OwnerID]int64 // bytes of whole files
}

// OpenTransit opens the account of a directory, with nothing in it. floor is what is left free
// of its disk, in bytes, but no more of it than 1/transitFloor. Close takes it off its disk.
func OpenTransit(dir string, floor int64, clock Clock) (*Transit, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: "open the account of a directory", Subject: dir, Err: err}
	}
	avail := func(context.Context) (int64, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return 0, &store.Error{Kind: store.Unavailable, Op: "ask for the free space", Subject: dir, Err: err}
		}
		return max(0, int64(st.Bavail)*st.Bsize-min(floor, int64(st.Blocks)*st.Bsize/transitFloor)), nil
	}
	book := New(Options{Device: st.Dev, Avail: avail, Clock: clock}, Totals{}, nil)
	return &Transit{book: book, held: make(map[store.OwnerID]int64)}, nil
}

// Close takes the account off its disk.
func (t *Transit) Close() { t.book.Close() }

// Free is what may be promised now, in bytes.
func (t *Transit) Free(ctx context.Context) (int64, error) {
	u, err := t.book.Usage(ctx)
	return u.Free, err
}

// Passage is the space of one file. Its methods may be called after it has ended, to no
// effect, and for one that is nil.
type Passage struct {
	t      *Transit
	holder store.OwnerID
	bytes  int64
	draw   *Draw // nil: a store on the disk has promised the space

	written int64 // guarded by t.mu, like the next
	done    bool
}

// Hold promises the space of a file of so many bytes. most gives how much one holder may have
// of so many bytes that would be free without it; nil: all. NoSpace if it is not there.
func (t *Transit) Hold(ctx context.Context, holder store.OwnerID, bytes int64, most func(free int64) int64) (*Passage, error) {
	bytes = (bytes + 4095) &^ 4095
	u, err := t.book.Usage(ctx)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	had := t.held[holder]
	if all := u.Free + had; most != nil && had+bytes > most(all) {
		t.mu.Unlock()
		return nil, transitFull(bytes, max(0, most(all)-had))
	}
	t.held[holder] = had + bytes
	t.mu.Unlock()
	p := &Passage{t: t, holder: holder, bytes: bytes}
	if p.draw, err = t.draw(ctx, holder, bytes); err != nil {
		p.forget()
		return nil, err
	}
	return p, nil
}

// draw takes space that no lease bounds.
func (t *Transit) draw(ctx context.Context, holder store.OwnerID, bytes int64) (*Draw, error) {
	id := store.NewReservationID()
	if _, err := t.book.Reserve(ctx, store.ReserveRequest{ID: id, Holder: holder, Bytes: bytes}); err != nil {
		return nil, err
	}
	d, err := t.book.Draw(id, store.CrateID{}, bytes)
	if e := t.book.Release(context.WithoutCancel(ctx), id); err == nil { // the draw keeps its own
		err = e
	}
	return d, err
}

func transitFull(needs, has int64) error {
	return &store.Error{Kind: store.NoSpace, Op: opReserve, Subject: "on the disk for what is on its way",
		Detail: fmt.Sprintf("on the disk for what is on its way it needs %s, has %s", Size(needs), Size(has))}
}

// Cover is for a file that a store on the same disk is going to take over as it lies, and for
// which that store has promised the space: what is written of it is not counted twice. It has
// to end before the store takes the file.
func (t *Transit) Cover() *Passage { return &Passage{t: t} }

// Written says that n more bytes of the file were written.
func (p *Passage) Written(n int64) {
	if p != nil {
		p.move(n)
	}
}

// Removed says that n bytes of the file are going to be removed, or are gone already where a
// store has not promised them.
func (p *Passage) Removed(n int64) {
	if p != nil {
		p.move(-n)
	}
}

func (p *Passage) move(n int64) {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	if p.done {
		return
	}
	n = max(n, -p.written)
	p.written += n
	if p.draw == nil {
		p.t.book.cover(n)
	} else if n >= 0 {
		p.draw.Written(n)
	} else {
		p.draw.Removed(-n)
	}
}

// Covered reports whether a store has promised the space.
func (p *Passage) Covered() bool { return p != nil && p.draw == nil }

// End gives the space back: the file is gone, or is going to be where a store has promised it.
func (p *Passage) End() {
	if p == nil {
		return
	}
	p.t.mu.Lock()
	done := p.done
	p.done = true
	p.t.mu.Unlock()
	switch {
	case done:
	case p.draw == nil:
		p.t.book.cover(-p.written)
	default:
		p.draw.Undo()
		p.forget()
	}
}

func (p *Passage) forget() {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	if p.t.held[p.holder] -= p.bytes; p.t.held[p.holder] <= 0 {
		delete(p.t.held, p.holder)
	}
}
