package fs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"stasis/fs/extent"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// lieTx records where crates lie in a body; of is how many will lie in it in all.
func lieTx(tx *ledger.Tx, f *file, made []extent.Extent, of int) {
	for _, e := range made {
		r := lyingRecord{Body: f.body.ID, Offset: e.Offset, Length: e.Length, Ino: f.ino, Shared: of > 1}
		tx.Put(crateKey(tableLying, e.Crate), r.encode())
	}
	if of > 1 {
		tx.Put(crateKey(tableLiers, f.body.ID), binary.AppendUvarint(nil, uint64(of)))
	}
}

func countLiers(tx *ledger.Tx, body store.CrateID) (uint64, error) {
	v, ok, err := tx.Get(crateKey(tableLiers, body))
	if err != nil || !ok {
		return 0, err
	}
	return decodeCount(v)
}

func decodeCount(v []byte) (uint64, error) {
	n, k := binary.Uvarint(v)
	if k <= 0 || k != len(v) {
		return 0, &store.Error{Kind: store.Corrupt, Op: "read a count in the ledger"}
	}
	return n, nil
}

// unlieTx forgets that a crate lies in a body and reports whether it was the last
// one there.
func unlieTx(tx *ledger.Tx, c store.CrateID) (body store.CrateID, last bool, err error) {
	v, ok, err := tx.Get(crateKey(tableLying, c))
	if err != nil || !ok {
		return store.CrateID{}, false, err
	}
	r, err := decodeLying(v)
	if err != nil {
		return store.CrateID{}, false, err
	}
	tx.Delete(crateKey(tableLying, c))
	if !r.Shared {
		return r.Body, true, nil
	}
	n, err := countLiers(tx, r.Body)
	if err != nil {
		return store.CrateID{}, false, err
	}
	if n > 1 {
		tx.Put(crateKey(tableLiers, r.Body), binary.AppendUvarint(nil, n-1))
		return r.Body, false, nil
	}
	tx.Delete(crateKey(tableLiers, r.Body))
	return r.Body, true, nil
}

// unlie takes crates out of their bodies. A body without crates is removed once the
// ledger's word is durable.
func (s *FS) unlie(crates ...store.CrateID) error {
	for len(crates) > 0 {
		n := min(len(crates), extentsPerUpdate)
		var empty []store.CrateID
		pos, err := s.local.Update(func(tx *ledger.Tx) error {
			empty = empty[:0]
			for _, c := range crates[:n] {
				b, last, err := unlieTx(tx, c)
				if err != nil {
					return err
				}
				if last {
					empty = append(empty, b)
					dropTx(tx, b)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, b := range empty {
			s.drops.add(b, pos)
		}
		crates = crates[n:]
	}
	return nil
}

// lies says where in a body a crate lies, if it does.
func (s *FS) lies(c store.CrateID) (lyingRecord, bool, error) {
	v, ok, err := s.local.Get(crateKey(tableLying, c))
	if err != nil || !ok {
		return lyingRecord{}, false, err
	}
	r, err := decodeLying(v)
	return r, err == nil, err
}

// Body gives the bytes of a crate that lies in a body; NotFound if it does not.
func (s *FS) Body(c store.CrateID) (router.Body, error) {
	r, ok, err := s.lies(c)
	if err != nil {
		return router.Body{}, err
	}
	if !ok {
		return router.Body{}, &store.Error{Kind: store.NotFound, Op: "find the body of crate", Subject: c.String()}
	}
	path := s.bodies.Path(r.Body)
	adoptable := false
	if !r.Shared && r.Offset == 0 {
		st, err := os.Stat(path)
		// A body that is not there may have been adopted in an earlier run, which ended
		// before that was recorded: the store that has it says so when it is asked again.
		adoptable = os.IsNotExist(err) || err == nil && st.Size() == r.Length
	}
	return router.Body{Path: path, Offset: r.Offset, Size: r.Length, Adoptable: adoptable}, nil
}

// readCrate fills p from a crate: from the body it lies in, else from the nodes. A node
// that adopts the body has moved the file before it can serve it; that is waited for.
func (s *FS) readCrate(ctx context.Context, c store.CrateID, p []byte, off int64) error {
	for until := time.Now().Add(adoptionWait); ; {
		moving, err := s.tryReadCrate(ctx, c, p, off)
		if err == nil || !moving || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(adoptionPoll):
		}
	}
}

// tryReadCrate also reports whether the body was not where it should be.
func (s *FS) tryReadCrate(ctx context.Context, c store.CrateID, p []byte, off int64) (moving bool, err error) {
	r, ok, err := s.lies(c)
	if err != nil {
		return false, err
	}
	_, wrong := s.wrongBodies.Load(c)
	if ok && !wrong {
		err := s.readBody(c, &r, p, off)
		if err == nil {
			return false, nil
		}
		if moving = os.IsNotExist(err); !moving {
			if errors.Is(err, store.Corrupt) {
				s.wrongBodies.Store(c, struct{}{}) // said once, and not looked at again
			}
			s.log.WithError(err).WithField("crate", c).Warn("read a body; the nodes are asked instead")
		}
	}
	n, err := s.router.ReadAt(ctx, c, p, off)
	if n == len(p) {
		return false, nil
	}
	if ok && wrong && s.readChecked(c, &r, p, off) == nil {
		return false, nil // not all of it is wrong
	}
	if err == nil {
		err = &store.Error{Kind: store.Corrupt, Op: "read crate", Subject: c.String(), Err: io.ErrUnexpectedEOF}
	}
	return moving, err
}

// readBody fills p from the body that a crate lies in. After a power cut a body is the
// word of the disk alone, and is held against what nodes have said of the crate: they may
// have had it whole by then.
func (s *FS) readBody(c store.CrateID, r *lyingRecord, p []byte, off int64) error {
	if _, doubt := s.doubted[c]; !doubt {
		return readFile(s.bodies.Path(r.Body), p, r.Offset+off)
	}
	return s.readChecked(c, r, p, off)
}

// readChecked fills p from the blocks of a body that are what was recorded of them.
func (s *FS) readChecked(c store.CrateID, r *lyingRecord, p []byte, off int64) error {
	path := s.bodies.Path(r.Body)
	buf := make([]byte, min(store.BlockSize, r.Length))
	for len(p) > 0 {
		i := off / store.BlockSize
		b := buf[:store.BlockLen(r.Length, i)]
		if err := readFile(path, b, r.Offset+i*store.BlockSize); err != nil {
			return err
		}
		fits, err := s.router.Fits(c, i, b)
		if err != nil {
			return err
		}
		if !fits {
			return &store.Error{Kind: store.Corrupt, Op: "read the body of crate", Subject: c.String(),
				Detail: fmt.Sprintf("block %d is not what the nodes were given", i)}
		}
		n := copy(p, b[off-i*store.BlockSize:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func readFile(path string, p []byte, off int64) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for len(p) > 0 {
		n, err := unix.Pread(fd, p, off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return &os.PathError{Op: "read", Path: path, Err: io.ErrUnexpectedEOF}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
