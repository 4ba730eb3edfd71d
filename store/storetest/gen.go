package storetest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"stasis/store"
)

// Soak reports whether the full counts are asked for.
func Soak() bool { return os.Getenv("STASIS_SOAK") != "" }

// Seed gives STASIS_SEED, or a new one, and prints it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("STASIS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("STASIS_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("repeat with STASIS_SEED=%d", seed)
	return seed
}

// Crate is a crate in the hands of a test.
type Crate struct {
	ID   store.CrateID
	Form store.Form
	Data []byte
	Sums store.Checksums
}

// Root is the digest of the whole.
func (c Crate) Root() store.Digest { return c.Sums.Root() }

// Charge is what the crate costs.
func (c Crate) Charge() int64 { return store.Charge(int64(len(c.Data))) }

// Put is a request for the crate, its digest known.
func (c Crate) Put(r store.ReservationID) store.PutRequest {
	root := c.Root()
	return store.PutRequest{
		Reservation: r, Crate: c.ID, Form: c.Form, Size: int64(len(c.Data)),
		Source: BytesSource(c.Data), Expect: &root,
	}
}

// Gen makes random crates from a seed. It may be used concurrently, though the
// order then isn't repeated.
type Gen struct {
	mu  sync.Mutex
	rng *rand.Rand
}

// NewGen gives a generator.
func NewGen(seed uint64) *Gen { return &Gen{rng: rand.New(rand.NewPCG(seed, 0x7374617369730000))} }

// Crate makes a crate of size random bytes with a new id.
func (g *Gen) Crate(size int) Crate {
	p := g.Bytes(size)
	return Crate{ID: g.ID(), Data: p, Sums: Sum(p)}
}

// ID makes a crate id that follows from the seed.
func (g *Gen) ID() store.CrateID {
	id := store.CrateID(g.Bytes(16))
	id[6] = id[6]&0x0f | 0x70 // version 7
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Bytes makes n random bytes.
func (g *Gen) Bytes(n int) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := make([]byte, n+7)
	for i := 0; i < n; i += 8 {
		v := g.rng.Uint64()
		for k := range min(8, len(p)-i) {
			p[i+k] = byte(v >> (8 * k))
		}
	}
	return p[:n:n]
}

// IntN is a random number in [0, n).
func (g *Gen) IntN(n int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rng.IntN(n)
}

// Sum gives the checksums of p.
func Sum(p []byte) store.Checksums {
	var h store.Hasher
	_, _ = h.Write(p) // never fails
	return h.Sums()
}
