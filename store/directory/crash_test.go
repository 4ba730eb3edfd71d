package directory

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stasis/store"
	"stasis/store/storetest"
)

// The crash tests run a store in a child process, which says on its standard output
// what it is about to do and what was acknowledged. The parent kills it, or cuts the
// power, at a random moment, opens the store and compares.

const (
	childVar  = "STASIS_CRASH_CHILD" // the base directory the child works in
	childSeed = "STASIS_CRASH_SEED"
)

func TestMain(m *testing.M) {
	var err error
	if base := os.Getenv(childVar); base != "" {
		err = crashChild(base)
	} else if spec := os.Getenv(stepVar); spec != "" {
		err = stepChild(spec)
	} else {
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// crashCrate is the crate that an id stands for: size and bytes follow from it.
func crashCrate(id store.CrateID) storetest.Crate {
	seed := binary.BigEndian.Uint64(id[8:])
	rng := rand.New(rand.NewPCG(seed, 2))
	size := 1 + rng.IntN(20000)
	switch rng.IntN(12) {
	case 0:
		size = 1 + rng.IntN(3<<20)
	case 1:
		size = 4096
	}
	c := storetest.NewGen(seed).Crate(size)
	c.ID = id
	return c
}

// crasher is the child's state.
type crasher struct {
	s     *Store
	base  string
	mu    sync.Mutex
	alive []store.CrateID
}

func (c *crasher) say(verb string, ids ...store.CrateID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, "%s %s\n", verb, id)
	}
	// One write, so that no line is torn by the kill.
	_, _ = os.Stdout.WriteString(b.String())
}

