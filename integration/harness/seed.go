package harness

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seed is the seed of this test process: $STASIS_SEED, or a new one.
var seed = func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("STASIS_SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}()

// Seed is the seed of a test, the same in each run with the same $STASIS_SEED,
// whichever tests run beside it. It is printed.
func Seed(t testing.TB) uint64 {
	t.Helper()
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name())) // never fails
	t.Logf("STASIS_SEED=%d", seed)
	return seed ^ h.Sum64()
}

// Rand is the source of everything random in a test.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Seed(t), 0))
}

// Soak reports whether the full counts are asked for.
func Soak() bool { return os.Getenv("STASIS_SOAK") != "" }

// Count is few, or full where the full counts are asked for.
func Count(few, full int) int {
	if Soak() {
		return full
	}
	return few
}
