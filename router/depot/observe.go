package depot

import (
	"stasis/router"
	"stasis/store"
)

// Body is router.Bodies'.
func (s *Store) Body(id store.CrateID) (router.Body, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.puts[id]; a != nil {
		return router.Body{Path: a.path, Size: a.size, Adoptable: true}, nil
	}
	return router.Body{}, &store.Error{Kind: store.NotFound, Op: "find the body of crate", Subject: id.String()}
}

// Placed is router.Observer's.
func (s *Store) Placed(ms []router.Manifest) {
	for _, m := range ms {
		s.tell(m, false)
	}
}

// Retired is router.Observer's. A crate that is on its way in is refused; one that the
// store has is damaged for whoever reads it.
func (s *Store) Retired(m router.Manifest) { s.tell(m, true) }

// Adopted is router.Observer's.
func (s *Store) Adopted(store.CrateID, store.NodeID) {}

// NodesChanged is router.Observer's.
func (s *Store) NodesChanged() {
	s.stir()
	s.news.room()
}

func (s *Store) tell(m router.Manifest, retired bool) {
	s.mu.Lock()
	a := s.puts[m.Crate]
	s.mu.Unlock()
	if a != nil {
		a.tell(m, retired)
	} else {
		s.news.add(m.Crate) // its sender has got its receipts
	}
}
