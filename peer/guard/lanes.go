package guard

import (
	"container/list"
	"context"
	"fmt"
	"sync"
)

// Lanes is an amount of something bounded that owners share: places, bytes, turns. Each owner
// has a lane of his own.
//
// A share of it is kept for each owner: as long as he holds no more than that, he has it at
// once, whatever the others do. What the shares of all leave, the pool, goes to whoever asks:
// one alone may have all of it. Where several wait, the one who holds least is next, and of
// those who hold as much the one who got nothing for longest; within a lane it is who came
// first. Its methods may be called concurrently.
type Lanes struct {
	size, share, pool int64

	mu      sync.Mutex
	held    int64 // by all
	over    int64 // of it, beyond shares
	waiting int   // in all lanes
	grants  uint64
	lanes   map[string]*lane // of owners who hold something, or wait
}

// lane is what one owner holds and waits for. Guarded by Lanes.mu.
type lane struct {
	held   int64
	served uint64    // the number of the last grant
	queue  list.List // of *wait
}

// wait is one who waits, for least at least and most at most.
type wait struct {
	least, most int64
	got         int64
	ready       chan struct{} // closed when he has got it
}

// NewLanes makes an amount of size, of which share is kept for each of so many owners. There
// may be more of them; then it is kept for those who come first.
func NewLanes(size, share int64, owners int) *Lanes {
	return &Lanes{size: size, share: share, pool: max(0, size-share*int64(owners)), lanes: make(map[string]*lane)}
}

// Most is what one owner can have.
func (l *Lanes) Most() int64 { return min(l.size, l.share+l.pool) }

// Acquire takes n for an owner, Most at most; it waits until he may have it. Release gives it
// back. With an error nothing is taken; it is why ctx ended.
func (l *Lanes) Acquire(ctx context.Context, owner string, n int64) error {
	_, err := l.AcquireSome(ctx, owner, n, n)
	return err
}

// AcquireSome is Acquire for whoever can do with less: he waits for least, and gets as much of
// most as there is then.
func (l *Lanes) AcquireSome(ctx context.Context, owner string, least, most int64) (int64, error) {
	if least > l.Most() {
		return 0, fmt.Errorf("%d is more than the %d that one owner can have", least, l.Most())
	}
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	l.mu.Lock()
	in := l.lane(owner)
	if in.queue.Len() == 0 && l.fits(in, least) && (l.waiting == 0 || l.beyond(in, least) == 0) {
		n := l.give(in, least, most)
		l.mu.Unlock()
		return n, nil
	}
	w := &wait{least: least, most: most, ready: make(chan struct{})}
	at := in.queue.PushBack(w)
	l.waiting++
	l.mu.Unlock()
	select {
	case <-w.ready:
		return w.got, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.got > 0 { // just now
		l.take(owner, in, w.got)
		return 0, context.Cause(ctx)
	}
	in.queue.Remove(at)
	l.waiting--
	l.take(owner, in, 0)
	return 0, context.Cause(ctx)
}

// TryAcquire takes n for an owner, if he may have it now.
func (l *Lanes) TryAcquire(owner string, n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.lane(owner)
	if in.queue.Len() > 0 || !l.fits(in, n) || l.waiting > 0 && l.beyond(in, n) > 0 {
		l.tidy(owner, in)
		return false
	}
	l.give(in, n, n)
	return true
}

// Release gives back what was acquired, or a part of it.
func (l *Lanes) Release(owner string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.take(owner, l.lane(owner), n)
}

// Pass lets others have a turn: where anybody waits it gives n back and takes it again in its
// turn. With an error nothing is held any more.
func (l *Lanes) Pass(ctx context.Context, owner string, n int64) error {
	l.mu.Lock()
	alone := l.waiting == 0
	l.mu.Unlock()
	if alone {
		return nil
	}
	l.Release(owner, n)
	return l.Acquire(ctx, owner, n)
}

// Held is what an owner has, and what all have.
func (l *Lanes) Held(owner string) (his, all int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in := l.lanes[owner]; in != nil {
		his = in.held
	}
	return his, l.held
}

func (l *Lanes) lane(owner string) *lane {
	in := l.lanes[owner]
	if in == nil {
		in = new(lane)
		l.lanes[owner] = in
	}
	return in
}

func (l *Lanes) tidy(owner string, in *lane) {
	if in.held == 0 && in.queue.Len() == 0 {
		delete(l.lanes, owner)
	}
}

// beyond is how much of n would come from the pool.
func (l *Lanes) beyond(in *lane, n int64) int64 {
	return max(0, in.held+n-l.share) - max(0, in.held-l.share)
}

func (l *Lanes) fits(in *lane, n int64) bool {
	return l.held+n <= l.size && l.over+l.beyond(in, n) <= l.pool
}

// give gives at least least, which must fit, and of most what there is. Others who wait for
// the pool leave no more of it.
func (l *Lanes) give(in *lane, least, most int64) int64 {
	n := max(0, l.share-in.held)
	if l.waiting == 0 {
		n += l.pool - l.over
	}
	n = max(least, min(n, most, l.size-l.held))
	l.over += l.beyond(in, n)
	in.held += n
	l.held += n
	l.grants++
	in.served = l.grants
	return n
}

// take takes back n and gives it to those who wait.
func (l *Lanes) take(owner string, in *lane, n int64) {
	l.over += l.beyond(in, -n)
	in.held -= n
	l.held -= n
	l.tidy(owner, in)
	for l.waiting > 0 {
		next := l.next()
		if next == nil {
			return
		}
		w := next.queue.Remove(next.queue.Front()).(*wait)
		l.waiting--
		w.got = l.give(next, w.least, w.most)
		close(w.ready)
	}
}

// next is the lane whose first may have what he waits for; nil if none may. Nobody gets of the
// pool before the one whose turn it is: he would wait for ever for much.
func (l *Lanes) next() (turn *lane) {
	for _, in := range l.lanes {
		if in.queue.Len() == 0 {
			continue
		}
		if w := in.queue.Front().Value.(*wait); l.fits(in, w.least) && l.beyond(in, w.least) == 0 {
			return in
		}
		if turn == nil || in.held < turn.held || in.held == turn.held && in.served < turn.served {
			turn = in
		}
	}
	if turn != nil && !l.fits(turn, turn.queue.Front().Value.(*wait).least) {
		return nil
	}
	return turn
}
