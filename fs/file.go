package fs

import (
	"sync"
	"sync/atomic"
	"time"

	"stasis/fs/body"
	"stasis/fs/names"
)

// file is an inode that is in use: open, or with a body. Everything else is read
// from the ledger when it is asked for, so that memory follows use and not the number
// of files.
type file struct {
	ino names.Ino

	// Guarded by FS.mu.
	pins    int // handles and operations under way
	writers int // handles open for writing

	// bare: the inode was made with this and has had no extended attributes since. The
	// kernel asks for them before the first write.
	bare atomic.Bool
	// atimesSet counts how often a program has set the access time, while this is in use.
	atimesSet atomic.Uint32

	// sealing is held by whoever seals this file, committing by whoever draws space for
	// it. They are taken in this order, before mu, and held over I/O, which mu is not.
	sealing    sync.Mutex
	committing sync.Mutex

	mu sync.RWMutex
	// body is nil while the settled content is all there is; the fields below belong to
	// it.
	body *body.Body
	// kept says without mu whether there is a body. One comes only while the file is pinned.
	kept   atomic.Bool
	record bodyRecord // as in the ledger, but for what says otherwise
	// mark, unless nil, is that of the last commit, which the ledger does not have yet, as
	// little as it has what that changed in record.
	mark *attentionRecord
	// recorded: the ledger's record is that of a commit.
	recorded bool
	size     int64     // bytes, now
	mtime    int64     // of the last write, where it is newer than the inode's
	timed    bool      // mtime counts
	since    time.Time // when the body was made: what it holds is newer than any copy
	owed     *owed     // what the last sealing left to do; there is no body then
	// changes counts what changed the content, writes what changed the body's file:
	// filling a block for sealing is the second without the first.
	changes, committed uint64
	writes, synced     uint64
	// switches counts the times the content was switched to another list or body: a read
	// that found it raised starts again.
	switches uint64
}

// written is the time of the last write, in nanoseconds since the epoch, where it is newer
// than what the inode says; else 0. It becomes the inode's when the body is sealed.
func (f *file) written() int64 {
	if !f.timed {
		return 0
	}
	return f.mtime
}

// pin gives the file of an inode, made if need be, and keeps it until unpin.
func (s *FS) pin(ino names.Ino) *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[ino]
	if f == nil {
		f = &file{ino: ino}
		s.files[ino] = f
	}
	f.pins++
	return f
}

// pinned gives the file of an inode if it is in use.
func (s *FS) pinned(ino names.Ino) *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[ino]
	if f != nil {
		f.pins++
	}
	return f
}

func (s *FS) unpin(f *file) {
	s.mu.Lock()
	f.pins--
	last := f.pins == 0
	kept := f.kept.Load()
	if last && !kept && s.files[f.ino] == f {
		delete(s.files, f.ino)
	}
	if last {
		s.reapLater(f.ino)
	}
	s.mu.Unlock()
	if last && kept {
		s.rest(f)
	}
}

// rest closes the descriptors of a body that nobody uses; the next use opens them again.
func (s *FS) rest(f *file) {
	f.mu.Lock() // whoever uses it from now on comes after this
	defer f.mu.Unlock()
	s.mu.Lock()
	used := f.pins > 0
	s.mu.Unlock()
	if used || f.body == nil {
		return
	}
	if err := f.body.Release(); err != nil {
		s.log.WithError(err).WithField("body", f.body.Path()).Warn("close a body")
	}
}

// setBody makes a body that of the file, or with nil takes it from the file, whose lock the
// caller holds.
func (f *file) setBody(b *body.Body, r bodyRecord) {
	f.body, f.record = b, r
	f.mtime, f.timed = 0, false
	f.kept.Store(b != nil)
}

// touch notes that a program has written. The caller holds the lock of the file.
func (f *file) touch() { f.mtime, f.timed = names.Now(), true }

// writing reports whether a handle has the file open for writing.
func (s *FS) writing(f *file) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.writers > 0
}
