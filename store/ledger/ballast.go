package ledger

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/sirupsen/logrus"
)

const (
	ballastName = "ballast"
	ballastTemp = "ballast.tmp"
	// ballastRoom: the ballast is made again when so many times its size is free.
	ballastRoom = 2
)

// ballast is a file that takes up room for no other purpose than to be given up
// when the disk is full, so that the ledger can go on recording what others do to
// make room.
type ballast struct {
	fs   files
	size int64 // bytes; none if not above 0

	mu   sync.Mutex
	have bool
}

// release gives the ballast up and reports whether there was any.
func (b *ballast) release(log logrus.FieldLogger) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.have {
		return false
	}
	b.have = false
	if err := b.fs.Remove(ballastName); err != nil {
		log.WithError(err).Error("the disk is full and the ledger's ballast can't be released")
		return false
	}
	log.WithField("bytes", b.size).Warn("the disk is full: the ledger's ballast is released")
	return true
}

// MakeRoom gives up the ballast, for something on the ledger's disk that the start of a vault can't
// do without, and reports whether there was any. It is made again when there is room.
func (db *DB) MakeRoom() bool { return db.ballast.release(db.log) }

// ensure makes the ballast where it is missing and there is room for it.
func (b *ballast) ensure(log logrus.FieldLogger) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.have || b.size <= 0 {
		return nil
	}
	free, err := b.fs.Free()
	if err != nil || free < ballastRoom*b.size {
		return err
	}
	if err := ignoreAbsent(b.fs.Remove(ballastTemp)); err != nil {
		return err
	}
	f, err := b.fs.Create(ballastTemp)
	if err != nil {
		return err
	}
	err = errors.Join(f.Allocate(b.size), f.Close())
	if err == nil {
		err = b.fs.Rename(ballastTemp, ballastName)
	}
	if err != nil {
		return errors.Join(err, ignoreAbsent(b.fs.Remove(ballastTemp)))
	}
	b.have = true
	log.WithField("bytes", b.size).Debug("the ledger's ballast is there")
	return nil
}

// find looks for the ballast of an earlier run. One of another size is removed.
func (b *ballast) find() error {
	f, err := b.fs.Open(ballastName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if b.have = size == b.size; b.have {
		return nil
	}
	return b.fs.Remove(ballastName)
}
