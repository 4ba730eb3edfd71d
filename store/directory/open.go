package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/booking"
)

// Open opens the store at path. want is the leaf that should be there; zero takes
// any. Unavailable if the path has no marker, Conflict if another leaf lies there or
// the store is open already, Denied if it is another owner's, Corrupt if its index is
// lost or damaged: then Rebuild is the way.
//
// It reads no data, and takes as long for a few crates as for many millions. What
// an unclean stop has left is put in order before it returns.
func Open(ctx context.Context, path string, want store.NodeID, owner store.OwnerID, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, diskError(opOpen, path, err)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, &store.Error{Kind: store.Unavailable, Op: opOpen, Subject: path, Err: err}
	}
	s, err := bounded(ctx, abandonAfter, func() (*Store, error) { return open(path, want, owner, o) },
		func(s *Store) { _ = s.Close() }) // nobody is left to hear of an error
	return s, diskError(opOpen, path, err)
}

func withDefaults(o Options) Options {
	if o.Clock == nil {
		o.Clock = booking.System
	}
	if o.Log == nil {
		l := logrus.New()
		l.SetOutput(io.Discard)
		o.Log = l
	}
	return o
}

func open(path string, want store.NodeID, owner store.OwnerID, o Options) (*Store, error) {
	o = withDefaults(o)
	marker, err := claim(path, want, owner)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: path, leaf: marker.ID, clock: o.Clock, log: o.Log.WithField("node", path),
		marker: marker.file, marks: make(map[store.CrateID]mark),
	}
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(marker.file.Fd()), &st) }); err != nil {
		return nil, errors.Join(os.NewSyscallError("fstat", err), s.abort())
	}
	s.markerDev, s.markerIno = st.Dev, st.Ino
	if err := s.load(o); err != nil {
		return nil, errors.Join(err, s.abort())
	}
	return s, nil
}

// load takes what the store needs, one thing after the other.
func (s *Store) load(o Options) (err error) {
	if s.tree, err = openTree(s.path); err != nil {
		return err
	}
	if err := s.openIndex(o); err != nil {
		return err
	}
	if err := s.sweep(); err != nil {
		return err
	}
	if err := s.openSign(); err != nil {
		return err
	}
	return s.openBook()
}

// claimed is a root whose marker is locked.
type claimed struct {
	Marker
	file *os.File
}

// claim takes the root for this process, if it is the right one.
func claim(path string, want store.NodeID, owner store.OwnerID) (claimed, error) {
	f, m, err := takeMarker(path)
	if err != nil {
		return claimed{}, err
	}
	refuse := func(k store.Kind, detail, hint string) (claimed, error) {
		_ = f.Close() // nothing was written to it
		return claimed{}, &store.Error{Kind: k, Op: opOpen, Subject: path, Detail: detail, Hint: hint}
	}
	if m.Owner != owner {
		return refuse(store.Denied, "it belongs to another vault", "use a directory of this vault, or make a new one")
	}
	if !want.IsZero() && m.ID != want {
		return refuse(store.Conflict, fmt.Sprintf("node %s lies there, not %s", m.ID, want),
			"another disk may be mounted there: mount the right one")
	}
	return claimed{m, f}, nil
}

// abort gives up what a failed open had taken.
func (s *Store) abort() (err error) {
	if s.index != nil {
		err = s.index.db.Close()
	}
	s.sign.close()
	if s.tree != nil {
		s.tree.close()
	}
	return errors.Join(err, s.marker.Close())
}

func (s *Store) openIndex(o Options) error {
	lost := func(err error) error {
		return &store.Error{
			Kind: store.Corrupt, Op: opOpen, Subject: s.path, Detail: "its index is lost or damaged",
			Hint: "it can be made anew from the crates, which takes as long as to read them all", Err: err,
		}
	}
	dir := filepath.Join(s.path, indexName)
	// An empty index in place of a lost one would make every crate vanish.
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return lost(nil)
	} else if err != nil {
		return err
	}
	x, err := openIndex(dir, o)
	if errors.Is(err, store.Corrupt) {
		return lost(err)
	}
	if err != nil {
		return err
	}
	s.index = x
	m, ok, err := x.meta()
	switch {
	case err != nil:
		if errors.Is(err, store.Corrupt) {
			return lost(err)
		}
		return err
	case !ok:
		return lost(nil)
	case m.id != s.leaf:
		return &store.Error{
			Kind: store.Conflict, Op: opOpen, Subject: s.path,
			Detail: fmt.Sprintf("its index belongs to node %s, its marker says %s", m.id, s.leaf),
			Hint:   "move the index aside: it is then made anew from the crates",
		}
	}
	switch {
	case o.Capacity > 0:
		s.capacity = o.Capacity
	case o.Capacity == 0:
		s.capacity = m.capacity
	}
	return nil
}

// openBook loads the accounts.
func (s *Store) openBook() error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(s.tree.root.Fd()), &st) }); err != nil {
		return &os.PathError{Op: "stat", Path: s.path, Err: err}
	}
	s.device = st.Dev
	t, err := s.index.totals()
	if err != nil {
		return err
	}
	records, err := s.index.reservations()
	if err != nil {
		return err
	}
	s.book = booking.New(booking.Options{
		Leaf: s.leaf, Capacity: s.capacity, Device: s.device, Journal: s.index, Clock: s.clock,
		Avail: func(context.Context) (int64, error) {
			n, err := s.tree.avail()
			return n, diskError("ask for free space", s.path, err)
		},
	}, booking.Totals{Used: t.used, Crates: t.crates}, records)
	if err := s.book.Bury(context.Background()); err != nil {
		s.book.Close()
		return err
	}
	return nil
}
