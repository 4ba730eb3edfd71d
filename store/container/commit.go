package container

import (
	"errors"
	"fmt"
	"slices"

	"stasis/store"
)

// committer alone writes the log, the marks and the superblocks, and alone
// changes the state. It takes what waits in the queue and makes one commit of it:
// sync the data, write the records, sync them, and only then answer.
type committer struct {
	s     *Store
	log   *logWriter
	sb    superblock
	marks int64 // how many were written
	// position is that of the crates in the state.
	position store.Position
	broken   error // why nothing can be committed any more, until the container is opened again
	short    bool  // the disk had no room for a longer log
}

const opCommit = "commit a change"

// run ends when the queue is closed and empty.
func (c *committer) run() {
	defer close(c.s.run)
	c.s.room.tidyAll()
	for {
		batch := c.s.queue.take()
		if batch == nil {
			break
		}
		c.commit(batch)
		c.maintain()
	}
	if c.look(); c.broken == nil {
		c.s.room.tidy()
		c.moveLog()
		// What can't be cut off now is cut off when the container is next closed.
		_ = c.s.room.shrink(0)
	}
}

// commit makes the changes durable, or settles them with why not.
func (c *committer) commit(batch []*change) {
	c.look()
	batch = c.admit(batch)
	if len(batch) == 0 {
		return
	}
	if err := c.write(batch); err != nil {
		for _, ch := range batch {
			ch.settle(err)
		}
		return
	}
	c.s.mu.Lock()
	for _, ch := range batch {
		if ch.apply != nil {
			ch.apply(c.s.st)
		}
	}
	c.s.mu.Unlock()
	for _, ch := range batch {
		if ch.freed != nil {
			c.s.room.release(ch.freed)
		}
		ch.settle(nil)
	}
	c.s.room.renew()
}

// admit settles what can't be committed and gives the rest.
func (c *committer) admit(batch []*change) []*change {
	var bytes int64
	for _, ch := range batch {
		bytes += ch.bytes()
	}
	var full error
	if c.broken == nil {
		full = c.supply(bytes)
	}
	c.short = full != nil
	terms := 0
	return slices.DeleteFunc(batch, func(ch *change) bool {
		err := c.broken
		switch {
		case err != nil:
		case ch.grows && full != nil:
			err = c.s.ioError(opCommit, fmt.Errorf("make room for the log: %w", full))
		case ch.data && ch.since != c.s.epoch.Load():
			err = c.s.fail(store.Unavailable, opCommit, "the disk failed to keep what was written", nil)
		case ch.fence != nil:
			err = c.fence(ch.fence)
		case ch.admit != nil:
			err = ch.admit(terms)
			terms += ch.terms
		}
		if err != nil {
			ch.settle(err)
			return true
		}
		return false
	})
}

// write makes one commit of the records of all.
func (c *committer) write(batch []*change) error {
	var records [][]byte
	data := false
	for _, ch := range batch {
		records = append(records, ch.records...)
		data = data || ch.data
	}
	if len(records) == 0 {
		return nil
	}
	next := c.position
	if slices.ContainsFunc(batch, func(ch *change) bool { return ch.data || ch.freed != nil }) {
		next = after(next)
	}
	epoch := c.s.epoch.Load()
	if data {
		if err := c.s.sync(epoch); err != nil {
			return c.s.ioError(opCommit, err)
		}
	}
	// Where writing fails nothing of the commit is valid, and the next one goes to the
	// same pages: only its last page makes a commit valid, and that comes last.
	if err := c.log.append(records); err != nil {
		return c.s.ioError(opCommit, err)
	}
	err := c.s.sync(epoch)
	if err == nil {
		err = c.mark(next)
	}
	if err != nil {
		// Now nobody knows whether the commit is on the disk. A new log says that it is not.
		err = c.s.ioError(opCommit, err)
		if again := c.replace(nil); again != nil {
			c.fatal(again)
		}
		return err
	}
	c.position = next
	return nil
}

// mark says how far the log is synced, and which position its crates have. It is on the
// disk itself with the sync of the next commit; where it is lost the log's end is less protected
// against damage, and an opening finds another position. Where one of its places can't be
// written the other is.
func (c *committer) mark(position store.Position) (err error) {
	m := c.log.mark()
	m.position = position
	for range markPages {
		at := superPages + c.marks%markPages
		c.marks++
		raw := make([]byte, PageSize)
		m.encode(c.s.v.key, raw, at, c.sb.generation)
		if err = c.s.standing.write(c.s.v, placed{position: position, at: at, page: raw}); err == nil {
			break
		}
	}
	return err
}

// look refuses all further changes where the file is not as it was left: what would be
// written next may be a page of something else now.
func (c *committer) look() {
	if c.broken != nil {
		return
	}
	if _, err := c.s.same(opCommit); err != nil && c.s.replaced.Load() {
		c.refuse(err)
	}
}

// refuse refuses all further changes.
func (c *committer) refuse(why error) {
	c.broken = why
	c.s.room.close(why)
}

// fatal refuses all further changes: what is on the disk is not known.
func (c *committer) fatal(err error) {
	c.refuse(&store.Error{
		Kind: store.Unavailable, Op: opCommit, Subject: c.s.subject(), Err: err,
		Detail: "the disk failed, and what it has kept is not known",
		Hint:   "look at the disk, then open the container again",
	})
}

