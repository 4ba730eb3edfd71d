package ledger

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// writeForever is the process that TestKill kills. It says each position once the
// update has returned.
func writeForever(dir string) error {
	db, err := Open(dir, Options{Segment: 64 << 10})
	if err != nil {
		return err
	}
	s := db.Space(Shared)
	for {
		p, err := countUp(s)
		if err == nil && p%1000 == 0 {
			err = db.Sync(context.Background(), p)
		}
		if err != nil {
			return err
		}
		fmt.Println(p)
	}
}

// countUp is an update that shows whether an earlier one is missing.
func countUp(s *Space) (Position, error) {
	return s.Update(func(tx *Tx) error {
		other := tx.In(Local)
		v, _, err := other.Get([]byte("count"))
		if err != nil {
			return err
		}
		n := uint64(1)
		if len(v) == 8 {
			n += binary.BigEndian.Uint64(v)
		}
		other.Put([]byte("count"), binary.BigEndian.AppendUint64(nil, n))
		tx.Put(fmt.Appendf(nil, "k%d", n%1000), binary.BigEndian.AppendUint64(nil, n))
		return nil
	})
}

// TestKill: what an update returned for survives the death of the process.
func TestKill(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	var last Position
	for range rounds(6) {
		told := killWriter(t, dir, time.Duration(rng.IntN(150))*time.Millisecond)
		db := openTest(t, dir, Options{Segment: 64 << 10})
		p := db.Position()
		if p < max(told, last) || p > told+1 && told > 0 {
			t.Fatalf("after the kill the ledger is at %d; the process was told of %d", p, told)
		}
		checkCount(t, db)
		closeTest(t, db)
		last = p
	}
	t.Logf("%d updates", last)
}

// killWriter runs the writer for a while, kills it and gives what it said last.
func killWriter(t *testing.T, dir string, after time.Duration) (last Position) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "LEDGER_TEST_WRITER="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after+20*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // the end, perhaps within a line
		}
		n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		last = Position(n)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return last
}

// checkCount compares the ledger with what the writer's updates add up to.
func checkCount(t *testing.T, db *DB) {
	t.Helper()
	n := uint64(db.Position())
	if n == 0 {
		return
	}
	s := db.Space(Shared)
	wantValue(t, db.Space(Local), "count", string(binary.BigEndian.AppendUint64(nil, n)))
	for i := range min(n, 1000) {
		wantValue(t, s, fmt.Sprintf("k%d", (n-i)%1000), string(binary.BigEndian.AppendUint64(nil, n-i)))
	}
	if err := db.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
}
