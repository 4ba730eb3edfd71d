package fs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"

	"stasis/fs/names"
	"stasis/store"
	"stasis/store/ledger"
)

// sealer is the queue of files without a writer whose body is to be cut into
// crates, oldest first.
type sealer struct {
	mu    sync.Mutex
	queue []frozen
	kick  chan struct{}
	// last is when a file was queued last: while programs close one after another the
	// machine is theirs.
	last time.Time
	// urgent: somebody waits; nothing rests.
	urgent bool
	// under counts files that are being sealed, for idle.
	under int
}

type frozen struct {
	ino   names.Ino
	since time.Time
}

func (q *sealer) init() { q.kick = make(chan struct{}, 1) }

// sealLater queues a file for sealing once it has rested.
func (s *FS) sealLater(ino names.Ino) {
	q := &s.sealer
	q.mu.Lock()
	q.last = time.Now()
	q.queue = append(q.queue, frozen{ino, q.last})
	n := len(q.queue)
	q.mu.Unlock()
	if n == 1 || n == sealBatch {
		kick(q.kick)
	}
}

// hurry makes the sealer take what there is without letting it rest.
func (s *FS) hurry() {
	s.sealer.mu.Lock()
	s.sealer.urgent = true
	s.sealer.mu.Unlock()
	kick(s.sealer.kick)
}

// take gives the next files to seal and, if there are none yet, how long until there may
// be some; 0: nothing waits.
func (q *sealer) take(now time.Time) (batch []names.Ino, rest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 {
		q.urgent = false
		return nil, 0
	}
	// A clock that jumps is no reason to wait: time.Time has a monotonic part.
	full := q.urgent || len(q.queue) >= sealBacklog
	quiet := now.Sub(q.last)
	patience := sealDelay
	if quiet < sealQuiet {
		patience = sealPatience
	}
	n := 0
	for n < len(q.queue) && n < sealBatch && (full || now.Sub(q.queue[n].since) >= patience) {
		batch = append(batch, q.queue[n].ino)
		n++
	}
	if n == 0 {
		// It is due when it has rested and all is quiet, and when patience ends.
		age := now.Sub(q.queue[0].since)
		return nil, min(max(sealDelay-age, sealQuiet-quiet, time.Millisecond), max(sealPatience-age, time.Millisecond))
	}
	q.queue = q.queue[n:]
	q.under += n
	return batch, 0
}

func (q *sealer) finished(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.under -= n
}

// idle reports whether nothing waits to be sealed.
func (q *sealer) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) == 0 && q.under == 0
}

func (s *FS) sealLoop() {
	var large sync.WaitGroup
	defer large.Wait()
	lane := make(chan struct{}, 1)
	for {
		batch, rest := s.sealer.take(time.Now())
		if len(batch) > 0 {
			s.sealBatch(s.ctx, batch, func(f *file) {
				// A large body takes long to sync: it must not hold up the small ones.
				large.Go(func() {
					defer s.unpin(f)
					defer s.sealer.finished(1)
					select {
					case lane <- struct{}{}:
						s.sealOne(s.ctx, f)
						<-lane
					case <-s.ctx.Done():
					}
				})
			})
			if s.ctx.Err() != nil {
				return
			}
			continue
		}
		var timer <-chan time.Time
		if rest > 0 {
			timer = time.After(rest)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-timer:
		case <-s.sealer.kick:
		}
	}
}

// sealBatch seals files whose bodies share a sync. What is large goes to apart,
// which then has the pin and the count of the sealer.
func (s *FS) sealBatch(ctx context.Context, inos []names.Ino, apart func(*file)) {
	var files []*file
	for _, ino := range inos {
		f := s.pinned(ino)
		if f == nil || s.writing(f) {
			if f != nil {
				s.unpin(f)
			}
			s.sealer.finished(1)
			continue
		}
		f.mu.RLock()
		large := f.size >= sealLarge || f.body != nil && !f.body.Whole()
		none := f.body == nil && f.owed == nil
		f.mu.RUnlock()
		switch {
		case none:
			s.unpin(f)
			s.sealer.finished(1)
		case large:
			apart(f)
		default:
			files = append(files, f)
		}
	}
	if len(files) >= sealSyncAll {
		s.syncTogether(files)
	}
	for _, f := range s.sealTogether(ctx, slices.Clone(files)) {
		if ctx.Err() == nil {
			s.sealOne(ctx, f)
		}
	}
	for _, f := range files {
		s.unpin(f)
		s.sealer.finished(1)
	}
}

