package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/blocks"
)

const opAdopt = "adopt file"

// AdoptsFrom is store.Adopter's.
func (s *Store) AdoptsFrom(dir string) bool {
	here, err := placeOf(int(s.tree.crates.Fd()), "")
	if err != nil {
		return false
	}
	there, err := placeOf(unix.AT_FDCWD, dir)
	return err == nil && here == there
}

// place says where a rename may go: within one mount of one device.
type place struct{ device, mount uint64 }

// placeOf tells that of a path, counted from an open directory; "" is that
// directory itself. Kernels that don't tell the mount leave it 0.
func placeOf(dir int, path string) (place, error) {
	var st unix.Statx_t
	flags := unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := retry(func() error { return unix.Statx(dir, path, flags, unix.STATX_MNT_ID, &st) }); err != nil {
		return place{}, err
	}
	p := place{device: unix.Mkdev(st.Dev_major, st.Dev_minor)}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		p.mount = st.Mnt_id
	}
	return p, nil
}

// Adopt is store.Adopter's.
func (s *Store) Adopt(ctx context.Context, r store.PutRequest, path string) ([]store.Receipt, error) {
	return do(ctx, s, opAdopt, toChange, nil, func() ([]store.Receipt, error) {
		receipts, err := s.adopt(ctx, r, path)
		return receipts, diskError(opAdopt, path, err)
	})
}

func (s *Store) adopt(ctx context.Context, r store.PutRequest, path string) ([]store.Receipt, error) {
	if err := blocks.CheckPut(r); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if len(path) > pathSize {
		return nil, &store.Error{Kind: store.Invalid, Op: opAdopt, Subject: path, Detail: "its path is too long"}
	}
	unlock, err := s.lock(ctx, opAdopt, r.Crate)
	if err != nil {
		return nil, err
	}
	defer unlock()
	k, err := s.finished(r.Crate)
	if err != nil {
		return nil, err
	}
	if k.there {
		return s.repeatAdopt(ctx, k.rec, r, path)
	}
	return s.adoptNew(ctx, r, path, k)
}

// repeatAdopt answers for a crate that is there. A file that is gone has been
// adopted; one that is still at path must have the same bytes, and stays.
func (s *Store) repeatAdopt(ctx context.Context, rec record, r store.PutRequest, path string) ([]store.Receipt, error) {
	r.Source = blocks.File(path)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && r.Expect == nil {
		r.Expect = &rec.root
	}
	return s.repeat(ctx, rec, r)
}

// finished ends an adoption of this crate that an earlier failure has left half
// done, and gives what is then known of the id.
func (s *Store) finished(id store.CrateID) (known, error) {
	a, open, err := s.adoptionOf(id)
	if err != nil {
		return known{}, err
	}
	if !open {
		return s.index.lookup(id)
	}
	_, before, err := s.index.find(id)
	if err != nil {
		return known{}, err
	}
	if err := s.endAdoption(a); err != nil {
		return known{}, err
	}
	k, err := s.index.lookup(id)
	if err == nil && k.there && !before {
		s.book.Found(a.rec.charge())
	}
	return k, err
}

