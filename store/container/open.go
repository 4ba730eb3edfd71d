package container

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"stasis/store"
	"stasis/store/booking"
)

const opOpen = "open"

// Open opens the container at path. Unavailable if there is none, or a file that
// is none; Conflict if it is another leaf than want (unless that is zero) or another
// process has it open; Denied if another owner made it. Until Fence succeeded it can only
// be read.
func Open(ctx context.Context, path string, want store.NodeID, owner store.OwnerID, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, openError(opOpen, path, err)
	}
	f, err := openFile(path, true)
	if err != nil {
		return nil, openError(opOpen, path, err)
	}
	s, err := open(ctx, place{f: f, path: path, check: f.check, device: f.dev}, want, owner, o)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// place is where a container lies.
type place struct {
	f      file
	path   string
	check  func() error
	device uint64
}

func open(ctx context.Context, p place, want store.NodeID, owner store.OwnerID, o Options) (*Store, error) {
	o = o.filled()
	if err := context.Cause(ctx); err != nil {
		return nil, openError(opOpen, p.path, err)
	}
	sb, stale, found, err := readSupers(p.f)
	if err != nil {
		return nil, openError(opOpen, p.path, err)
	}
	if err := admitted(p.path, &sb, want, owner); err != nil {
		return nil, err
	}
	v := &volume{f: p.f, key: newKeyer(sb.pageKey()), limit: sb.capacity / PageSize}
	l, err := load(v, sb, stale)
	if err != nil {
		return nil, openError(opOpen, p.path, err)
	}
	s, err := start(p, o, v, l, found)
	if err != nil {
		return nil, openError(opOpen, p.path, err)
	}
	// What fails here is tried again by the next Reserve.
	_ = s.book.Bury(ctx)
	return s, nil
}

// admitted tells whether this is the container that is meant, and whose it is.
func admitted(path string, sb *superblock, want store.NodeID, owner store.OwnerID) error {
	e := &store.Error{Op: opOpen, Subject: subjectOf(path)}
	switch {
	case !want.IsZero() && sb.node != want:
		e.Kind = store.Conflict
		e.Detail = fmt.Sprintf("it is node %s, not %s", sb.node, want)
		e.Hint = "look whether the right disk is mounted"
	case sb.owner != owner:
		e.Kind = store.Denied
		e.Detail = "it belongs to another vault"
		e.Hint = "give this vault a container of its own"
	default:
		return nil
	}
	return e
}

// loaded is what a file has turned out to hold.
type loaded struct {
	sb      superblock
	st      *state
	log     *logWriter
	space   *space
	damages []damage
	// position is that of the crates. Where it could not be told it is unlike any before, and
	// fresh: no mark has it yet.
	position store.Position
	fresh    bool
	mark     mark // the one that has it, unless it is fresh
}

// load reads the log or, where that is damaged, everything.
func load(v *volume, sb superblock, stale bool) (loaded, error) {
	if stale {
		// Before anything is written that the older of the two does not know of.
		if err := writeSupers(v, &sb, v.f.Sync); err != nil {
			return loaded{}, err
		}
	}
	synced, marked, count, found, err := v.readMark(&sb)
	if err != nil {
		return loaded{}, err
	}
	out := loaded{sb: sb, damages: found, position: synced.position, mark: synced}
	st, log, moved, err := v.replay(&sb, synced, marked)
	if out.st, out.log = st, log; err != nil || moved || !marked || synced.position == (store.Position{}) {
		out.position, out.fresh = after(store.Position{Count: count}), true
	}
	if err == nil {
		out.space, err = occupy(out.st, out.log, v.limit)
	}
	if err == nil {
		return out, nil
	}
	if !errors.Is(err, errLog) {
		return loaded{}, err
	}
	out.position, out.fresh = after(store.Position{Count: count}), true
	err = out.rebuild(v, err)
	return out, err
}

// rebuild makes a new log of what the whole file tells; why says what was wrong
// with the old one.
func (l *loaded) rebuild(v *volume, why error) error {
	got, err := v.salvage(&l.sb)
	if err != nil {
		return err
	}
	l.st, l.space = got.st, got.space
	l.damages = append(append(l.damages, damage{l.sb.logHead, why.Error()}), got.damages...)
	n := logPagesFor(l.st.checkpointBytes()) + 2
	es, ok := l.space.alloc(n)
	if !ok {
		return fmt.Errorf("write the log anew: %w", errLogFull)
	}
	from := &logWriter{v: v, pool: pageNumbers(es)}
	if l.log, err = from.rewrite(l.st); err != nil {
		return err
	}
	if err := v.f.Sync(); err != nil {
		return err
	}
	l.sb.generation++
	l.sb.logHead, l.sb.logNonce, l.sb.logPages = l.log.pages[0], l.log.nonce, l.log.checkpoint
	if err := writeSupers(v, &l.sb, v.f.Sync); err != nil {
		return err
	}
	for _, page := range got.logPages {
		l.space.release(extent{page, 1})
	}
	return nil
}

// start makes the store of what was read, and of what was found before that.
func start(p place, o Options, v *volume, l loaded, found []damage) (*Store, error) {
	s := &Store{
		path: p.path, leaf: l.sb.node, f: p.f, v: v, check: p.check, clock: o.Clock, log: o.Log,
		room: newRoom(p.f, l.space, p.device), writes: make(chan struct{}, maxWrites),
		queue: newQueue(), run: make(chan struct{}), st: l.st,
		limitOfReservations: int(reservationLimit(v.limit)),
	}
	// Numbers that a crash has cut off are not given again: what is left of their
	// commit in the file must fit nothing that is written now.
	s.nextSeq.Store(l.st.nextSeq + rand.Uint64N(1<<24))
	s.found(append(found, l.damages...))
	records := make([]booking.Record, 0, len(l.st.reservations))
	for _, r := range l.st.reservations {
		records = append(records, r)
	}
	s.book = booking.New(booking.Options{
		Leaf: s.leaf, Capacity: usable(l.sb.capacity), Device: p.device, Journal: journal{s}, Clock: o.Clock,
		Avail: func(context.Context) (int64, error) {
			n, err := s.f.Avail()
			if err != nil {
				return 0, s.ioError("ask for the free space", err)
			}
			return n, nil
		},
	}, booking.Totals{Used: l.st.used, Crates: int64(l.st.crates.Len())}, records)
	s.room.book = s.book
	c := &committer{s: s, log: l.log, sb: l.sb, position: l.position}
	if l.mark.at > 0 {
		c.marks = l.mark.at - superPages + 1 // the next one leaves that
	}
	if s.standing.placed = (placed{position: l.position, at: l.mark.at, page: l.mark.raw}); l.fresh {
		if err := c.mark(l.position); err != nil {
			s.book.Close()
			return nil, err
		}
	}
	go c.run()
	return s, nil
}
