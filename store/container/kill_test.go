package container

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/storetest"
)

// childEnv makes this test binary the process that is killed.
const childEnv = "STASIS_CONTAINER_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := child(path, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// stop stops a process before the disk loses its power, and what it waits for in
// the system goes on. An fdatasync that is caught in the shutdown of ext4 may
// return 0 for a commit that was dropped; after a power cut nobody hears of that.
func stop(p *os.Process) error {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		if err != nil {
			return err
		}
		running := len(stats) == 0
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			_, after, _ := bytes.Cut(stat, []byte(") "))
			running = running || !bytes.ContainsAny(after[:1], "TD")
		}
		if !running {
			return nil
		}
	}
	return errors.New("the child does not stop")
}

// killCrate is crate n of a run: the parent makes the same again.
func killCrate(seed uint64, n int) storetest.Crate {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	size := 1 + rng.IntN(12000)
	if rng.IntN(8) == 0 {
		size = 1 + rng.IntN(1500000)
	}
	return storetest.NewGen(seed + uint64(n)).Crate(size)
}

// positionSaid is the number of no crate: of it the highest position is kept that was said.
const positionSaid = -1

// child puts and discards without end and says what it does before and after:
// "p 7" it begins to put crate 7, "P 7" that is acknowledged; d and D likewise.
func child(path, arg string) error {
	seed, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := Open(ctx, path, store.NodeID{}, testOwner, Options{})
	if err != nil {
		return err
	}
	if err := s.Fence(ctx, nil, store.NewToken(), true); err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(what string, n int) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, n)
	}
	errs := make(chan error)
	for w := range 3 {
		go func() { errs <- work(ctx, s, seed, w, say) }()
	}
	return <-errs
}

func work(ctx context.Context, s *Store, seed uint64, w int, say func(string, int)) error {
	var mine []int
	for n := w; ; n += 3 {
		c := killCrate(seed, n)
		r := store.NewReservationID()
		if _, err := s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: c.Charge()}); err != nil {
			return err
		}
		say("p", n)
		got, err := s.Put(ctx, c.Put(r))
		if err != nil {
			return err
		}
		say("P", n)
		say("@", int(got[0].Position.Count))
		if err := s.Release(ctx, r); err != nil {
			return err
		}
		mine = append(mine, n)
		if len(mine) > 8 {
			old := mine[n%len(mine)]
			mine[n%len(mine)] = mine[len(mine)-1]
			mine = mine[:len(mine)-1]
			say("d", old)
			if err := s.Discard(ctx, store.DiscardRequest{Crate: killCrate(seed, old).ID}); err != nil {
				return err
			}
			say("D", old)
		}
	}
}

// kill -9 at random moments of put, discard and the reuse of space: what was
// acknowledged is there, whole, what was discarded is not, and no space leaks.
func TestKilledProcess(t *testing.T) {
	seed := storetest.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	path, s := newContainer(t, 40<<20, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range rounds(8) {
		if err := killRound(path, seed+uint64(round)*1e6, rng); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func killRound(path string, seed uint64, rng *rand.Rand) error {
	said, err := runAndStop(path, seed, 1+rng.IntN(250), time.Duration(rng.IntN(3000))*time.Microsecond, nil)
	if err != nil {
		return err
	}
	return afterwards(path, seed, said)
}

// afterwards opens the container again, compares it with what was said, and
// empties it.
func afterwards(path string, seed uint64, said map[int]string) error {
	ctx := context.Background()
	s, err := Open(ctx, path, store.NodeID{}, testOwner, Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if at, err := s.Status(ctx); err != nil || fmt.Sprintf("%020d", at.Position.Count) < said[positionSaid] {
		return fmt.Errorf("it is at %v, %w, and has acknowledged %s", at.Position, err, said[positionSaid])
	}
	delete(said, positionSaid)
	if err := s.Fence(ctx, nil, store.NewToken(), true); err != nil {
		return err
	}
	for n, last := range said {
		c := killCrate(seed, n)
		p, err := contents(s, c.ID)
		switch {
		case err == nil && !bytes.Equal(p, c.Data):
			return fmt.Errorf("crate %d has other bytes", n)
		case err == nil && last == "D":
			return fmt.Errorf("crate %d is there after its discard", n)
		case err != nil && last == "P":
			return fmt.Errorf("crate %d was acknowledged: %w", n, err)
		case err != nil && !errors.Is(err, store.NotFound):
			return fmt.Errorf("crate %d (%s): %w", n, last, err)
		}
		if err := s.Discard(ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			return err
		}
	}
	st, err := s.Status(ctx)
	if err != nil || st.Used != 0 || st.Damage != 0 {
		return fmt.Errorf("emptied, and it says %+v, %w", st, err)
	}
	s.mu.RLock()
	var open []store.ReservationID
	for id := range s.st.reservations {
		open = append(open, id)
	}
	s.mu.RUnlock()
	for _, id := range open {
		if err := s.Release(ctx, id); err != nil {
			return err
		}
	}
	return errors.Join(tight(s), s.Close())
}

// runAndStop runs a child until it has said so many lines and a little longer,
// calls first, kills it and gives what it said last of each crate. first may be nil: then
// the child has no reason to end by itself.
func runAndStop(path string, seed uint64, lines int, longer time.Duration, first func() error) (map[int]string, error) {
	cmd := exec.Command(os.Args[0], strconv.FormatUint(seed, 10))
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	said := make(map[int]string)
	stopped := make(chan error, 1)
	in := bufio.NewScanner(out)
	k := 0
	for ; in.Scan(); k++ {
		var what string
		var n int
		if _, err := fmt.Sscan(in.Text(), &what, &n); err != nil {
			break // the line that the kill cut
		}
		if what == "@" {
			said[positionSaid] = max(said[positionSaid], fmt.Sprintf("%020d", n))
		} else {
			said[n] = what
		}
		if k == lines {
			time.AfterFunc(longer, func() {
				var err error
				if first != nil {
					if err = stop(cmd.Process); err == nil {
						err = first()
					}
				}
				_ = cmd.Process.Kill() // or it has ended, of what first did
				stopped <- err
			})
		}
	}
	_ = cmd.Wait() // it was killed
	if k <= lines || first == nil && stderr.Len() > 0 {
		return nil, fmt.Errorf("the child ended by itself: %s", stderr.String())
	}
	return said, <-stopped
}
