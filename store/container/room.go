package container

import (
	"context"
	"errors"

	"stasis/store"
	"stasis/store/booking"
)

// room is the space of the file in use and out of use. Its lock is a channel so
// that who waits for it honours a context: the committer holds it while the
// filesystem punches holes.
type room struct {
	f      file
	device uint64 // st_dev, 0 if unknown
	book   *booking.Book
	lock   chan struct{}

	// Below: guarded by lock.
	sp    *space
	shut  error    // why no crate may have pages any more
	loose []extent // free since the last tidying, and still on the disk
}

func newRoom(f file, sp *space, device uint64) *room {
	return &room{f: f, device: device, sp: sp, lock: make(chan struct{}, 1)}
}

func (r *room) acquire(ctx context.Context) error {
	select {
	case r.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *room) unlock() { <-r.lock }

// forCrate takes the pages of a crate of size bytes. ok is false if there are too
// few, which booking excludes.
func (r *room) forCrate(ctx context.Context, size int64) (es []extent, ok bool, err error) {
	if err := r.acquire(ctx); err != nil {
		return nil, false, err
	}
	defer r.unlock()
	if r.shut != nil {
		return nil, false, r.shut
	}
	es, ok = r.sp.alloc(headerPages(size, 1) + dataPages(size))
	for ok {
		// More pieces may need a longer header, whose pages may be further pieces.
		missing := headerPages(size, len(es)) + dataPages(size) - totalPages(es)
		if missing == 0 {
			break
		}
		var more []extent
		if more, ok = r.sp.alloc(missing); !ok {
			r.free(es)
			break
		}
		for _, e := range more {
			es = appendExtent(es, e)
		}
	}
	r.refresh()
	return es, ok, nil
}

// close lets no crate have pages any more: those that are given back from now on
// may be named by a commit that is on the disk after all.
func (r *room) close(err error) {
	r.lock <- struct{}{}
	defer r.unlock()
	r.shut = err
}

// release gives pages back. It waits for the lock however long that takes: its
// callers have nobody to give the pages to otherwise.
func (r *room) release(es []extent) {
	r.lock <- struct{}{}
	defer r.unlock()
	r.free(es)
	r.refresh()
}

// free is called with the lock held.
func (r *room) free(es []extent) {
	for _, e := range es {
		r.sp.release(e)
		if len(r.loose) < maxLoose {
			r.loose = append(r.loose, e)
		}
	}
}

// renew is refresh for who doesn't have the lock.
func (r *room) renew() {
	r.lock <- struct{}{}
	defer r.unlock()
	r.refresh()
}

// refresh tells the accounts how much empty room the file holds on the disk. It
// counts pages taken and not written yet as written, so it never says too much.
func (r *room) refresh() {
	if r.book == nil {
		return
	}
	bytes, err := r.f.Allocated()
	if err != nil {
		bytes = 0 // then no room is counted as held
	}
	taken := r.sp.limit - r.sp.free
	r.book.Allocated(min(max(0, bytes-taken*PageSize), r.sp.free*PageSize))
}

// forLog takes n pages for the log and makes sure that they can be written when
// the disk is full.
func (r *room) forLog(n int64, first bool) ([]int64, error) {
	r.lock <- struct{}{}
	defer r.unlock()
	alloc := r.sp.alloc
	if first {
		alloc = r.sp.allocFirst
	}
	es, ok := alloc(n)
	if !ok {
		return nil, errLogFull
	}
	for _, e := range es {
		err := r.f.Allocate(e.start*PageSize, e.pages*PageSize)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			r.free(es)
			return nil, err
		}
	}
	r.refresh()
	return pageNumbers(es), nil
}

// bare takes n pages for the log that are perhaps not on the disk.
func (r *room) bare(n int64) ([]int64, bool) {
	r.lock <- struct{}{}
	defer r.unlock()
	es, ok := r.sp.allocFirst(n)
	return pageNumbers(es), ok
}

// pending is how many pages wait to be tidied.
func (r *room) pending() int64 {
	r.lock <- struct{}{}
	defer r.unlock()
	return totalPages(r.loose)
}

// tidy gives runs of free pages back to the filesystem. The lock is free between
// one run and the next.
func (r *room) tidy() {
	r.lock <- struct{}{}
	loose := r.loose
	r.loose = nil
	r.unlock()
	for _, e := range loose {
		r.punch(e.start)
	}
	r.lock <- struct{}{}
	defer r.unlock()
	r.refresh()
}

// tidyAll looks for free runs that are on the disk, as a crash leaves them.
func (r *room) tidyAll() {
	r.lock <- struct{}{}
	runs := r.sp.runs()
	size, err := r.f.Size()
	r.unlock()
	for _, run := range runs {
		if err != nil || run.start*PageSize >= size {
			break
		}
		if run.pages < punchPages {
			continue
		}
		if next, err := r.f.NextData(run.start * PageSize); err == nil && next < run.end()*PageSize {
			r.punch(run.start)
		}
	}
	r.lock <- struct{}{}
	defer r.unlock()
	r.refresh()
}

// punch makes a hole of the free run that a page lies in, if it is long enough.
// Nobody can take pages of it meanwhile.
func (r *room) punch(page int64) {
	r.lock <- struct{}{}
	defer r.unlock()
	run, ok := r.sp.at(page)
	if !ok || run.pages < punchPages {
		return
	}
	size, err := r.f.Size()
	if err != nil {
		return
	}
	if n := min(run.end()*PageSize, size) - run.start*PageSize; n > 0 {
		// What can't be punched is used again all the same.
		_ = r.f.Punch(run.start*PageSize, n)
	}
}

// shrink cuts the free end of the file off if that is at least so many pages.
func (r *room) shrink(least int64) error {
	r.lock <- struct{}{}
	defer r.unlock()
	size, err := r.f.Size()
	if err != nil {
		return err
	}
	end := r.sp.end()
	if size-end*PageSize < max(1, least*PageSize) {
		return nil
	}
	err = r.f.Truncate(end * PageSize)
	r.refresh()
	return err
}

// endWithout is where the file ends now and where it would end if these pages,
// which are taken, lay in the first n pages that are free.
func (r *room) endWithout(sorted []int64, n int64) (now, then int64) {
	r.lock <- struct{}{}
	defer r.unlock()
	now = r.sp.end()
	then = now
	for k := len(sorted) - 1; ; {
		if run, ok := r.sp.at(then - 1); ok {
			then = run.start
		} else if k >= 0 && sorted[k] == then-1 {
			then, k = then-1, k-1
		} else {
			break
		}
	}
	return now, max(then, r.sp.endOfFirst(n))
}

// noRoom is what booking excludes: a promise that finds no pages.
func (s *Store) noRoom(id store.CrateID) error {
	return s.crateError(store.NoSpace, opPut, id, "fewer pages are free than were promised", nil)
}
