package directory

import (
	"context"
	"errors"
	"os"

	"stasis/store"
)

// place takes received crates through the steps of doc.go, all of them a step at a
// time, and ends every arrival: with its draw committed, or with an err and nothing
// left of it. watch is as in tree.syncNames.
func (s *Store) place(ctx context.Context, as []*arrival, watch *os.File) {
	defer func() {
		for _, a := range as {
			s.end(a)
		}
	}()
	if len(alive(as)) == 0 {
		return
	}
	intent, err := s.secure(ctx, alive(as), watch)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		for _, a := range alive(as) {
			a.err = s.tree.land(a.r.Crate, a.r.Form)
			a.moved = a.err == nil
		}
		err = s.tree.syncNames(idsOf(alive(as)), watch)
	}
	var position store.Position
	if err == nil {
		position, err = s.register(alive(as), intent)
	}
	if err != nil {
		failAll(as, err)
		s.retreat(as, intent)
		return
	}
	for _, a := range alive(as) {
		a.position = position
		a.draw.Commit()
	}
}

// alive gives those that nothing has gone wrong with.
func alive(as []*arrival) []*arrival {
	ok := make([]*arrival, 0, len(as))
	for _, a := range as {
		if a.err == nil {
			ok = append(ok, a)
		}
	}
	return ok
}

func failAll(as []*arrival, err error) {
	for _, a := range alive(as) {
		a.err = err
	}
}

func idsOf(as []*arrival) []store.CrateID {
	ids := make([]store.CrateID, len(as))
	for i, a := range as {
		ids[i] = a.r.Crate
	}
	return ids
}

// secure makes the data durable and, beside it, the intent, which must be before
// any name can.
func (s *Store) secure(ctx context.Context, as []*arrival, watch *os.File) (intent []byte, err error) {
	files := make([]*os.File, len(as))
	names := make([]named, len(as))
	for i, a := range as {
		files[i], names[i] = a.file, named{a.r.Crate, a.r.Form}
	}
	number, p, err := s.index.intend(names)
	if err != nil {
		return nil, err
	}
	synced := make(chan error, 1)
	go func() { synced <- s.index.sync(context.WithoutCancel(ctx), p) }()
	err = s.tree.syncFiles(files, watch)
	for _, a := range as {
		if err == nil {
			err = s.index.saveChunks(a.r.Crate, a.sums)
		}
	}
	return numberKey(keyIntent, number), errors.Join(err, <-synced)
}

// register makes the crates in the index, durably, and ends the intent. It gives the
// position that they have. After an error none is there.
func (s *Store) register(as []*arrival, intent []byte) (position store.Position, err error) {
	ls := make([]landing, len(as))
	for i, a := range as {
		ls[i] = landing{rec: a.rec, reservation: a.r.Reservation, known: a.known}
	}
	landed, p, err := s.index.land(ls, intent)
	if err == nil {
		// From here on it is not the caller's to end any more.
		err = s.index.sync(context.Background(), p)
	}
	if err == nil {
		position, err = s.publish()
	}
	if err == nil {
		return position, nil
	}
	for i, l := range ls[:landed] {
		if back := s.index.unland(l, s.newMark(l.rec.form)); back != nil {
			// The crate stays, and so must its charge and its file.
			s.log.WithError(back).WithField("crate", l.rec.id.String()).Error("a crate could not be taken back")
			as[i].draw.Commit()
			as[i].moved = false
		}
	}
	return store.Position{}, err
}

// retreat removes what was renamed into its place already, and then the intent.
func (s *Store) retreat(as []*arrival, intent []byte) {
	whole := true
	for _, a := range as {
		if !a.moved {
			continue
		}
		if err := s.tree.remove(a.r.Crate, a.r.Form); err != nil {
			s.log.WithError(err).Warn("the file of a failed put could not be removed; the next open does it")
			whole = false
			continue
		}
		if err := s.index.dropChunks(a.r.Crate); err != nil {
			whole = false
		}
	}
	if !whole || intent == nil {
		return
	}
	if err := s.index.forget(intent); err != nil {
		s.log.WithError(err).Warn("an intent could not be withdrawn; the next open does it")
	}
}

// end closes an arrival's file, removes what is left of it in tmp/ and, unless the
// draw was committed, gives its space back.
func (s *Store) end(a *arrival) {
	if a.file != nil {
		// Its data was synced, or does not count: closing it has nothing to say.
		_ = a.file.Close()
		a.file = nil
		if !a.moved {
			if err := s.tree.drop(a.r.Crate); err != nil {
				s.log.WithError(err).Warn("the file of a failed put could not be removed; the next open does it")
			}
		}
	}
	a.draw.Undo()
}

// answer is what a caller gets for an arrival that has ended.
func (s *Store) answer(a *arrival) ([]store.Receipt, error) {
	if a.err != nil {
		return nil, s.crateError(opPut, a.r.Crate, a.err)
	}
	return s.receipt(a.sums, a.position), nil
}

// crateError names the crate and the store in an error of the filesystem.
func (s *Store) crateError(op string, id store.CrateID, err error) error {
	return diskError(op, id.String()+" in "+s.path, err)
}
