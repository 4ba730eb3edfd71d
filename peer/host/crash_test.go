package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/peer/identity"
	"stasis/store"
	"stasis/store/booking"
	"stasis/store/storetest"
)

// childEnv makes this test binary the peer that is killed.
const childEnv = "STASIS_HOST_CHILD"

// crashOwners is how many vaults use it, each at once with the others.
const crashOwners = 3

// grantSize is what each of them reserves at a time, in bytes.
const grantSize = 24 * mib

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// crashCrate is crate n of a vault: parent and child make the same.
func crashCrate(seed uint64, vault, n int) storetest.Crate {
	rng := rand.New(rand.NewPCG(seed, uint64(vault)<<32|uint64(n)))
	size := 1 + rng.IntN(12000)
	if rng.IntN(4) == 0 {
		size = 1 + rng.IntN(4*mib)
	}
	return storetest.NewGen(rng.Uint64()).Crate(size)
}

// child puts, breaks off and discards without end and says what it does before and
// after: "p 1 7" vault 1 begins to put crate 7, "P 1 7" that has a receipt; d and D
// likewise.
func child(dir, arg string) error {
	seed, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return err
	}
	p := &peer{dir: dir, clock: booking.System}
	if err := p.open(); err != nil {
		return err
	}
	errs := make(chan error)
	var mu sync.Mutex
	for v := range crashOwners {
		go func() {
			errs <- p.crashVault(seed, v, func(what string, n int) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Println(what, v, n)
			})
		}()
	}
	return <-errs
}

func (p *peer) crashVault(seed uint64, vault int, say func(string, int)) error {
	id, err := identity.Load(keyOf(p.dir, vault))
	if err != nil {
		return err
	}
	s, err := p.session(id.Fingerprint(), store.Token{})
	if err != nil {
		return err
	}
	c := &client{Session: s, id: id, leaf: p.leaf}
	if err := c.Fence(bg, nil, store.NewToken(), true); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, uint64(vault)+1000))
	var mine []int
	for n := 0; ; {
		r := store.NewReservationID()
		if _, err := c.Reserve(bg, store.ReserveRequest{ID: r, Bytes: grantSize}); err != nil {
			return err
		}
		for range 1 + rng.IntN(5) {
			batch := 1
			if rng.IntN(2) == 0 {
				batch = 4
			}
			var rs []store.PutRequest
			for range batch {
				rs = append(rs, crashCrate(seed, vault, n).Put(r))
				say("p", n)
				mine = append(mine, n)
				n++
			}
			if err := crashPut(c, rng, rs); err != nil {
				return err
			}
			for i := range batch {
				say("P", n-batch+i)
			}
		}
		for len(mine) > 12 {
			old := mine[0]
			mine = mine[1:]
			say("d", old)
			if err := c.Discard(bg, store.DiscardRequest{Crate: crashCrate(seed, vault, old).ID}); err != nil {
				return err
			}
			say("D", old)
		}
		if rng.IntN(3) > 0 {
			if err := c.Release(bg, r); err != nil {
				return err
			}
		} else if _, err := c.Reserve(bg, store.ReserveRequest{ID: r, Bytes: 1, Lease: time.Second}); err != nil {
			return err // it is shrunk to what was drawn, and lapses
		}
	}
}

// crashPut puts one crate by itself, sometimes after an attempt that broke off, and more
// as a batch.
func crashPut(c *client, rng *rand.Rand, rs []store.PutRequest) error {
	if len(rs) > 1 {
		for _, res := range c.PutBatch(bg, rs) {
			if res.Err != nil {
				return res.Err
			}
		}
		return nil
	}
	if r := rs[0]; r.Size > SmallCrate && rng.IntN(2) == 0 {
		whole := r.Source
		r.Source = storetest.SourceFunc(func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			rc, err := whole.OpenAt(ctx, offset)
			if err != nil {
				return nil, err
			}
			return io.NopCloser(io.MultiReader(io.LimitReader(rc, mib+5), brokenReader{})), nil
		})
		if _, err := c.Put(bg, r); err == nil && r.Size > 2*mib {
			return errors.New("a broken source was taken")
		}
	}
	_, err := c.Put(bg, rs[0])
	return err
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, storetest.ErrSource }

func keyOf(dir string, vault int) string { return filepath.Join(dir, fmt.Sprintf("key%d", vault)) }

