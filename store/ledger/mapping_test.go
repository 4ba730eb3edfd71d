package ledger

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
)

// What was read of the table does not stay in this process's memory for ever, and can be
// read again.
func TestTableIsUnmapped(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, dir, Options{})
	const entries, size = 256, 64 << 10
	for i := range entries {
		put(t, db.Space(Shared), fmt.Sprint("key-", i), strings.Repeat("v", size))
	}
	if err := db.foldUpTo(db.Position()); err != nil {
		t.Fatal(err)
	}
	if err := db.Check(t.Context()); err != nil { // reads everything
		t.Fatal(err)
	}
	full := mapped(t, db.table.path)
	if full < entries*size/2 {
		// The steward may have been there in between; what it has to do with is what matters.
		t.Skipf("%d bytes are mapped after a check of %d", full, entries*size)
	}
	if err := db.tidy(); err != nil {
		t.Fatal(err)
	}
	if left := mapped(t, db.table.path); left > full/16 {
		t.Errorf("%d bytes stay mapped of %d", left, full)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// mapped is how many bytes of a file count as memory of this process.
func mapped(t *testing.T, path string) (bytes int64) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ours := false
	s := bufio.NewScanner(f)
	for s.Scan() {
		line := s.Text()
		if name, _, _ := strings.Cut(line, " "); strings.Contains(name, "-") {
			ours = strings.HasSuffix(line, " "+path)
		}
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kilobytes); n == 1 && ours {
			bytes += kilobytes << 10
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return bytes
}
