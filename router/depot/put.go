package depot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stasis/router"
	"stasis/store"
	"stasis/store/blocks"
	"stasis/store/booking"
	"stasis/store/ledger"
)

const opPut = "put crate"

// arrival is a crate on its way in. Whoever makes one has the crate's lock.
type arrival struct {
	size int64
	path string           // of its body
	room *booking.Passage // of the body; nil where it is a link to a file whose space its maker has
	news chan struct{}    // holds one value when its manifest has changed
	// refused are the peers that have no place for it beside those that its sender rules out.
	// Guarded by Store.mu.
	refused map[*onward]error
}

// Put is store.Store's.
func (s *Store) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	leave, err := s.enter(ctx, opPut)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.put(ctx, r, "")
}

// PutBatch is store.Batcher's.
func (s *Store) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out := make([]store.PutResult, len(rs))
	places := make(chan struct{}, BatchPuts)
	var wg sync.WaitGroup
	for i := range rs {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			out[i].Receipts, out[i].Err = s.Put(ctx, rs[i])
		})
	}
	wg.Wait()
	return out
}

// AdoptsFrom is store.Adopter's.
func (s *Store) AdoptsFrom(dir string) bool {
	var a, b unix.Stat_t
	return unix.Stat(dir, &a) == nil && unix.Stat(s.o.Dir, &b) == nil && a.Dev == b.Dev
}

// AdoptsUnder reports whether a large crate that is put under a reservation from a file is
// taken over by a node on that file's filesystem, which has promised its space. Otherwise
// the file has its space beside what the nodes have promised.
func (s *Store) AdoptsUnder(id store.ReservationID) bool {
	h := s.hold(id, false)
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return s.router.Adopts(h.plan)
}

// Resident is store.Adopter's. A depot's bodies are not on any one node's account: whoever
// has them keeps that of its disk.
func (s *Store) Resident(int64) {}

// Adopt is store.Adopter's. The file stays at path until the crate has a receipt.
func (s *Store) Adopt(ctx context.Context, r store.PutRequest, path string) ([]store.Receipt, error) {
	leave, err := s.enter(ctx, "adopt file")
	if err != nil {
		return nil, err
	}
	defer leave()
	if r.Source, err = s.adoptable(&r, path); err != nil {
		return nil, err
	}
	receipts, err := s.put(ctx, r, path)
	if err == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.WithError(err).Warn("a file that was taken over could not be removed")
		}
	}
	return receipts, err
}

// put brings one crate in, by a link to the file at path unless that is empty.
func (s *Store) put(ctx context.Context, r store.PutRequest, path string) ([]store.Receipt, error) {
	if err := blocks.CheckPut(r); err != nil {
		return nil, err
	}
	unlock, err := s.crates.Lock(ctx, r.Crate)
	if err != nil {
		return nil, blocks.Ended(opPut, r.Crate, err)
	}
	defer unlock()
	m, there, err := s.find(r.Crate)
	if err != nil {
		return nil, err
	}
	if there {
		return s.repeat(ctx, &m, r)
	}
	if !m.Crate.IsZero() {
		// An earlier put failed, and could not be taken back.
		if err := s.withdraw(ctx, r.Crate); err != nil {
			return nil, err
		}
	}
	if r.Source == nil {
		return nil, &store.Error{Kind: store.Invalid, Op: opPut, Subject: r.Crate.String(), Detail: "no source"}
	}
	charge := store.Charge(r.Size)
	draw, err := s.book.Draw(r.Reservation, r.Crate, charge)
	if err != nil {
		return nil, err
	}
	defer draw.Undo()
	h, plan, err := s.take(ctx, r.Reservation, charge)
	if err != nil {
		return nil, err
	}
	a, sums, err := s.receive(ctx, r, path)
	if err != nil {
		s.putBack(h, plan, charge)
		return nil, err
	}
	drop := sync.OnceFunc(func() { s.drop(r.Crate, a) })
	defer drop()
	if r.Size > router.SmallCrate {
		s.router.Adopting(&plan)
	}
	if err := s.dispatch(r, plan, h.asked()); err != nil {
		s.putBack(h, plan, charge)
		return nil, errors.Join(err, s.withdraw(ctx, r.Crate))
	}
	m, err = s.await(ctx, r.Crate, a, false)
	if err == nil && root(&m) != sums.Root() {
		err = &store.Error{Kind: store.Unavailable, Op: opPut, Subject: r.Crate.String(), Detail: "the nodes got other bytes than were sent"}
	}
	// From here on the events tell of what changes, and the receipts are as of now.
	drop()
	var receipts []store.Receipt
	if err == nil {
		receipts, err = s.receiptsNow(ctx, r.Crate)
	}
	if err != nil {
		h.unspent(charge)
		return nil, errors.Join(err, s.withdraw(ctx, r.Crate))
	}
	s.spent(h, charge)
	draw.Commit()
	return receipts, nil
}

