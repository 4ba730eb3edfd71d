package container

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
)

// logWriter knows where the log lies and writes to it. It is not safe for
// concurrent use.
type logWriter struct {
	v          *volume
	nonce      sum
	pages      []int64 // of the log, in order
	checkpoint int64   // how many of them are the checkpoint
	last       sum     // of the last page
	next       int64   // where the next page goes: the last page says so already
	pool       []int64 // further pages of the log's own, on the disk already, ascending
}

// total is how many pages the log holds, those in store included.
func (l *logWriter) total() int64 { return int64(len(l.pages)+len(l.pool)) + 1 }

// journal is how many pages of commits follow the checkpoint.
func (l *logWriter) journal() int64 { return int64(len(l.pages)) - l.checkpoint }

var errLogFull = errors.New("no page left for the log")

// tag is the number of page index of the log that starts with nonce.
func tag(nonce sum, index int64) uint64 {
	return uint64(binary.BigEndian.Uint32(nonce[:]))<<32 | uint64(uint32(index))
}

// chain writes pages of the log one after the other.
type chain struct {
	out   batchWriter
	nonce sum
	index int64
	link  sum
	at    int64
	free  []int64 // taken from the front for the pages to come
	pages []int64 // written
}

func (c *chain) page(payload []byte, commit bool, raw []byte) error {
	if len(c.free) == 0 {
		return errLogFull
	}
	p := page{kind: logPage, commit: commit, self: c.at, number: tag(c.nonce, c.index), link: c.link, next: c.free[0], payload: payload}
	c.out.v.key.encode(&p, raw)
	if err := c.out.write(c.at, raw); err != nil {
		return err
	}
	c.pages = append(c.pages, c.at)
	c.link, c.at, c.free = p.sum, c.free[0], c.free[1:]
	c.index++
	return nil
}

// commit writes the records as one commit. Nothing is synced.
func (c *chain) commit(records iter.Seq[[]byte]) error {
	payload := make([]byte, 0, payloadSize)
	raw := make([]byte, PageSize)
	for r := range records {
		if len(payload)+len(r) > payloadSize {
			if err := c.page(payload, false, raw); err != nil {
				return err
			}
			payload = payload[:0]
		}
		payload = append(payload, r...)
	}
	if err := c.page(payload, true, raw); err != nil {
		return err
	}
	return c.out.flush()
}

// append writes one commit behind what the log has. If it fails the log is as it
// was: without its last page the commit is none, and that page is written last.
func (l *logWriter) append(records [][]byte) error {
	c := chain{out: batchWriter{v: l.v}, nonce: l.nonce, index: int64(len(l.pages)), link: l.last, at: l.next, free: l.pool}
	if err := c.commit(slices.Values(records)); err != nil {
		return err
	}
	l.pages = append(l.pages, c.pages...)
	l.last, l.next, l.pool = c.link, c.at, c.free
	return nil
}

// mark is the mark for all that the log has.
func (l *logWriter) mark() mark {
	return mark{nonce: l.nonce, index: int64(len(l.pages)) - 1, sum: l.last}
}

// rewrite writes a new log, in pages of the pool, that is a checkpoint of the
// state and nothing else. The old one stays as it is.
func (l *logWriter) rewrite(st *state) (*logWriter, error) {
	if len(l.pool) < 2 {
		return nil, errLogFull
	}
	c := chain{out: batchWriter{v: l.v}, at: l.pool[0], free: l.pool[1:]}
	if _, err := rand.Read(c.nonce[:]); err != nil {
		return nil, err
	}
	c.link = c.nonce
	if err := c.commit(checkpointRecords(st)); err != nil {
		return nil, err
	}
	return &logWriter{
		v: l.v, nonce: c.nonce, pages: c.pages, checkpoint: int64(len(c.pages)),
		last: c.link, next: c.at, pool: c.free,
	}, nil
}

// checkpointRecords gives the records that say all of a state.
func checkpointRecords(st *state) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if !yield(encodeState(st.nextSeq)) {
			return
		}
		for _, r := range st.reservations {
			if !yield(encodeReservation(r)) {
				return
			}
		}
		st.crates.Scan(func(c *crate) bool {
			for _, r := range encodeCrate(c) {
				if !yield(r) {
					return false
				}
			}
			return true
		})
	}
}

// supply puts pages into the pool.
func (l *logWriter) supply(pages ...int64) {
	// A copy: the slice may share its array with one that a failed rewrite holds.
	l.pool = slices.Concat(l.pool, pages)
	slices.Sort(l.pool)
}

// trim takes all but the first keep pages out of the pool.
func (l *logWriter) trim(keep int64) (out []int64) {
	if int64(len(l.pool)) <= keep {
		return nil
	}
	out = slices.Clone(l.pool[keep:])
	l.pool = slices.Clone(l.pool[:keep])
	return out
}