// crashChild works until it is killed or the disk goes.
func crashChild(base string) error {
	ctx := context.Background()
	var seed uint64
	if _, err := fmt.Sscan(os.Getenv(childSeed), &seed); err != nil {
		return err
	}
	s, err := Open(ctx, filepath.Join(base, "node"), store.NodeID{}, owner, Options{})
	if err != nil {
		return err
	}
	if err := s.Fence(ctx, nil, store.NewToken(), true); err != nil {
		return err
	}
	c := &crasher{s: s, base: base}
	page, err := s.List(ctx, nil)
	if err != nil {
		return err
	}
	for _, x := range page.Crates {
		c.alive = append(c.alive, x.ID)
	}
	fmt.Println("ready")
	errs := make(chan error, 3)
	for i := range uint64(3) {
		go func() {
			rng := rand.New(rand.NewPCG(seed, i))
			for {
				// One id each, over all rounds: what a killed child had reserved does not pile up.
				if err := c.step(ctx, rng, store.ReservationID{byte(i) + 1}); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

func (c *crasher) step(ctx context.Context, rng *rand.Rand, r store.ReservationID) error {
	if _, err := c.s.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: 64 << 20}); err != nil {
		return err
	}
	var err error
	switch rng.IntN(5) {
	case 0:
		err = c.put(ctx, r)
	case 1:
		err = c.batch(ctx, r, 1+rng.IntN(40))
	case 2:
		err = c.adopt(ctx, r)
	default:
		for range 4 + c.excess() {
			err = errors.Join(err, c.discard(ctx, rng))
		}
	}
	return errors.Join(err, c.s.Release(ctx, r))
}

// excess keeps the store from growing over the rounds.
func (c *crasher) excess() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(0, len(c.alive)-300) / 3
}

func (c *crasher) stored(at store.Position, ids ...store.CrateID) {
	c.say("stored", ids...)
	fmt.Printf("at %d\n", at.Count)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alive = append(c.alive, ids...)
}

func (c *crasher) put(ctx context.Context, r store.ReservationID) error {
	x := crashCrate(store.NewCrateID())
	got, err := c.s.Put(ctx, x.Put(r))
	if err == nil {
		c.stored(got[0].Position, x.ID)
	}
	return err
}

func (c *crasher) batch(ctx context.Context, r store.ReservationID, n int) error {
	rs := make([]store.PutRequest, n)
	ids := make([]store.CrateID, n)
	for i := range rs {
		x := crashCrate(store.NewCrateID())
		rs[i], ids[i] = x.Put(r), x.ID
	}
	var at store.Position
	for _, res := range c.s.PutBatch(ctx, rs) {
		if res.Err != nil {
			return res.Err
		}
		at = res.Receipts[0].Position
	}
	c.stored(at, ids...)
	return nil
}

// adopt says "body" once the body is durable: from there on it must not be lost.
func (c *crasher) adopt(ctx context.Context, r store.ReservationID) error {
	x := crashCrate(store.NewCrateID())
	dir := filepath.Join(c.base, "bodies")
	path := filepath.Join(dir, x.ID.String())
	if err := os.WriteFile(path, x.Data, 0o600); err != nil {
		return err
	}
	for _, p := range []string{path, dir} {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	c.say("body", x.ID)
	got, err := c.s.Adopt(ctx, x.Put(r), path)
	if err == nil {
		c.stored(got[0].Position, x.ID)
	}
	return err
}

func (c *crasher) discard(ctx context.Context, rng *rand.Rand) error {
	c.mu.Lock()
	if len(c.alive) < 20 {
		c.mu.Unlock()
		return nil
	}
	i := rng.IntN(len(c.alive))
	id := c.alive[i]
	c.alive[i] = c.alive[len(c.alive)-1]
	c.alive = c.alive[:len(c.alive)-1]
	c.mu.Unlock()
	c.say("discarding", id)
	err := c.s.Discard(ctx, store.DiscardRequest{Crate: id})
	if err == nil {
		c.say("discarded", id)
	}
	return err
}

// expected is what the parent knows of each crate, over all rounds.
type expected struct {
	mu    sync.Mutex
	state map[string]string // the last verb by id
	late  map[string]bool   // it was said when the cut had begun
	count uint64            // of the last position that was acknowledged
	acks  int
	ended bool // the cut has begun
	// lenient is for a cut that is not as sudden as a real one: ext4, shut down while a
	// file's new blocks are being written, lets fdatasync say that they are there.
	lenient bool
}

func newExpected() *expected {
	return &expected{state: make(map[string]string), late: make(map[string]bool)}
}

func (e *expected) follow(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		verb, id, ok := strings.Cut(s.Text(), " ")
		if !ok {
			continue
		}
		e.mu.Lock()
		if count, err := strconv.ParseUint(id, 10, 64); err == nil && verb == "at" {
			if !e.lenient || !e.ended {
				e.count = max(e.count, count)
			}
			e.mu.Unlock()
			continue
		}
		e.state[id] = verb
		e.late[id] = e.ended
		e.acks++
		e.mu.Unlock()
	}
}

// check opens the store and compares it with what was said.
func (e *expected) check(t *testing.T, base string) {
	t.Helper()
	root := filepath.Join(base, "node")
	s := openStore(t, root, Options{})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	there := make(map[string]bool)
	var used int64
	for cursor := []byte(nil); ; {
		page, err := s.List(context.Background(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range page.Crates {
			there[info.ID.String()] = true
			used += store.Charge(info.Size)
			if err := holds(s, crashCrate(info.ID)); err != nil {
				t.Errorf("listed, and served torn: %v", err)
			}
		}
		if cursor = page.Next; cursor == nil {
			break
		}
	}
	if st := status(t, s); st.Used != used || st.Crates != int64(len(there)) || st.Damage != 0 {
		t.Errorf("%d crates charge %d bytes, the status says %+v", len(there), used, st)
	}
	if st := status(t, s); st.Position.Count < e.count {
		t.Errorf("it is at position %v, and acknowledged one of %d", st.Position, e.count)
	}
	for id, verb := range e.state {
		if e.lenient && e.late[id] {
			continue // either outcome is right
		}
		body := filepath.Join(base, "bodies", id)
		_, err := os.Stat(body)
		switch {
		case verb == "stored" && !there[id]:
			t.Errorf("crate %s was acknowledged and is lost", id)
		case verb == "discarded" && there[id]:
			t.Errorf("crate %s was discarded and is there", id)
		case verb == "body" && !there[id] && err != nil:
			t.Errorf("the body of crate %s is neither in the store nor where it was", id)
		case verb == "body" && there[id] && err == nil:
			t.Errorf("the body of crate %s is in two places", id)
		}
	}
	e.noLeaks(t, root, there)
}

// noLeaks checks that there is no file but those of crates.
func (e *expected) noLeaks(t *testing.T, root string, there map[string]bool) {
	t.Helper()
	for _, dir := range []string{cratesName, tempName} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && (dir == tempName || !there[d.Name()]) {
				t.Errorf("leaked: %s (last said: %q)", path, e.state[d.Name()])
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// begin says whether the end of a round has begun.
func (e *expected) begin(end bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = end
}

// await waits until the child has said so many lines more, or seems to be stuck.
func (e *expected) await(lines int) {
	e.mu.Lock()
	goal := e.acks + lines
	e.mu.Unlock()
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		e.mu.Lock()
		done := e.acks >= goal
		e.mu.Unlock()
		if done {
			return
		}
	}
}

// crashRound runs the child in base for a while and ends it with cut.
func (e *expected) crashRound(t *testing.T, base string, seed uint64, cut func()) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 77))
	e.begin(false)
	lines, after := rng.IntN(80), time.Duration(rng.IntN(30000))*time.Microsecond
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+base, fmt.Sprintf("%s=%d", childSeed, seed))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil || line != "ready\n" {
		_ = cmd.Wait()
		t.Fatalf("the child did not start: %q, %v: %s", line, err, complaint.String())
	}
	followed := make(chan struct{})
	go func() { defer close(followed); e.follow(r) }()
	e.await(lines)
	time.Sleep(after) // the random moment, which nothing announces
	e.begin(true)
	if cut != nil {
		cut()
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	<-followed
	err = cmd.Wait()
	if cut == nil && complaint.Len() > 0 {
		t.Fatalf("the child failed before it was killed: %v: %s", err, complaint.String())
	}
}

// worked fails a test in which nothing happened that could have gone wrong.
func (e *expected) worked(t *testing.T, rounds int) {
	t.Helper()
	t.Logf("%d rounds, %d lines said", rounds, e.acks)
	if e.acks < 3*rounds {
		t.Errorf("the children have hardly done anything")
	}
}

func crashBase(t *testing.T, base string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(base, "bodies"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(filepath.Join(base, "node"), owner, 0, Options{}); err != nil {
		t.Fatal(err)
	}
}

// TestKill kills the process at random points of put, batch, adopt and discard.
func TestKill(t *testing.T) {
	rounds := 4
	if storetest.Soak() {
		rounds = 200
	}
	seed := storetest.Seed(t)
	base := t.TempDir()
	crashBase(t, base)
	e := newExpected()
	for i := range rounds {
		e.crashRound(t, base, seed+uint64(i), nil)
		e.check(t, base)
		if t.Failed() {
			t.Fatalf("round %d", i)
		}
	}
	e.worked(t, rounds)
}