// find gives the manifest of a crate that the store has.
func (s *Store) find(id store.CrateID) (m router.Manifest, there bool, err error) {
	m, err = s.router.Manifest(id)
	if errors.Is(err, store.NotFound) {
		return m, false, nil
	}
	return m, err == nil && visible(&m), err
}

// repeat answers for a crate that is there. Where no node has it right any more, what is sent
// now makes it good.
func (s *Store) repeat(ctx context.Context, m *router.Manifest, r store.PutRequest) ([]store.Receipt, error) {
	if r.Expect == nil && r.Source == nil {
		return nil, &store.Error{Kind: store.Invalid, Op: opPut, Subject: r.Crate.String(), Detail: "no source"}
	}
	if err := blocks.Same(ctx, info(m), r); err != nil {
		return nil, err
	}
	if m.Copies() > 0 || r.Source == nil {
		return s.receiptsNow(ctx, r.Crate)
	}
	want := root(m)
	r.Expect = &want
	a, _, err := s.receive(ctx, r, "")
	if err != nil {
		return nil, err
	}
	defer s.drop(r.Crate, a)
	s.router.Kick()
	if _, err := s.await(ctx, r.Crate, a, true); err != nil {
		return nil, err
	}
	return s.receiptsNow(ctx, r.Crate)
}

func info(m *router.Manifest) store.CrateInfo {
	return store.CrateInfo{ID: m.Crate, Form: formOf(m), Size: m.Size, Root: root(m)}
}

func root(m *router.Manifest) store.Digest {
	for _, f := range m.Forms {
		if f.Form == store.Plain {
			return f.Root
		}
	}
	return store.Digest{}
}

// receive makes the body of a crate, with the checksums of what is in it, from which the
// router sends until drop.
func (s *Store) receive(ctx context.Context, r store.PutRequest, path string) (*arrival, store.Checksums, error) {
	var room *booking.Passage
	if path == "" {
		var err error
		if room, err = s.transit.Hold(ctx, store.OwnerID{}, r.Size, nil); err != nil {
			return nil, store.Checksums{}, err
		}
	}
	a := &arrival{room: room, size: r.Size, path: filepath.Join(s.o.Dir, r.Crate.String()), news: make(chan struct{}, 1), refused: make(map[*onward]error)}
	sums, err := s.fill(ctx, r, path, a.path)
	if err != nil {
		_ = os.Remove(a.path) // what is left of it goes at the next Open
		room.End()
		return nil, sums, err
	}
	room.Written(r.Size)
	s.mu.Lock()
	s.puts[r.Crate] = a
	s.mu.Unlock()
	return a, sums, nil
}

func (s *Store) fill(ctx context.Context, r store.PutRequest, from, to string) (sums store.Checksums, err error) {
	if from != "" {
		if sums, err = blocks.Sums(ctx, r); err != nil {
			return sums, err
		}
		if err := os.Link(from, to); err != nil {
			k := store.Unavailable
			if errors.Is(err, syscall.EXDEV) {
				k = store.Conflict
			}
			return sums, &store.Error{Kind: k, Op: "adopt file", Subject: r.Crate.String(), Err: err}
		}
		return sums, nil
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return sums, diskError(r.Crate, err)
	}
	sums, err = blocks.Ingest(ctx, r, func(block []byte) error {
		_, err := f.Write(block)
		return diskError(r.Crate, err)
	})
	return sums, errors.Join(err, diskError(r.Crate, f.Close()))
}

// diskError gives an error of the disk with the bodies a kind.
func diskError(id store.CrateID, err error) error {
	if err == nil {
		return nil
	}
	k := store.Unavailable
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		k = store.NoSpace
	}
	return &store.Error{Kind: k, Op: opPut, Subject: id.String(), Detail: "the disk for what is on its way", Err: err}
}

// drop ends the body of a crate: further copies are made from those there are.
func (s *Store) drop(id store.CrateID, a *arrival) {
	s.mu.Lock()
	delete(s.puts, id)
	s.mu.Unlock()
	// Who sends from it has it open; a node may have adopted it.
	if err := os.Remove(a.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.WithError(err).Warn("a body could not be removed; it goes at the next start")
	}
	a.room.End()
}

// dispatch has the router send a crate, to the nodes of a plan and none that its sender rules
// out.
func (s *Store) dispatch(r store.PutRequest, plan router.Plan, ask terms) error {
	barred := s.excluded(ask)
	barred = barred[:min(len(barred), router.MaxBarred)]
	_, err := s.shared.Update(func(tx *ledger.Tx) error {
		return s.router.AgainTx(tx, router.NewCrate{ID: r.Crate, Size: r.Size, Origin: originOf(r.Form, ask.hops), Plan: plan, Barred: barred})
	})
	if err != nil {
		return err
	}
	var added router.Added
	_, err = s.local.Update(func(tx *ledger.Tx) error {
		var err error
		added, err = s.router.EnqueueTx(tx, r.Crate, r.Size, plan)
		return err
	})
	if err != nil {
		return err
	}
	s.router.Handover(plan, added)
	return nil
}

