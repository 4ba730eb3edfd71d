package booking

import (
	"context"
	"fmt"
	"math"
	"time"

	"stasis/store"
	"stasis/store/keyed"
)

// Options describe the store whose accounts a Book keeps.
type Options struct {
	Leaf store.NodeID
	// Capacity is the most that used and reserved may add up to, in bytes; 0: the device
	// alone is the bound.
	Capacity int64
	// Device is the st_dev of the filesystem the store lies on; 0: none, or shared with
	// nobody.
	Device uint64
	// Avail asks the device what a user may still fill (f_bavail), in bytes; nil: there
	// is no device, as for memory. It is called without any lock held.
	Avail func(ctx context.Context) (int64, error)
	// Journal persists terms; nil: nothing outlives the Book.
	Journal Journal
	// Clock is what leases are counted on; nil: System.
	Clock Clock
}

// Totals are the counters a store has persisted.
type Totals struct {
	Used   int64 // bytes charged by crates
	Crates int64
}

// Usage is the state of the accounts, in bytes but for Crates.
type Usage struct {
	Used     int64
	Reserved int64 // promised and not committed yet
	Free     int64 // what a new reservation may take now
	Crates   int64
}

// Book keeps the accounts of one store. All methods may be called concurrently.
type Book struct {
	o   Options
	dev *device
	ids keyed.Locks[store.ReservationID]

	// All below is guarded by dev.mu.
	res         map[store.ReservationID]*entry
	graves      map[store.ReservationID]struct{} // ended, and not yet durably so
	next        time.Duration                    // no lease ends before it
	totals      Totals
	outstanding int64 // promised or drawn tentatively, and not committed
	landed      int64 // of it, written to the device by draws under way
	resident    int64 // of it, on the device already, in files to be adopted
	allocated   int64 // on the device already, in empty room of the store's own file
	covered     int64 // on the device already, in files for which other books have promised the space
}

type entry struct {
	terms     Terms
	deadline  time.Duration // by Clock.Boot
	drawn     int64         // committed
	tentative int64         // drawn and not committed
	ended     bool          // lapsed or released: only its draws under way still hold space
}

// New opens the accounts with what the store has persisted. Reservations that
// have lapsed meanwhile are ended. Close takes the book off its device.
func New(o Options, totals Totals, records []Record) *Book {
	if o.Clock == nil {
		o.Clock = System
	}
	b := &Book{
		o: o, totals: totals, next: math.MaxInt64,
		res:    make(map[store.ReservationID]*entry, len(records)),
		graves: make(map[store.ReservationID]struct{}),
	}
	now := o.Clock.Boot()
	for _, r := range records {
		left := r.left(o.Clock)
		if left <= 0 {
			b.graves[r.ID] = struct{}{}
			continue
		}
		e := &entry{terms: r.Terms, deadline: now + left, drawn: r.Drawn}
		e.terms.Bytes = max(r.Bytes, r.Drawn)
		b.res[r.ID] = e
		b.outstanding += e.terms.Bytes - r.Drawn
		b.next = min(b.next, e.deadline)
	}
	b.dev = join(b, o.Device)
	return b
}

// Close takes the book off its device: its promises no longer count there.
func (b *Book) Close() { leave(b, b.o.Device) }

// Usage tells the state of the accounts. The error is the device's.
func (b *Book) Usage(ctx context.Context) (Usage, error) {
	avail, moved, err := b.ask(ctx)
	if err != nil {
		return Usage{}, err
	}
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	free := b.free(avail, moved)
	return Usage{Used: b.totals.Used, Reserved: b.outstanding, Free: free, Crates: b.totals.Crates}, nil
}

// Freed says that a crate has been discarded and its space is the store's again.
func (b *Book) Freed(charge int64) {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	b.totals.Used -= charge
	b.totals.Crates--
}

// Found says that a crate has turned up that no draw stands for, as when an
// index is made anew.
func (b *Book) Found(charge int64) {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	b.totals.Used += charge
	b.totals.Crates++
}

// Resident replaces the figure of store.Adopter: bytes of this store's
// reservations that are on the device already.
func (b *Book) Resident(bytes int64) {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	b.resident = max(0, bytes)
}

// SetCapacity replaces the bound of Options. Promises given already are kept, even if
// they pass it.
func (b *Book) SetCapacity(bytes int64) {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	b.o.Capacity = bytes
}

// Allocated replaces the figure of empty room that the store's own file holds on
// the device already, in bytes: crates that go there take nothing from the device.
func (b *Book) Allocated(bytes int64) {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	b.allocated = max(0, bytes)
}

// cover adds to the figure of bytes that lie on the device already although the promise of
// another book still counts for them.
func (b *Book) cover(bytes int64) {
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	b.covered += bytes
}

// ask gives what the device has free and the count of moved bytes that figure
// belongs to.
func (b *Book) ask(ctx context.Context) (avail, moved int64, err error) {
	if b.o.Avail == nil {
		return math.MaxInt64, 0, nil
	}
	b.dev.mu.Lock()
	moved = b.dev.moved
	b.dev.mu.Unlock()
	avail, err = b.o.Avail(ctx)
	return avail, moved, err
}

// free is the rule: min(capacity - used - reserved, what the device has less
// every promise on it). Called with dev.mu held.
func (b *Book) free(avail, moved int64) int64 {
	b.lapse()
	free := int64(math.MaxInt64)
	if b.o.Capacity > 0 {
		free = b.o.Capacity - b.totals.Used - b.outstanding
	}
	if b.o.Avail != nil {
		// Empty room beyond what is promised is this book's to promise.
		room := max(0, b.allocated+b.resident+b.landed-b.outstanding)
		room = min(room, b.allocated)
		free = min(free, avail+room-b.dev.promised()-(b.dev.moved-moved))
	}
	return max(0, free)
}

// promised is what the device must still give for this book's promises.
func (b *Book) promised() int64 {
	return max(0, b.outstanding-b.landed-b.resident-b.allocated)
}

// lapse ends every reservation whose lease is over. Called with dev.mu held.
func (b *Book) lapse() {
	now := b.o.Clock.Boot()
	if now < b.next {
		return
	}
	b.next = math.MaxInt64
	for _, e := range b.res {
		if e.deadline <= now {
			b.end(e)
			b.graves[e.terms.ID] = struct{}{}
		} else {
			b.next = min(b.next, e.deadline)
		}
	}
}

// end takes a reservation out of the accounts; draws under way keep theirs.
func (b *Book) end(e *entry) {
	e.ended = true
	b.outstanding -= e.terms.Bytes - e.drawn - e.tentative
	delete(b.res, e.terms.ID)
}

// full is the answer when free is less than what is needed.
func (b *Book) full(op, subject string, needs, has int64) error {
	return &store.Error{
		Kind: store.NoSpace, Op: op, Subject: subject,
		Detail: fmt.Sprintf("needs %s, has %s", Size(needs), Size(has)),
	}
}

// Size writes a number of bytes for people: 4.0 MiB.
func Size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	f, units := float64(n), "KMGTPE"
	i := -1
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}
