package ledger

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
)

// journal appends updates to segments and makes them durable.
//
// Lock order: syncing, mu, preparing.
type journal struct {
	fs      files
	lineage lineage
	size    int64 // of a segment, bytes
	// version is the format of new segments; older ones are written no more.
	version atomic.Uint32
	// onRotate is called when the spare has been used up; it must not block.
	onRotate func()

	// syncing is held while files are synced, closed or recycled, so that none is
	// closed under a sync.
	syncing sync.Mutex

	mu       sync.Mutex // guards what follows, and the order of the writes
	active   *segment   // nil until the first update, or after a write that failed
	sealed   []*segment // oldest first
	last     Position   // of the newest update
	recorded Position   // how far the newest record says that the journal is durable
	buf      []byte
	// overrules: a record that was refused may be in a retired segment. The next one
	// must say so durably before anything in it is acknowledged.
	overrules bool

	preparing sync.Mutex // guards what follows; held while a segment is made
	spare     *segment   // prepared and durable, not begun
	number    uint64     // of the newest segment

	synced atomic.Uint64 // Position: everything up to it survives a power cut
}

// append writes one update with one write(2). After an error nothing has changed.
func (j *journal) append(changes []change) (Position, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.last + 1
	if err := j.write(record{kind: kindUpdate, space: spaceOf(changes), position: p}, changes); err != nil {
		return 0, err
	}
	j.last = p
	j.active.last = p
	return p, nil
}

// still runs fn while no file of the journal changes.
func (j *journal) still(fn func()) {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.preparing.Lock()
	defer j.preparing.Unlock()
	fn()
}

// mark records how far the journal is durable, unless that is recorded already.
// Later records say the same: the mark is for a journal that falls silent.
func (j *journal) mark() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.active == nil || j.recorded >= Position(j.synced.Load()) || j.active.end+recordHeader > j.active.header.size {
		return nil
	}
	return j.write(record{kind: kindMark, position: j.last}, nil)
}

// write appends a record to the active segment, or to the next where it does not
// fit. The caller holds mu.
func (j *journal) write(r record, changes []change) error {
	r.synced = Position(j.synced.Load())
	if j.active == nil || j.active.header.version < j.version.Load() {
		if err := j.rotate(maxEncoded(changes)); err != nil {
			return err
		}
	}
	if j.overrules {
		if err := j.overrule(); err != nil {
			return err
		}
	}
	at := j.encode(r, changes)
	if j.active.end+int64(len(j.buf)) > j.active.header.size {
		if err := j.rotate(maxEncoded(changes)); err != nil {
			return err
		}
		at = j.encode(r, changes)
	}
	s := j.active
	if _, err := s.f.WriteAt(j.buf, s.end); err != nil {
		// All of it may be in the file all the same. A record that was not acknowledged
		// must not come to life at the next open, so its header goes; if even that
		// fails the next segment begins at this position and overrules it.
		if _, zeroErr := s.f.WriteAt(make([]byte, recordHeader), s.end+int64(at)); zeroErr != nil {
			j.retire()
			j.overrules = true
		}
		return err
	}
	s.end += int64(len(j.buf))
	j.recorded = r.synced
	return nil
}

// overrule makes the active segment, which is fresh, say durably where it begins.
// The caller holds mu.
func (j *journal) overrule() error {
	s := j.active
	b := s.seal.appendRecord(nil, record{kind: kindStart, position: j.last, synced: Position(j.synced.Load())}, nil)
	_, err := s.f.WriteAt(b, segmentStart)
	if err == nil {
		err = s.f.Datasync()
	}
	if err != nil {
		j.retire()
		return err
	}
	s.end += int64(len(b))
	j.overrules = false
	return nil
}

// encode fills buf with the record, after a start record where the segment is
// new, and returns where in buf it begins.
func (j *journal) encode(r record, changes []change) (at int) {
	j.buf = j.buf[:0]
	if j.active.end == segmentStart {
		j.buf = j.active.seal.appendRecord(j.buf, record{kind: kindStart, position: j.last, synced: r.synced}, nil)
	}
	at = len(j.buf)
	j.buf = j.active.seal.appendRecord(j.buf, r, changes)
	return at
}

// maxEncoded bounds the size of a segment that holds one update with its start
// record, in bytes.
func maxEncoded(changes []change) int64 {
	n := int64(segmentStart + 2*recordHeader + recordAlign)
	for _, c := range changes {
		n += int64(len(c.key)+len(c.value)) + changeOverhead
	}
	return n
}

// retire makes no further use of the active segment, whose last write or sync
// failed. The caller holds mu.
func (j *journal) retire() {
	j.active.failed = true
	j.sealed = append(j.sealed, j.active)
	j.active = nil
}