// crashBase makes what the child opens: a peer whose owners are known.
func crashBase(t *testing.T, dir string) {
	t.Helper()
	p := &peer{t: t, dir: dir, clock: booking.System}
	p.make(1 << 30)
	p.start()
	for v := range crashOwners {
		id := identity.New()
		if err := identity.Create(keyOf(dir, v), id); err != nil {
			t.Fatal(err)
		}
		p.invite(id, 0)
	}
	p.stop()
}

// expected is what the vaults know.
type expected struct {
	state map[[2]int]byte // by vault and crate: the last that was said
	seeds map[[2]int]uint64
	acks  int
	next  int // crates are numbered anew in each round, and kept apart by this
}

func newExpected() *expected {
	return &expected{state: make(map[[2]int]byte), seeds: make(map[[2]int]uint64)}
}

// round runs the child for a while and ends it by end.
func (e *expected) round(t *testing.T, dir string, seed uint64, end func(*os.Process)) {
	t.Helper()
	cmd := exec.Command(os.Args[0], strconv.FormatUint(seed, 10))
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 77))
	after := 5 + rng.IntN(150)
	extra := time.Duration(rng.IntN(8000)) * time.Microsecond
	ended := make(chan struct{})
	lines := 0
	for in := bufio.NewScanner(out); in.Scan(); lines++ {
		if lines == after {
			go func() {
				defer close(ended)
				time.Sleep(extra) // to fall between two lines, too
				end(cmd.Process)
				_ = cmd.Process.Kill() // or it has ended
			}()
		}
		e.heard(t, in.Text(), seed)
	}
	if lines <= after {
		_ = cmd.Wait()
		t.Fatalf("seed %d: the child ended by itself: %s", seed, stderr.String())
	}
	<-ended
	_ = cmd.Wait() // it was killed
	e.next += 1 << 20
}

func (e *expected) heard(t *testing.T, line string, seed uint64) {
	t.Helper()
	var what string
	var vault, n int
	if _, err := fmt.Sscan(line, &what, &vault, &n); err != nil || !strings.Contains("pPdD", what) {
		t.Fatalf("the child said %q", line)
	}
	k := [2]int{vault, e.next + n}
	e.state[k], e.seeds[k] = what[0], seed
	if what == "P" {
		e.acks++
	}
}

// check opens the peer and compares.
func (e *expected) check(t *testing.T, dir string) {
	t.Helper()
	p := &peer{t: t, dir: dir, clock: booking.System}
	p.start()
	defer p.stop()
	var used, reserved, crates int64
	for v := range crashOwners {
		id, err := identity.Load(keyOf(dir, v))
		if err != nil {
			t.Fatal(err)
		}
		c := p.client(id)
		mine := e.checkVault(t, c, v)
		st, err := c.Status(bg)
		if err != nil || st.Used != mine {
			t.Errorf("vault %d is charged %d for crates of %d, %v", v, st.Used, mine, err)
		}
		used, reserved, crates = used+st.Used, reserved+st.Reserved, crates+st.Crates
	}
	st, err := p.store.Status(bg)
	if err != nil || st.Used != used || st.Reserved != reserved || st.Crates != crates {
		t.Errorf("the store has %d used, %d reserved, %d crates; its owners %d, %d, %d (%v)", st.Used, st.Reserved, st.Crates, used, reserved, crates, err)
	}
	partials := 0
	for _, o := range p.all() {
		partials += len(o.partials)
		if len(o.unsettled) > 0 {
			t.Errorf("%d puts are not settled", len(o.unsettled))
		}
	}
	if files := p.spoolFiles(); len(files) != partials {
		t.Errorf("%d files in the spool for %d uploads", len(files), partials)
	}
	e.release(t, p)
}

// release ends what the vaults that were killed had reserved; all of it comes back.
func (e *expected) release(t *testing.T, p *peer) {
	t.Helper()
	for _, o := range p.all() {
		o.shutOut(bg)
	}
	if st, err := p.store.Status(bg); err != nil || st.Reserved != 0 {
		t.Errorf("%d are reserved when all reservations have been released, %v", st.Reserved, err)
	}
	if files := p.spoolFiles(); len(files) != 0 {
		t.Errorf("%d files are in the spool when all reservations have been released", len(files))
	}
}