// syncTogether syncs the bodies of many files at once. A failure is no matter here:
// whatever was not recorded as synced is synced alone later.
func (s *FS) syncTogether(files []*file) {
	written := make([]writtenBody, len(files))
	for i, f := range files {
		written[i] = f.writtenBody()
	}
	if err := s.bodies.SyncAll(); err != nil {
		s.log.WithError(err).Warn("sync the filesystem of the bodies")
		return
	}
	for i, f := range files {
		if err := s.settle(f, written[i]); err != nil {
			s.log.WithError(err).WithField("inode", f.ino).Warn("record that a body is synced")
		}
	}
}

// sealOne seals a file without writers; a failure is tried again later.
func (s *FS) sealOne(ctx context.Context, f *file) {
	if s.writing(f) {
		return // its close queues it again
	}
	err := s.seal(ctx, f)
	var lost *lostError
	switch {
	case errors.As(err, &lost): // said when it happened
	case err == nil, ctx.Err() != nil, errors.Is(err, errBusy), errors.Is(err, syscall.ENOENT):
	case isSpace(err):
		// It is unplaced, said so when it was closed, and is tried again when nodes change.
	default:
		s.log.WithError(err).WithField("inode", f.ino).Warn("cut a closed file into crates; it is tried again")
		s.mu.Lock()
		s.unsealed = append(s.unsealed, f.ino)
		s.mu.Unlock()
	}
}

// retryAll tries again what found no space or could not be sealed, and asks for the
// copies that are missing where fewer were planned than are wanted.
func (s *FS) retryAll(ctx context.Context) {
	s.mu.Lock()
	again := s.unsealed
	s.unsealed = nil
	s.mu.Unlock()
	for _, ino := range again {
		s.sealLater(ino)
	}
	counted := s.counted.Swap(false)
	err := s.eachAttention(func(ino names.Ino, a attentionRecord) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if counted {
			if err := s.lookAgain(ino); err != nil && ctx.Err() == nil {
				s.log.WithField("inode", ino).WithError(err).Error("look at a file whose copies count again")
			}
		}
		switch a.State {
		case Unplaced:
			s.sealLater(ino)
			s.reconsider(ctx, ino) // if it was sealed, and lost its places since
		case Short:
			s.reconsider(ctx, ino)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.WithError(err).Error("try again what has no place")
	}
}

// reconsider asks the router for the copies that an inode's content lacks.
func (s *FS) reconsider(ctx context.Context, ino names.Ino) {
	pol, err := s.effective(ino)
	if err != nil {
		return // removed meanwhile
	}
	h, err := s.examine(ino)
	if err != nil {
		return
	}
	asked, lack := false, ""
	seen := make(map[store.CrateID]bool)
	err = s.eachCrate(h.list, func(c store.CrateID) error {
		if seen[c] || ctx.Err() != nil {
			return ctx.Err()
		}
		seen[c] = true
		if _, err := s.router.Reconsider(ctx, c, pol); err != nil {
			if isSpace(err) {
				lack = detailOf(err)
				return nil // still short, as it says
			}
			return err
		}
		asked = true
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.WithError(err).WithField("inode", ino).Warn("ask for the copies a file lacks")
	}
	if !asked && lack == "" {
		return
	}
	if err := s.assess(ino); err != nil {
		s.log.WithError(err).WithField("inode", ino).Error("mark a file that lacks copies")
	} else if err := s.lacks(ino, lack); err != nil {
		s.log.WithError(err).WithField("inode", ino).Error("record why a file lacks copies")
	}
}

// lacks records why a file that is marked can't have its copies.
func (s *FS) lacks(ino names.Ino, reason string) error {
	a, marked, err := s.attention(ino)
	if err != nil || !marked || reason == "" || a.Reason == reason {
		return err
	}
	_, err = s.local.Update(func(tx *ledger.Tx) error {
		v, ok, err := tx.Get(key(tableAttention, uint64(ino)))
		if err != nil || !ok {
			return err
		}
		if a, err = decodeAttention(v); err != nil {
			return err
		}
		a.Reason = reason
		return putAttention(tx, ino, a)
	})
	return err
}

// detailOf is what an error says of the reason, without what was being done to what.
func detailOf(err error) string {
	var e *store.Error
	if errors.As(err, &e) && e.Detail != "" {
		return e.Detail
	}
	return err.Error()
}