// rotate begins the next segment, which holds at least need bytes. After an error
// the active segment is as before. The caller holds mu.
func (j *journal) rotate(need int64) error {
	j.preparing.Lock()
	defer j.preparing.Unlock()
	if j.spare != nil && (j.spare.header.size < need || j.spare.header.version < j.version.Load()) {
		if err := j.dropSpare(); err != nil {
			return err
		}
	}
	if j.spare == nil {
		if err := j.prepare(nil, max(j.size, need)); err != nil {
			return err
		}
	}
	if j.active != nil {
		j.sealed = append(j.sealed, j.active)
	}
	j.active, j.spare = j.spare, nil
	j.active.from, j.active.last = j.last+1, j.last
	j.onRotate()
	return nil
}

// dropSpare removes the spare. The caller holds preparing.
func (j *journal) dropSpare() error {
	s := j.spare
	j.spare = nil
	return errors.Join(s.close(), j.fs.Remove(s.name))
}

// prepare makes the spare, durable with its name, from an old segment where one is
// given: overwriting blocks that are already the file's own makes each later sync
// cheaper than filling new ones. The caller holds preparing.
func (j *journal) prepare(old *segment, size int64) (err error) {
	f, err := j.spareFile(old)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), ignoreAbsent(j.fs.Remove(spareName)))
		}
	}()
	h := segmentHeader{version: j.version.Load(), lineage: j.lineage, number: j.number + 1, salt: newSalt(), size: size}
	s := &segment{header: h, name: segmentName(h.number), f: f, seal: newSeal(h.salt), end: segmentStart}
	if err = f.Allocate(size); err != nil {
		return err
	}
	for _, at := range []int64{0, headerCopy} {
		if _, err = f.WriteAt(h.encode(), at); err != nil {
			return err
		}
	}
	if err = f.Datasync(); err != nil {
		return err
	}
	if err = j.fs.Rename(spareName, s.name); err != nil {
		return err
	}
	// From here on the number is taken, even if the name should not last.
	j.number = h.number
	if err = j.fs.SyncDir(); err != nil {
		err = errors.Join(err, ignoreAbsent(j.fs.Remove(s.name)))
		return err
	}
	j.spare = s
	return nil
}

// spareFile gives a file under the temporary name of a spare.
func (j *journal) spareFile(old *segment) (file, error) {
	if old == nil {
		if err := ignoreAbsent(j.fs.Remove(spareName)); err != nil {
			return nil, err
		}
		return j.fs.Create(spareName)
	}
	if err := old.close(); err != nil {
		return nil, err
	}
	if err := j.fs.Rename(old.name, spareName); err != nil {
		return nil, err
	}
	// The old name must be gone before the header changes: a start that finds the
	// file under it may not take it for a damaged segment.
	if err := j.fs.SyncDir(); err != nil {
		return nil, err
	}
	return j.fs.Open(spareName)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// crypto/rand does not fail: it ends the process if the system has no randomness.

func newSalt() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

func newLineage() (l lineage) {
	_, _ = rand.Read(l[:])
	return l
}

// sync makes what was appended before the call durable. need, unless 0, is the
// position up to which bbolt has to be folded for that, because the journal can't be
// trusted with it: after a failed fdatasync the kernel may have dropped what was to
// be written and report success the next time, so a file is never synced twice in
// hope. The journal goes on in a fresh segment.
func (j *journal) sync(folded Position) (need Position, err error) {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	target := j.last
	todo := make([]*segment, 0, 2)
	for _, s := range j.sealed {
		// One that is closed and not doubted was folded since the caller looked: tidy has closed it.
		if !s.durable && s.last > folded && (s.f != nil || s.doubted) {
			todo = append(todo, s)
		}
	}
	if j.active != nil && j.active.last > Position(j.synced.Load()) {
		todo = append(todo, j.active)
	}
	active := j.active
	j.mu.Unlock()

	reached := target
	for _, s := range todo {
		if !s.doubted {
			syncErr := s.f.Datasync()
			j.mu.Lock()
			switch {
			case syncErr != nil:
				err = errors.Join(err, fmt.Errorf("sync %s: %w", s.name, syncErr))
				s.doubted = true
				if s == j.active {
					j.retire()
				}
				s.failed = true
			case s != active:
				s.durable = true
			}
			j.mu.Unlock()
		}
		if s.doubted {
			need = max(need, s.last)
			if s.from > 0 {
				reached = min(reached, s.from-1)
			}
		}
	}
	j.advance(reached)
	return need, err
}

// advance raises the position up to which a power cut loses nothing.
func (j *journal) advance(p Position) {
	for {
		was := j.synced.Load()
		if uint64(p) <= was || j.synced.CompareAndSwap(was, uint64(p)) {
			return
		}
	}
}
