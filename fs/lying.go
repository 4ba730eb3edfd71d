package fs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"stasis/fs/extent"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

// lieTx records where in the body of a change a new crate lies.
func lieTx(tx *ledger.Tx, c *change, e extent.Extent) {
	r := lyingRecord{Body: c.body, Offset: e.Offset, Length: e.Length, Ino: c.ino, Shared: len(c.made) > 1}
	tx.Put(crateKey(tableLying, e.Crate), r.encode())
}

// setLiersTx records how many crates lie in a body together.
func setLiersTx(tx *ledger.Tx, body store.CrateID, n uint64) {
	if n > 0 {
		tx.Put(crateKey(tableLiers, body), binary.AppendUvarint(nil, n))
	} else {
		tx.Delete(crateKey(tableLiers, body))
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

// unlieTx forgets, in a transaction of the local space, that a crate lies in a body, which is
// dropped with the last of them. It writes three keys at most.
func unlieTx(tx *ledger.Tx, c store.CrateID) error {
	v, ok, err := tx.Get(crateKey(tableLying, c))
	if err != nil || !ok {
		return err
	}
	r, err := decodeLying(v)
	if err != nil {
		return err
	}
	tx.Delete(crateKey(tableLying, c))
	if r.Shared {
		n, err := countLiers(tx, r.Body)
		if err != nil {
			return err
		}
		n = max(1, n) - 1
		if setLiersTx(tx, r.Body, n); n > 0 {
			return nil
		}
	}
	return dropUnnamedTx(tx, r.Ino, r.Body)
}

// unlieKeys is how many keys unlieTx writes at most.
const unlieKeys = 3

// dropUnnamedTx drops a body in which no crate lies any more, unless it is the inode's body
// still: the list that was made from it may not have become the inode's, or is about to be.
func dropUnnamedTx(tx *ledger.Tx, ino names.Ino, body store.CrateID) error {
	v, ok, err := tx.Get(key(tableBody, uint64(ino)))
	if err != nil {
		return err
	}
	if ok {
		r, err := decodeBody(v)
		if err != nil || r.Body == body {
			return err
		}
	}
	dropTx(tx, body)
	return nil
}

// dropUnusedTx drops a body that is its inode's no more, if no crate of those made from it lies
// there.
func dropUnusedTx(tx *ledger.Tx, body store.CrateID, made []extent.Extent) error {
	used := false
	switch len(made) {
	case 0:
	case 1:
		_, ok, err := tx.Get(crateKey(tableLying, made[0].Crate))
		if err != nil {
			return err
		}
		used = ok
	default:
		n, err := countLiers(tx, body)
		if err != nil {
			return err
		}
		used = n > 0
	}
	if !used {
		dropTx(tx, body)
	}
	return nil
}

// unlie takes crates out of their bodies.
func (s *FS) unlie(crates ...store.CrateID) error {
	for len(crates) > 0 {
		n := min(len(crates), s.keys/unlieKeys)
		_, err := s.local.Update(func(tx *ledger.Tx) error {
			for _, c := range crates[:n] {
				if err := unlieTx(tx, c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
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
	open := func() (router.BodyFile, error) { return s.bodies.Open(r.Body) }
	return router.Body{Path: path, Offset: r.Offset, Size: r.Length, Adoptable: adoptable, Open: open}, nil
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
		return s.readFile(r.Body, p, r.Offset+off)
	}
	return s.readChecked(c, r, p, off)
}

// readChecked fills p from the blocks of a body that are what was recorded of them.
func (s *FS) readChecked(c store.CrateID, r *lyingRecord, p []byte, off int64) error {
	buf := make([]byte, min(store.BlockSize, r.Length))
	for len(p) > 0 {
		i := off / store.BlockSize
		b := buf[:store.BlockLen(r.Length, i)]
		if err := s.readFile(r.Body, b, r.Offset+i*store.BlockSize); err != nil {
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

func (s *FS) readFile(id store.CrateID, p []byte, off int64) error {
	f, err := s.bodies.Open(id)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := f.ReadAt(p, off)
	if n < len(p) && errors.Is(err, io.EOF) {
		err = &os.PathError{Op: "read", Path: f.Name(), Err: io.ErrUnexpectedEOF}
	}
	if n == len(p) {
		return nil
	}
	return err
}