// await waits until a leaf has given its receipt, and then for a while for the others that can
// be awaited. settled: no more than that a copy is right again.
func (s *Store) await(ctx context.Context, id store.CrateID, a *arrival, settled bool) (router.Manifest, error) {
	look := time.NewTicker(PutLook)
	defer look.Stop()
	limit := PutLimit + time.Duration(a.size/PutRate)*time.Second
	begun, answered := time.Now(), time.Time{}
	silent := begun
	for {
		m, err := s.router.Manifest(id)
		if err != nil {
			return m, err
		}
		awaited, err := s.router.Awaited(&m)
		if err != nil {
			return m, err
		}
		if awaited > 0 {
			silent = time.Now()
		}
		switch {
		case m.Retired:
			return m, &store.Error{Kind: store.Conflict, Op: opPut, Subject: id.String(),
				Detail: "its id has stood for other bytes on a node", Hint: "use a new id"}
		case m.Copies() > 0 && (settled || awaited == 0):
			return m, nil
		case m.Copies() > 0 && answered.IsZero():
			answered = time.Now()
		case m.Copies() > 0 && time.Since(answered) > PutPatience:
			return m, nil
		case m.Copies() == 0 && awaited > 0 && s.refusals(a) >= awaited:
			return m, &store.Error{Kind: store.NoSpace, Op: opPut, Subject: id.String(), Detail: "the peers behind this depot have no place for it beside those that it came through"}
		case m.Copies() == 0 && time.Since(silent) > SilentPatience:
			return m, &store.Error{Kind: store.Unavailable, Op: opPut, Subject: id.String(), Detail: "no node of this depot answers"}
		case m.Copies() == 0 && time.Since(begun) > limit:
			return m, &store.Error{Kind: store.Unavailable, Op: opPut, Subject: id.String(), Detail: "no node has taken it in " + limit.String()}
		}
		select {
		case <-a.news:
		case <-look.C:
		case <-ctx.Done():
			if m.Copies() > 0 {
				return m, nil
			}
			return m, blocks.Ended(opPut, id, context.Cause(ctx))
		}
	}
}

func (s *Store) refusals(a *arrival) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(a.refused)
}

// withdraw takes back a crate whose sender gets an error.
func (s *Store) withdraw(ctx context.Context, id store.CrateID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if err := s.router.Forget(ctx, id); err != nil {
		return &store.Error{Kind: store.Unavailable, Op: opPut, Subject: id.String(), Detail: "it could not be taken back", Err: err}
	}
	return nil
}

// receiptsNow are those of all leaves that have a crate, by what survives a power cut.
func (s *Store) receiptsNow(ctx context.Context, id store.CrateID) ([]store.Receipt, error) {
	m, err := s.router.Manifest(id)
	if err != nil {
		return nil, err
	}
	if err := s.o.Ledger.Sync(ctx, s.o.Ledger.Position()); err != nil {
		return nil, err
	}
	return s.receipts(&m)
}

// receipts are those of all leaves that have a crate.
func (s *Store) receipts(m *router.Manifest) ([]store.Receipt, error) {
	sums, err := s.router.Checksums(m)
	if err != nil {
		return nil, err
	}
	var out []store.Receipt
	for _, d := range m.Destinations {
		if d.State != router.Verified || !d.Durable || d.Unknown {
			continue
		}
		if len(d.Leaves) == 0 {
			out = append(out, store.Receipt{Leaf: d.Node, Sums: sums, Time: d.Time, Address: d.Address, Fingerprint: d.Fingerprint})
		}
		for _, l := range d.Leaves {
			out = append(out, store.Receipt{Leaf: l.ID, Sums: sums, Time: l.Time, Address: l.Address, Fingerprint: l.Fingerprint})
		}
	}
	if len(out) == 0 {
		return nil, &store.Error{Kind: store.Corrupt, Op: opPut, Subject: m.Crate.String(), Detail: "no node has a right copy of it any more"}
	}
	return out, nil
}

// adoptable gives the source of a file that may be taken over. One that is gone may have been,
// and the repeat is believed.
func (s *Store) adoptable(r *store.PutRequest, path string) (store.Source, error) {
	bad := func(k store.Kind, detail string) (store.Source, error) {
		return nil, &store.Error{Kind: k, Op: "adopt file", Subject: path, Detail: detail}
	}
	at, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		m, there, err := s.find(r.Crate)
		if err != nil || !there {
			return bad(store.NotFound, "there is no such file")
		}
		if r.Expect == nil {
			known := root(&m)
			r.Expect = &known
		}
		return nil, nil
	case err != nil:
		return nil, &store.Error{Kind: store.Unavailable, Op: "adopt file", Subject: path, Err: err}
	case !at.Mode().IsRegular():
		return bad(store.Invalid, "it is not a regular file")
	case r.Size > 0 && at.Size() != r.Size:
		return bad(store.Corrupt, fmt.Sprintf("it has %d bytes, not %d", at.Size(), r.Size))
	case !s.AdoptsFrom(filepath.Dir(path)):
		return bad(store.Conflict, "it lies on another filesystem than the depot's bodies")
	}
	return blocks.File(path), nil
}
