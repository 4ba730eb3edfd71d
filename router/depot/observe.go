package depot

import (
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
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
func (s *Store) Placed(ms []router.Manifest) error {
	for _, m := range ms {
		s.tell(m.Crate)
	}
	return nil
}

// ReceivedTx is router.Observer's: nothing durable follows a receipt here.
func (s *Store) ReceivedTx(*ledger.Tx, *router.Manifest, bool) (bool, error) { return false, nil }

// Retired is router.Observer's: the bytes of a crate came out differently on another node. One
// that is on its way in is refused; one that the store has stays as it was.
func (s *Store) Retired(m router.Manifest) { s.tell(m.Crate) }

// Rotten is router.Observer's: a body is only read by the router.
func (s *Store) Rotten(store.CrateID) {}

// Adopted is router.Observer's.
func (s *Store) Adopted(store.CrateID, store.NodeID) {}

// Counted is router.Observer's.
func (s *Store) Counted() {}

// NodesChanged is router.Observer's.
func (s *Store) NodesChanged() {
	s.stir()
	s.news.room()
}

// tell wakes the put of a crate or, where its sender has got its receipts, whoever follows the
// events.
func (s *Store) tell(id store.CrateID) {
	s.mu.Lock()
	a := s.puts[id]
	s.mu.Unlock()
	if a == nil {
		s.news.add(id)
		return
	}
	select {
	case a.news <- struct{}{}:
	default:
	}
}