// sync is a sync that no failed one came between since epoch: an error is told
// by the system once, to whoever asks first.
func (s *Store) sync(epoch uint64) error {
	if err := s.f.Sync(); err != nil {
		s.epoch.Add(1)
		return fmt.Errorf("sync: %w", err)
	}
	if s.epoch.Load() != epoch {
		return errors.New("sync: the disk failed to keep what was written")
	}
	return nil
}

// needs is how many pages the log's pool should have before a commit of so many
// bytes: for those records, and then for a checkpoint of everything.
func (c *committer) needs(bytes int64) int64 {
	return logPagesFor(bytes) + logPagesFor(c.s.st.checkpointBytes()+bytes) + poolPages
}

// supply sees to it that the pool has what a commit of so many bytes needs. An
// error says that it has not, but enough for the records alone.
func (c *committer) supply(bytes int64) error {
	missing := func() int64 { return c.needs(bytes) - int64(len(c.log.pool)) }
	if missing() <= 0 {
		return nil
	}
	limit := logLimit(c.s.v.limit)
	if c.log.total()+missing() > limit && c.log.journal() > 0 {
		if err := c.replace(nil); err != nil && c.broken != nil {
			return err
		}
	}
	n := missing()
	if n <= 0 {
		return nil
	}
	pages, err := c.s.room.forLog(max(n, min(supplyPages, limit-c.log.total())), false)
	if err != nil && n < supplyPages {
		pages, err = c.s.room.forLog(n, false)
	}
	if err == nil {
		c.log.supply(pages...)
		return nil
	}
	// The disk is full. What gives space back must go on: its records find a page that
	// the log has already, and the page after it may wait until there is room.
	if least := logPagesFor(bytes) + 1 - int64(len(c.log.pool)); least > 0 {
		if pages, ok := c.s.room.bare(least); ok {
			c.log.supply(pages...)
		}
	}
	return err
}

// replace writes a new log that is a checkpoint of the state, in the pool's pages or
// in fresh ones, and makes it the one that counts. The old one's pages become the
// pool; what is more than needed is given back.
func (c *committer) replace(fresh []int64) error {
	from := c.log
	if fresh != nil {
		from = &logWriter{v: c.s.v, pool: fresh}
	}
	epoch := c.s.epoch.Load()
	log, err := from.rewrite(c.s.st)
	if err == nil {
		err = c.s.sync(epoch)
	}
	if err != nil {
		// The old log is as it was.
		if fresh != nil {
			c.s.room.release(runsOf(fresh))
		}
		return err
	}
	sb := c.sb
	sb.logHead, sb.logNonce, sb.logPages = log.pages[0], log.nonce, log.checkpoint
	if err := c.supers(sb); err != nil {
		c.fatal(err)
		return err
	}
	old := append(slices.Clone(c.log.pages), c.log.next)
	if fresh != nil {
		// The point was to leave the old place.
		c.s.room.release(runsOf(append(old, c.log.pool...)))
	} else {
		log.supply(old...)
	}
	c.log = log
	if err := c.mark(c.position); err != nil {
		c.fatal(err)
		return err
	}
	if spare := c.log.trim(c.needs(0) + supplyPages); spare != nil {
		c.s.room.release(runsOf(spare))
	}
	return nil
}

// supers makes sb the superblock, twice. After an error it is not known which
// one counts.
func (c *committer) supers(sb superblock) error {
	sb.generation++
	if err := writeSupers(c.s.v, &sb, func() error { return c.s.sync(c.s.epoch.Load()) }); err != nil {
		return err
	}
	c.sb = sb
	return nil
}

// writeSupers writes both, one after the other, so that one is whole at any time.
func writeSupers(v *volume, sb *superblock, sync func() error) error {
	raw := make([]byte, PageSize)
	for at := range int64(superPages) {
		sb.encode(raw, at)
		if err := v.writePages(raw, at); err != nil {
			return err
		}
		if err := sync(); err != nil {
			return err
		}
	}
	return nil
}

// maintain keeps the log short and the file small. What fails here is tried again
// after a later commit.
func (c *committer) maintain() {
	if c.broken != nil {
		return
	}
	if c.log.journal() > max(journalPages, c.log.checkpoint) {
		_ = c.replace(nil)
	}
	if loose := c.s.room.pending(); loose < tidyPages && !(c.short && loose > 0) {
		return
	}
	c.s.room.tidy()
	c.moveLog()
	_ = c.s.room.shrink(shrinkPages)
}

// moveLog writes the log anew near the start of the file if it keeps the file
// from getting shorter.
func (c *committer) moveLog() {
	pages := slices.Concat(c.log.pages, c.log.pool, []int64{c.log.next})
	slices.Sort(pages)
	n := c.needs(0) + 1
	now, then := c.s.room.endWithout(pages, n)
	if now-then < shrinkPages || c.broken != nil {
		return
	}
	if fresh, err := c.s.room.forLog(n, true); err == nil {
		_ = c.replace(fresh)
	}
}

// runsOf joins page numbers to extents.
func runsOf(pages []int64) (out []extent) {
	pages = slices.Clone(pages)
	slices.Sort(pages)
	for _, p := range pages {
		out = appendExtent(out, extent{p, 1})
	}
	return out
}
