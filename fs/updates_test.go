package fs

import (
	"fmt"
	"testing"
	"testing/synctest"

	"stasis/router"
	"stasis/store"
)

// How many updates of the ledger a file costs, from its creation to two copies: alone, and where
// many are written at once.
func TestUpdatesOfAFile(t *testing.T) {
	for _, c := range []struct {
		name  string
		files int
		most  float64 // a file
	}{{"alone", 1, 5}, {"in bulk", 400, 1.5}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &pointVault{t: t, dir: t.TempDir(), policy: router.Policy{Copies: 2, Least: 1}, files: make(map[string][]byte), blanks: blanksWanted}
				for i := range 2 {
					v.disks = append(v.disks, newDisk(t, diskState{name: fmt.Sprint(i), id: store.NewNodeID(), capacity: 1 << 40})) // a grant lasts
				}
				v.start()
				defer v.end()
				v.save("first", pattern(5000, 1)) // which makes grants
				v.settled()
				before := v.db.Position()
				for i := range c.files {
					v.save(fmt.Sprint(i), pattern(5000, byte(i)))
				}
				v.settled()
				n := float64(v.db.Position()-before) / float64(c.files)
				t.Logf("%.2f updates a file", n)
				if n > c.most {
					t.Errorf("%.2f updates a file, want at most %.1f", n, c.most)
				}
			})
		})
	}
}
