package router

import (
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest/fault"
)

// Bytes that are spoilt on their way to a node are never recorded as right, though nobody
// knew the digest before they were sent: the copy is made again. Where the wrong one can't be
// given up the crate is retired, as the node has other bytes under its id.
func TestSpoiltOnTheWay(t *testing.T) {
	for name, keeps := range map[string]bool{"given up": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			farRig(t, 1, func(g *rig, l []*link) {
				g.start()
				time.Sleep(time.Second) // what was queued before the start is hashed first
				l[0].set(func() { l[0].spoil = 1 })
				if keeps {
					g.places[0].fault.Fail(fault.Discard, 1, &store.Error{Kind: store.Unavailable, Op: "discard"})
				}
				crates, _ := g.add(Policy{}, 3*mib+5)
				c := crates[0]
				if keeps {
					g.until("it is retired", func() bool {
						g.seen.mu.Lock()
						defer g.seen.mu.Unlock()
						return g.seen.retired[c.ID]
					})
					if n := g.copies(c.ID); n != 0 {
						t.Errorf("%d copies count", n)
					}
					return
				}
				g.waitCopies(1, c)
				if m, err := g.r.Manifest(c.ID); err != nil || m.form(store.Plain).Root != c.Root() {
					t.Errorf("%v, or another digest is recorded", err)
				}
				g.bodies.drop(c.ID)
				if err := g.read(c); err != nil {
					t.Error(err)
				}
				l[0].set(func() {
					if len(l[0].expected) != 2 || l[0].expected[0] || !l[0].expected[1] {
						t.Errorf("the puts came with a digest: %v; want the first without", l[0].expected)
					}
				})
				if err := g.leak(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A body that has other bytes when it is read again is not vouched for.
func TestLearntTwice(t *testing.T) {
	l := newLearnt(2 * store.BlockSize)
	l.put(0, store.Digest{1})
	l.put(0, store.Digest{1})
	if l.differ || l.missing() != 1 {
		t.Errorf("%+v", l)
	}
	l.put(1, store.Digest{2})
	l.put(0, store.Digest{3})
	if !l.differ || l.missing() != -1 {
		t.Errorf("%+v", l)
	}
}
