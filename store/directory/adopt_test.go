package directory

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"stasis/store"
	"stasis/store/storetest"
)

// TestReadWhileAdopted: a file that is being adopted lies nowhere else, so that who reads
// it must find it at the store from the moment it is moved.
func TestReadWhileAdopted(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := admitted(t, makeStore(t, filepath.Join(dir, "node"), 1<<30, Options{}))
	defer func() { _ = s.Close() }()
	for _, c := range []storetest.Crate{newCrate(5000), large()} {
		body := filepath.Join(dir, "body")
		if err := os.WriteFile(body, c.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		looked := 0
		s.tree.probe = func(string) error {
			if _, err := os.Lstat(body); err == nil {
				_, err := s.Open(ctx, c.ID, 0, 1)
				fails(t, err, store.NotFound)
				return nil
			}
			looked++
			has(t, s, c)
			return nil
		}
		if _, err := s.Adopt(ctx, c.Put(reserve(t, s, c.Charge())), body); err != nil {
			t.Fatal(err)
		}
		s.tree.probe = nil
		if looked == 0 {
			t.Error("nothing happened between the move and the answer")
		}
		has(t, s, c)
	}
}
