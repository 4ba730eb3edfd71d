package booking

import "sync"

// device is what the books on one disk share: the lock, and the sums that keep
// one book from promising what another has promised already.
type device struct {
	mu    sync.Mutex
	books map[*Book]struct{}
	// moved grows by each byte that turns from promised into written. An answer of the
	// device that was asked for before such a move may still show the space as free, so
	// what moved since is taken off it.
	moved int64
}

var devices = struct {
	sync.Mutex
	m map[uint64]*device
}{m: make(map[uint64]*device)}

// join enters a book for its device. Books with device 0 share with nobody.
func join(b *Book, id uint64) *device {
	devices.Lock()
	defer devices.Unlock()
	d := devices.m[id]
	if d == nil || id == 0 {
		d = &device{books: make(map[*Book]struct{})}
		if id != 0 {
			devices.m[id] = d
		}
	}
	d.mu.Lock()
	d.books[b] = struct{}{}
	d.mu.Unlock()
	return d
}

func leave(b *Book, id uint64) {
	devices.Lock()
	defer devices.Unlock()
	b.dev.mu.Lock()
	defer b.dev.mu.Unlock()
	delete(b.dev.books, b)
	if len(b.dev.books) == 0 && devices.m[id] == b.dev {
		delete(devices.m, id)
	}
}

// promised is what the books of the device have promised and the device does not
// hold yet. Called with mu held.
func (d *device) promised() int64 {
	var sum int64
	for b := range d.books {
		b.lapse()
		sum += b.promised() - b.covered
	}
	return max(0, sum)
}
