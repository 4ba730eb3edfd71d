package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/blocks"
)

// Open is store.Store's.
func (s *Store) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return s.open(ctx, id, offset, length, checked)
}

// OpenUnverified is store.Unverified's.
func (s *Store) OpenUnverified(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return s.open(ctx, id, offset, length, unchecked)
}

func (s *Store) open(ctx context.Context, id store.CrateID, offset, length int64, how care) (io.ReadCloser, error) {
	const op = "open crate"
	r, err := do(ctx, s, op, toRead, closeLate, func() (*blocks.Reader, error) {
		r, err := s.reader(ctx, op, id, offset, length, how)
		if err == nil && length <= store.BlockSize {
			r.Prefetch()
		}
		return r, err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// closeLate gives up a reader whose caller has gone. It was only to be read from.
func closeLate(r *blocks.Reader) { _ = r.Close() }

// Verify is store.Store's.
func (s *Store) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	const op = "verify crate"
	return do(ctx, s, op, toRead, nil, func() (store.Digest, error) {
		r, err := s.reader(ctx, op, id, offset, length, afresh)
		if err != nil {
			return store.Digest{}, err
		}
		d, err := blocks.Prove(r, nonce)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		return d, err
	})
}

// care is how much a reader trusts what it reads.
type care uint8

const (
	checked   care = iota // every block against its digest
	unchecked             // the caller does that
	afresh                // checked, and from the medium
)

// reader opens a range of a crate.
func (s *Store) reader(ctx context.Context, op string, id store.CrateID, offset, length int64, how care) (*blocks.Reader, error) {
	rec, err := s.readable(op, id)
	if err != nil {
		return nil, err
	}
	length, err = blocks.Range(op, id, rec.size, offset, length)
	if err != nil {
		return nil, err
	}
	f, err := s.file(op, rec)
	if err != nil {
		return nil, err
	}
	c := blocks.Crate{
		ID: id, Size: rec.size,
		Fetch: func(ctx context.Context, p []byte, offset int64) error { return s.fetch(ctx, op, f, id, p, offset) },
		Damaged: func(int64) {
			// What a later read gives should be the medium's answer, not the cache's.
			dropCache(f, 0, 0)
			s.damaged()
		},
		Close: f.Close,
	}
	switch digests := (&digests{s: s, rec: rec}); how {
	case afresh:
		dropCache(f, offset, length)
		fallthrough
	case checked:
		c.Digest = digests.get
	}
	return blocks.NewReader(ctx, op, c, offset, length), nil
}

func (s *Store) must(op string, id store.CrateID) (record, error) {
	rec, ok, err := s.index.find(id)
	if err == nil && !ok {
		err = &store.Error{Kind: store.NotFound, Op: op, Subject: id.String()}
	}
	return rec, err
}

// readable is must for who only reads: also a file that is being adopted has moved here
// before the index has it, and lies nowhere else meanwhile.
func (s *Store) readable(op string, id store.CrateID) (record, error) {
	rec, err := s.must(op, id)
	if !errors.Is(err, store.NotFound) {
		return rec, err
	}
	a, open, ferr := s.adoptionOf(id)
	switch {
	case ferr != nil:
		return record{}, ferr
	case open:
		return a.rec, nil
	}
	// The adoption may have ended between the two looks.
	return s.must(op, id)
}

// file opens the file of a crate that the index has.
func (s *Store) file(op string, rec record) (*os.File, error) {
	f, err := s.tree.open(rec.id, rec.form)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.lostFile(op, rec, "its file is gone")
	}
	if err != nil {
		return nil, s.crateError(op, rec.id, err)
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != rec.size) {
		err = s.lostFile(op, rec, fmt.Sprintf("its file has %d bytes, not %d", info.Size(), rec.size))
	}
	if err != nil {
		_ = f.Close() // only opened to be read
		return nil, s.crateError(op, rec.id, err)
	}
	return f, nil
}

// lostFile is the answer where a crate's file is not what the index says, unless
// that is because the whole disk has gone.
func (s *Store) lostFile(op string, rec record, detail string) error {
	// A discard that came between takes the record first.
	if _, ok, err := s.index.find(rec.id); err == nil && !ok {
		return &store.Error{Kind: store.NotFound, Op: op, Subject: rec.id.String()}
	}
	if err := s.present(op); err != nil {
		return err
	}
	s.damaged()
	return &store.Error{Kind: store.Corrupt, Op: op, Subject: rec.id.String() + " in " + s.path, Detail: detail}
}

// stands checks that a crate's file is there, without reading it.
func (s *Store) stands(rec record) error {
	size, ok, err := s.tree.size(rec.id, rec.form)
	if err != nil {
		return err
	}
	if !ok || size != rec.size {
		return s.lostFile(opPut, rec, "it is said to be here, but its file is not, or has another size")
	}
	return nil
}

// fetch fills p from a crate's file.
func (s *Store) fetch(ctx context.Context, op string, f *os.File, id store.CrateID, p []byte, offset int64) error {
	_, err := bounded(ctx, 0, func() (int, error) { return f.ReadAt(p, offset) }, nil)
	switch {
	case err == nil:
		return nil
	case err == io.EOF:
		s.damaged()
		return &store.Error{Kind: store.Corrupt, Op: op, Subject: id.String() + " in " + s.path, Detail: "its file ends early"}
	case context.Cause(ctx) != nil && errors.Is(err, context.Cause(ctx)):
		return blocks.Ended(op, id, err)
	case errors.Is(err, unix.EIO) && s.mediumAnswers():
		s.damaged()
		return &store.Error{
			Kind: store.Corrupt, Op: op, Subject: id.String() + " in " + s.path,
			Detail: fmt.Sprintf("the disk can't read it around byte %d", offset), Hint: "look at the disk", Err: err,
		}
	}
	return s.crateError(op, id, err)
}

// mediumAnswers tells a bad sector from a disk that has gone: the marker can still
// be read from the medium.
func (s *Store) mediumAnswers() bool {
	dropCache(s.marker, 0, 0)
	_, err := readMarker(s.marker, s.path)
	return err == nil
}

// digests gives those of one crate's blocks, a chunk of them held. Its user is one
// Reader, which asks for one at a time.
type digests struct {
	s    *Store
	rec  record
	held []store.Digest
	n    int64 // number of the chunk held
}

func (d *digests) get(_ context.Context, i int64) (store.Digest, error) {
	if len(d.rec.inline) > 0 {
		return d.rec.inline[i], nil
	}
	if n := i / chunkBlocks; d.held == nil || n != d.n {
		held, err := d.s.index.chunk(d.rec, n)
		if err != nil {
			return store.Digest{}, err
		}
		d.held, d.n = held, n
	}
	return d.held[i%chunkBlocks], nil
}

// File is store.Filer's.
func (s *Store) File(ctx context.Context, id store.CrateID) (*os.File, error) {
	const op = "open the file of crate"
	return do(ctx, s, op, toRead, func(f *os.File) { _ = f.Close() }, func() (*os.File, error) {
		rec, err := s.must(op, id)
		if err != nil {
			return nil, err
		}
		return s.file(op, rec)
	})
}
