package container

import (
	"bytes"
	"math/rand/v2"
	"sync"

	"stasis/store"
)

// standing is the newest mark, which has the position of the crates, as it was written: what
// is found in its place, and is not this, says that somebody else has written to the file.
type standing struct {
	mu sync.Mutex
	placed
}

// placed is a mark as it lies in the file.
type placed struct {
	position store.Position
	at       int64  // its page
	page     []byte // its content
}

// after is a position that follows p and that no other history has.
func after(p store.Position) store.Position {
	return store.Position{Count: p.Count + 1, Mark: rand.Uint64()}
}

// write makes next the newest mark, in the file and here.
func (n *standing) write(v *volume, next placed) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := v.writePages(next.page, next.at); err != nil {
		return err
	}
	n.placed = next
	return nil
}

func (n *standing) now() store.Position {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.position
}

// read gives the position, read from the file; ok is false if what is there is not what was
// written last.
func (n *standing) read(v *volume) (p store.Position, ok bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	raw := make([]byte, PageSize)
	if err := v.readPages(raw, n.at); err != nil {
		return p, false, err
	}
	return n.position, bytes.Equal(raw, n.page), nil
}

// same makes sure that the file is as this store wrote it, as far as its newest mark tells,
// and gives the position. Where it is not, what is known of it is not what is in it: the store
// is unavailable until it is opened again.
func (s *Store) same(op string) (store.Position, error) {
	p, ok, err := s.standing.read(s.v)
	if err != nil {
		return p, s.ioError(op, err)
	}
	if ok {
		return p, nil
	}
	if !s.replaced.Swap(true) {
		s.log.WithField("container", s.path).Error("the content of the container was replaced while it was open; it must be opened anew")
	}
	return store.Position{}, s.otherContent(op)
}

func (s *Store) otherContent(op string) error {
	return &store.Error{
		Kind: store.Unavailable, Op: op, Subject: s.subject(), Detail: "its content was replaced while it was open",
		Hint: "it is looked at anew when it is opened again",
	}
}
