package wire

import (
	"errors"
	"testing"
	"time"

	"stasis/store"
)

// Whoever says at the usual pace that he lives is heard for ever, also if all that he said in a
// quarter of an hour comes at once; whoever floods the reader is not.
func TestSigns(t *testing.T) {
	var s Signs
	now := time.Now()
	for round := range 10 {
		for i := range int(15 * time.Minute / EventsHeartbeat) {
			if err := s.heed(now); err != nil {
				t.Fatalf("round %d, sign %d: %v", round, i, err)
			}
		}
		now = now.Add(15 * time.Minute)
	}
	taken := 0
	for s.heed(now) == nil {
		if taken++; taken > 2*signsBurst {
			t.Fatal("a flood has no end")
		}
		now = now.Add(time.Millisecond / 10)
	}
	if err := s.heed(now); !errors.Is(err, store.Invalid) {
		t.Errorf("a flood: %v", err)
	}
}
