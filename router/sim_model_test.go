package router

import (
	"context"
	"testing/synctest"
	"time"

	"stasis/store"
)

// truthful compares manifests with what is really there.
func (s *sim) truthful() {
	synctest.Wait()
	s.sweepBodies()
	for _, c := range s.alive {
		m, err := s.r.Manifest(c.ID)
		if err != nil {
			s.t.Errorf("manifest of %s: %v", c.ID, err)
			continue
		}
		if len(m.Destinations) > c.wanted || m.Copies() > c.wanted {
			s.t.Errorf("%s has %d places and %d copies, %d are wanted", c.ID, len(m.Destinations), m.Copies(), c.wanted)
		}
		if m.Known(store.Plain) && m.form(store.Plain).Root != c.Root() && !m.Retired {
			s.t.Errorf("%s was recorded with other bytes", c.ID)
		}
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for _, n := range s.r.nodes {
		if n.grant.promised < 0 || n.grant.resident < 0 || n.queue[small].crates < 0 || n.queue[large].crates < 0 {
			s.t.Errorf("%s: %+v, %+v", n.name, n.grant, n.queue)
		}
	}
}

// heal ends all trouble and gives the router time.
func (s *sim) heal() {
	for _, p := range s.places {
		p.fault.Heal()
		p.unplug(false)
		if _, there := s.squatters[p]; there {
			s.squat(p)
		}
	}
	if err := s.r.Resume(""); err != nil {
		s.t.Error(err)
	}
	s.log("all is healed")
	time.Sleep(10 * time.Minute)
	s.read1()
	time.Sleep(2 * AuditEvery)
	for range 2 {
		for _, c := range s.alive {
			_, err := s.r.Reconsider(context.Background(), c.ID, Policy{Copies: c.wanted})
			if err != nil && !spaceError(err) {
				s.t.Errorf("reconsider %s: %v", c.ID, err)
			}
		}
		time.Sleep(10 * time.Minute)
	}
}

// read1 reads every crate, which finds the copies that were lost.
func (s *sim) read1() {
	var found []Finding
	sum, err := s.r.Check(context.Background(), true, func(f Finding) { found = append(found, f) })
	if err != nil {
		s.t.Errorf("check: %v", err)
	}
	s.log("check: %+v %+v", sum, found)
}

// settled compares everything with the model.
func (s *sim) settled() {
	synctest.Wait()
	waits := false
	byID := make(map[store.NodeID]NodeStatus)
	for _, st := range s.r.Status(context.Background()) {
		byID[st.ID] = st
	}
	for _, c := range s.alive {
		m, err := s.r.Manifest(c.ID)
		if err != nil {
			s.t.Errorf("manifest of %s: %v", c.ID, err)
			continue
		}
		if err := s.read(c.Crate); err != nil && m.Copies() > 0 {
			s.t.Errorf("read of %s: %v", c.ID, err)
		}
		for _, d := range m.Destinations {
			if st := byID[d.Node]; d.State != Verified && !m.Retired && st.Free >= c.Charge() {
				s.t.Errorf("%s still waits for %s, which has %d free: %+v", c.ID, st.Name, st.Free, d)
				waits = true
			} else if d.State != Verified {
				waits = true
			}
		}
		if s.physical(c.ID) == 0 && !s.bodies.have(c.ID) {
			s.t.Errorf("%s is lost", c.ID)
		}
		for _, d := range m.Destinations {
			for _, p := range s.places {
				if status(s.t, p).Leaf == d.Node && d.State == Verified && !s.has(p, c.ID) {
					s.t.Errorf("%s is said to be on %s", c.ID, p.name)
				}
			}
		}
		if m.Copies() < c.wanted && !m.Retired {
			s.roomless(c, &m)
		}
	}
	for _, c := range s.dead {
		if n := s.physical(c.ID); n != 0 {
			s.t.Errorf("dead crate %s is on %d nodes", c.ID, n)
		}
	}
	if err := s.leak(); err != nil && !waits {
		s.t.Error(err)
	}
	for _, st := range s.r.Status(context.Background()) {
		if st.State != Online && st.State != Full || st.Discards != 0 {
			s.t.Errorf("%+v", st)
		}
	}
}

// roomless makes sure that a crate with too few places has no place to go.
func (s *sim) roomless(c *wantedCrate, m *Manifest) {
	for _, st := range s.r.Status(context.Background()) {
		if m.Destination(st.ID) == nil && st.Free >= c.Charge() {
			s.t.Errorf("%s is short and %s has %d free", c.ID, st.Name, st.Free)
		}
	}
}