// adoptNew adopts a crate that is not there.
func (s *Store) adoptNew(ctx context.Context, r store.PutRequest, path string, k known) ([]store.Receipt, error) {
	f, err := s.adoptable(r, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	draw, err := s.book.Draw(r.Reservation, r.Crate, store.Charge(r.Size))
	if err != nil {
		return nil, err
	}
	defer draw.Undo()
	draw.Adopts(r.Size)
	r.Source = openSource(f)
	// The disk writes while the bytes are hashed.
	synced := make(chan error, 1)
	go func() { synced <- s.tree.syncFiles([]*os.File{f}, nil) }()
	sums, err := blocks.Sums(ctx, r)
	unsynced := <-synced
	if err != nil {
		return nil, err
	}
	a := adoption{reservation: r.Reservation, path: path, rec: newRecord(r.Crate, r.Form, sums)}
	if err := k.allows(r, a.rec.root); err != nil {
		return nil, err
	}
	if unsynced != nil {
		return nil, unsynced
	}
	there, err := s.moveIn(ctx, a, sums, k)
	if there {
		draw.Commit()
	}
	if err != nil {
		return nil, err
	}
	position, err := s.publish() // settleIn has done it: it costs nothing
	if err != nil {
		return nil, err
	}
	return s.receipt(sums, position), nil
}

// adoptable opens the file if it may be adopted as this crate.
func (s *Store) adoptable(r store.PutRequest, path string) (*os.File, error) {
	bad := func(k store.Kind, detail string) (*os.File, error) {
		return nil, &store.Error{Kind: k, Op: opAdopt, Subject: path, Detail: detail}
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad(store.NotFound, "there is no such file")
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return bad(store.Invalid, "it is not a regular file")
	case info.Size() != r.Size:
		return bad(store.Corrupt, fmt.Sprintf("it has %d bytes, not %d", info.Size(), r.Size))
	case !s.AdoptsFrom(filepath.Dir(path)):
		return bad(store.Conflict, "it lies on another filesystem than "+s.path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(info, opened) {
		err = &store.Error{Kind: store.Conflict, Op: opAdopt, Subject: path, Detail: "it was replaced meanwhile"}
	}
	if err != nil {
		_ = f.Close() // only opened to be read
		return nil, err
	}
	return f, nil
}

// moveIn records the intent, renames, and makes the crate. After an error the file
// is where it was; where that could not be, the intent stays and a repeat, or the
// next open, ends the adoption. there says that the crate is in the index, which with an
// error means that it is there and not surely durable.
func (s *Store) moveIn(ctx context.Context, a adoption, sums store.Checksums, k known) (there bool, err error) {
	intent := crateKey(keyAdopted, a.rec.id)
	err = s.declare(ctx, a, sums, intent)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.undeclare(a, intent)
		return false, err
	}
	d, err := s.tree.shard(a.rec.id)
	if err == nil {
		err = s.tree.bring(a.path, d, fileName(a.rec.id, a.rec.form))
	}
	if errors.Is(err, unix.EXDEV) {
		err = &store.Error{Kind: store.Conflict, Op: opAdopt, Subject: a.path, Detail: "it lies on another filesystem than " + s.path, Err: err}
	}
	if err != nil {
		s.undeclare(a, intent)
		return false, err
	}
	there, err = s.settleIn(a, k, intent)
	if err == nil || there {
		return there, err
	}
	if back := s.renameBack(a, d); back != nil {
		return false, errors.Join(err, back)
	}
	s.undeclare(a, intent)
	return false, err
}

// declare makes the intent durable, with all the crate's record will need.
func (s *Store) declare(ctx context.Context, a adoption, sums store.Checksums, intent []byte) error {
	if err := s.index.put(intent, a.encode()); err != nil {
		return err
	}
	if err := s.index.saveChunks(a.rec.id, sums); err != nil {
		return err
	}
	return s.index.sync(ctx, s.index.db.Position())
}

func (s *Store) undeclare(a adoption, intent []byte) {
	err := s.index.dropChunks(a.rec.id)
	if err == nil {
		err = s.index.forget(intent)
	}
	if err != nil {
		s.log.WithError(err).Warn("the intent to adopt a file could not be withdrawn; the next open does it")
	}
}

// settleIn makes the new name durable, then the crate.
func (s *Store) settleIn(a adoption, k known, intent []byte) (there bool, err error) {
	if err := s.tree.syncNames([]store.CrateID{a.rec.id}, nil); err != nil {
		return false, err
	}
	syncParent(a.path)
	l := landing{rec: a.rec, reservation: a.reservation, known: k}
	_, p, err := s.index.land([]landing{l}, intent)
	if err != nil {
		return false, err
	}
	err = s.index.sync(context.Background(), p)
	if err == nil {
		_, err = s.publish()
	}
	if err != nil {
		back := s.index.unadopt(l, a)
		return back != nil, errors.Join(err, back)
	}
	return true, nil
}

// renameBack brings a file back to where it came from.
func (s *Store) renameBack(a adoption, d *os.File) error {
	name := fileName(a.rec.id, a.rec.form)
	if err := s.tree.probe.before("rename back"); err != nil {
		return err
	}
	err := retry(func() error {
		return unix.Renameat2(int(d.Fd()), name, unix.AT_FDCWD, a.path, unix.RENAME_NOREPLACE)
	})
	if unsupported(err) {
		// A share without that flag: look first.
		if _, err = os.Lstat(a.path); errors.Is(err, fs.ErrNotExist) {
			err = retry(func() error { return unix.Renameat(int(d.Fd()), name, unix.AT_FDCWD, a.path) })
		} else if err == nil {
			err = unix.EEXIST
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename back", Old: filepath.Join(d.Name(), name), New: a.path, Err: err}
	}
	return nil
}

// bring renames a file from anywhere into one of the tree's directories.
func (t *tree) bring(path string, d *os.File, name string) error {
	if err := t.probe.before("bring"); err != nil {
		return err
	}
	err := retry(func() error { return unix.Renameat(unix.AT_FDCWD, path, int(d.Fd()), name) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: path, New: filepath.Join(d.Name(), name), Err: err}
	}
	return nil
}

// readerSource gives the bytes of a file that is open.
type readerSource struct{ f *os.File }

func openSource(f *os.File) store.Source { return readerSource{f} }

// OpenAt is store.Source's.
func (s readerSource) OpenAt(_ context.Context, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.f, offset, store.MaxCrate+1)), nil
}