// checkVault compares the crates of one, and gives what they cost.
func (e *expected) checkVault(t *testing.T, c *client, vault int) (charged int64) {
	t.Helper()
	listed := make(map[store.CrateID]bool)
	for cursor := []byte(nil); ; {
		page, err := c.List(bg, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Crates {
			listed[i.ID] = true
			charged += store.Charge(i.Size)
		}
		if cursor = page.Next; cursor == nil {
			break
		}
	}
	for k, state := range e.state {
		if k[0] != vault {
			continue
		}
		want := crashCrate(e.seeds[k], vault, k[1]%(1<<20))
		got, err := read(c, want.ID)
		switch {
		case errors.Is(err, store.NotFound) && state != 'P':
			if state != 'd' {
				delete(e.state, k)
			}
			if listed[want.ID] && state == 'D' {
				t.Errorf("crate %v was discarded and is listed", k)
			}
			// A discard that was caught in the middle can be repeated.
			if err := c.Discard(bg, store.DiscardRequest{Crate: want.ID}); err != nil {
				t.Errorf("repeat of a discard: %v", err)
			}
			if listed[want.ID] {
				charged -= want.Charge()
			}
			delete(e.state, k)
		case err != nil:
			t.Errorf("crate %v, of which %q was said: %v", k, state, err)
		case state == 'D':
			t.Errorf("crate %v was discarded and is there", k)
		case !bytes.Equal(got, want.Data):
			t.Errorf("crate %v has other bytes", k)
		default:
			if !listed[want.ID] {
				t.Errorf("crate %v is there and not listed", k)
			}
			e.again(t, c, k, want)
		}
		delete(listed, want.ID)
	}
	for id := range listed {
		t.Errorf("vault %d lists %s, which it does not know", vault, id)
	}
	return charged
}

// again repeats a put that may or may not have been acknowledged, and keeps few, so that
// the rounds stay short.
func (e *expected) again(t *testing.T, c *client, k [2]int, want storetest.Crate) {
	t.Helper()
	if _, err := c.Put(bg, want.Put(store.NewReservationID())); err != nil {
		t.Errorf("the repeat of a put that is there: %v", err)
	}
	e.state[k] = 'P'
}

// thin discards most of what is kept, so that the next check is short.
func (e *expected) thin(t *testing.T, dir string) {
	t.Helper()
	p := &peer{t: t, dir: dir, clock: booking.System}
	p.start()
	defer p.stop()
	for v := range crashOwners {
		id, err := identity.Load(keyOf(dir, v))
		if err != nil {
			t.Fatal(err)
		}
		c := p.client(id)
		kept := 0
		for k := range e.state {
			if k[0] != v {
				continue
			}
			if kept++; kept <= 5 {
				continue
			}
			if err := c.Discard(bg, store.DiscardRequest{Crate: crashCrate(e.seeds[k], v, k[1]%(1<<20)).ID}); err != nil {
				t.Fatal(err)
			}
			e.state[k] = 'D'
		}
	}
}

// Killed at any moment of put, batch, resumed put and discard: what has a receipt is
// whole, what was discarded is gone, and the accounts of the owners are those of the store.
func TestKill(t *testing.T) {
	rounds := 6
	if storetest.Soak() {
		rounds = 150
	}
	dir := t.TempDir()
	crashBase(t, dir)
	seed := storetest.Seed(t)
	e := newExpected()
	for i := range rounds {
		e.round(t, dir, seed+uint64(i), func(p *os.Process) { _ = p.Kill() })
		e.check(t, dir)
		if t.Failed() {
			t.Fatalf("round %d, seed %d", i, seed+uint64(i))
		}
		e.thin(t, dir)
	}
	if e.acks < rounds {
		t.Errorf("%d receipts in %d rounds: the child does not get far", e.acks, rounds)
	}
}

// The same where the disk loses what was not synced.
func TestPowerCut(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			rounds := 2
			if storetest.Soak() {
				rounds = 100
			}
			d := newDisk(t, kind, 600*mib)
			crashBase(t, d.dir)
			d.run("sync", "-f", d.dir)
			seed := storetest.Seed(t)
			e := newExpected()
			for i := range rounds {
				e.round(t, d.dir, seed+uint64(i), func(p *os.Process) {
					if err := errors.Join(freeze(p), d.cut()); err != nil {
						t.Error(err)
					}
				})
				d.remount()
				e.check(t, d.dir)
				if t.Failed() {
					t.Fatalf("round %d, seed %d", i, seed+uint64(i))
				}
				e.thin(t, d.dir)
				d.run("sync", "-f", d.dir)
			}
			if e.acks < rounds {
				t.Errorf("%d receipts in %d rounds: the child does not get far", e.acks, rounds)
			}
		})
	}
}

// freeze stops a process before its disk loses its power, so that it hears of nothing
// that a cut would have kept it from hearing.
func freeze(p *os.Process) error {
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
