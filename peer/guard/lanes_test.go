package guard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// One alone has all that is kept for nobody else, and the others have their shares all the same.
func TestLanesKeepShares(t *testing.T) {
	l := NewLanes(10, 2, 3)
	if l.Most() != 6 || !l.TryAcquire("ann", 6) || l.TryAcquire("ann", 1) {
		t.Error("one alone has his share and the pool")
	}
	for _, who := range []string{"bob", "eve"} {
		if !l.TryAcquire(who, 2) || l.TryAcquire(who, 1) {
			t.Errorf("%s does not have the share that is kept", who)
		}
	}
	if l.TryAcquire("one too many", 1) {
		t.Error("there are ten")
	}
	l.Release("ann", 1)
	if !l.TryAcquire("bob", 1) {
		t.Error("what one gives back of the pool is another's")
	}
	for who, n := range map[string]int64{"ann": 5, "bob": 3, "eve": 2} {
		l.Release(who, n)
	}
	if _, all := l.Held(""); all != 0 || l.over != 0 || len(l.lanes) != 0 {
		t.Errorf("left: %d, %d, %v", all, l.over, l.lanes)
	}
	if err := l.Acquire(t.Context(), "ann", 7); err == nil {
		t.Error("more than there is for one")
	}
}

// However many of one wait, another's first is the next.
func TestLanesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLanes(2, 0, 0)
		var got []string
		var mu sync.Mutex
		work := func(who string, units int) {
			if err := l.Acquire(t.Context(), who, 1); err != nil {
				t.Error(err)
				return
			}
			defer l.Release(who, 1)
			for n := range units {
				if n > 0 && l.Pass(t.Context(), who, 1) != nil {
					t.Error("pass")
				}
				mu.Lock()
				got = append(got, who)
				mu.Unlock()
				time.Sleep(time.Second)
			}
		}
		for range 120 {
			go work("ann", 3)
		}
		synctest.Wait()
		time.Sleep(90 * time.Second / 2)
		start := time.Now()
		done := make(chan struct{})
		go func() { work("bob", 4); close(done) }()
		<-done
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("4 units of 1 s took one of two %s beside 120 of the other", took)
		}
		time.Sleep(time.Hour)
		if len(got) != 364 {
			t.Errorf("%d units were done", len(got))
		}
		if len(l.lanes) != 0 || l.waiting != 0 {
			t.Error("somebody is left")
		}
	})
}

// Who gives up waiting holds nothing, and holds up nobody. Who can do with less gets what
// there is.
func TestLanesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLanes(8, 0, 0)
		if n, err := l.AcquireSome(t.Context(), "ann", 1, 6); n != 6 || err != nil {
			t.Error(n, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		much := make(chan error)
		go func() { much <- l.Acquire(ctx, "bob", 8) }()
		synctest.Wait()
		if l.TryAcquire("eve", 1) {
			t.Error("who waits for much is passed by")
		}
		some := make(chan int64)
		go func() {
			n, err := l.AcquireSome(t.Context(), "eve", 1, 8)
			if err != nil {
				t.Error(err)
			}
			some <- n
		}()
		synctest.Wait()
		cancel()
		if err := <-much; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if n := <-some; n != 2 {
			t.Errorf("%d of what is left, 2", n)
		}
	})
}

// Whatever happens in whatever order, nobody is denied his share, there is never more than
// there is, and nothing is left in the end.
func TestLanesAtRandom(t *testing.T) {
	const size, share, owners = 20, 2, 6
	l := NewLanes(size, share, owners)
	var all sync.WaitGroup
	for o := range owners {
		who := fmt.Sprint(o)
		for k := range 4 {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(o), uint64(k)))
				for range 300 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(300))*time.Microsecond)
					if n, err := l.AcquireSome(ctx, who, 1+rnd.Int64N(3), 5); err == nil {
						l.mu.Lock()
						over := int64(0)
						for _, in := range l.lanes {
							over += max(0, in.held-share)
						}
						if l.held > size || l.over != over || over > l.pool {
							t.Errorf("%d held, %d beyond shares, counted as %d", l.held, over, l.over)
						}
						l.mu.Unlock()
						l.Release(who, n)
					}
					cancel()
				}
			})
		}
	}
	all.Wait()
	if l.held != 0 || l.over != 0 || l.waiting != 0 || len(l.lanes) != 0 {
		t.Errorf("left: %+v", l)
	}
}
