package ledger

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAbandon: a ledger that is abandoned leaves every file as it lies there, where Close
// folds its updates and cuts its journal.
func TestAbandon(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	db, err := Open(dir, Small())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Space(Local).Update(func(tx *Tx) error { tx.Put([]byte("k"), []byte("v")); return nil }); err != nil {
		t.Fatal(err)
	}
	db.refuse() // nothing goes on in the background
	content := func() map[string]string {
		out := make(map[string]string)
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			b, err := os.ReadFile(filepath.Join(dir, n.Name()))
			if err != nil && !n.IsDir() {
				t.Fatal(err)
			}
			out[n.Name()] = string(b)
		}
		return out
	}
	before := content()
	if err := db.Abandon(); err != nil {
		t.Fatal(err)
	}
	after := content()
	if len(after) != len(before) {
		t.Errorf("%d files are there, %d were", len(after), len(before))
	}
	for name, b := range before {
		if after[name] != b {
			t.Errorf("%s was changed", name)
		}
	}
	if db, err = Open(dir, Small()); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := db.Space(Local).Get([]byte("k")); err != nil || !ok || string(v) != "v" {
		t.Errorf("opened again it has %q, %v, %v", v, ok, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
