package router

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stasis/store"
	"stasis/store/ledger"
	"stasis/store/memory"
	"stasis/store/storetest"
	"stasis/store/storetest/fault"
)

// link is a store behind a network: each call takes the latency, and all that comes from
// it shares a rate. It can hang and lie in the middle of a stream.
type link struct {
	store.Store
	latency time.Duration

	mu    sync.Mutex
	rate  int64 // bytes a second; 0: no bound
	free  time.Time
	hang  int64 // streams give nothing more after so many bytes; negative: they do
	lie   bool
	spoil int // how many puts more get a wrong byte on their way
	opens int
	in    int64 // bytes that were put
	// expected tells of each put whether it came with a digest.
	expected []bool
}

func newLink(s store.Store) *link { return &link{Store: s, hang: -1} }

func (l *link) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// asked is how often bytes were asked for, and took how many were put.
func (l *link) asked() (n int)  { l.set(func() { n = l.opens }); return n }
func (l *link) took() (n int64) { l.set(func() { n = l.in }); return n }

func (l *link) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return &store.Error{Kind: store.Unavailable, Op: "reach node", Err: ctx.Err()}
	case <-t.C:
		return nil
	}
}

func (l *link) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	l.set(func() { l.opens++ })
	if err := l.wait(ctx, l.latency); err != nil {
		return nil, err
	}
	rc, err := l.Store.Open(ctx, id, offset, length)
	if err != nil {
		return nil, err
	}
	return &linkReader{l: l, ctx: ctx, rc: rc}, nil
}

func (l *link) Status(ctx context.Context) (store.Status, error) {
	if err := l.wait(ctx, l.latency); err != nil {
		return store.Status{}, err
	}
	return l.Store.Status(ctx)
}

func (l *link) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	r.Source = countedSource{r.Source, l}
	l.set(func() {
		l.expected = append(l.expected, r.Expect != nil)
		if l.spoil--; l.spoil >= 0 {
			r.Source = spoiling{r.Source}
		}
	})
	return l.Store.Put(ctx, r)
}

// spoiling is a way on which the first byte changes.
type spoiling struct{ store.Source }

func (s spoiling) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	rc, err := s.Source.OpenAt(ctx, offset)
	if err != nil || offset > 0 {
		return rc, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&spoiler{Reader: rc}, rc}, nil
}

type spoiler struct {
	io.Reader
	done bool
}

func (s *spoiler) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if n > 0 && !s.done {
		p[0] ^= 1
		s.done = true
	}
	return n, err
}

type countedSource struct {
	store.Source
	l *link
}

func (c countedSource) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	rc, err := c.Source.OpenAt(ctx, offset)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{movedReader{rc, c.l}, rc}, nil
}

type movedReader struct {
	io.Reader
	l *link
}

func (m movedReader) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.l.set(func() { m.l.in += int64(n) })
	return n, err
}

type linkReader struct {
	l    *link
	ctx  context.Context
	rc   io.ReadCloser
	gave int64
}

func (r *linkReader) Read(p []byte) (int, error) {
	p = p[:min(len(p), 64<<10)]
	l := r.l
	n, err := r.rc.Read(p)
	l.mu.Lock()
	hang, lie, rate := l.hang, l.lie, l.rate
	due := time.Now()
	if rate > 0 {
		if l.free.Before(due) {
			l.free = due
		}
		l.free = l.free.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
		due = l.free
	}
	l.mu.Unlock()
	if hang >= 0 && r.gave+int64(n) > hang {
		<-r.ctx.Done()
		return 0, r.ctx.Err()
	}
	if lie && n > 0 {
		p[0] ^= 1
	}
	r.gave += int64(n)
	if e := l.wait(r.ctx, time.Until(due)); e != nil {
		return 0, e
	}
	return n, err
}

func (r *linkReader) Close() error { return r.rc.Close() }

// farRig runs f in a bubble with a clock of its own, with a rig of which every node is
// remote and behind a link. Nothing is started.
func farRig(t *testing.T, nodes int, f func(*rig, []*link)) {
	t.Helper()
	seed := storetest.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		clock := simClock{time.Now()}
		g := &rig{t: t, dir: t.TempDir(), gen: storetest.NewGen(seed), clock: clock}
		g.bodies = &bodies{dir: filepath.Join(g.dir, "bodies"), has: make(map[store.CrateID]Body)}
		if err := os.Mkdir(g.bodies.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		var links []*link
		for i := range nodes {
			m, err := memory.New(4*gib, memory.Options{Clock: clock, Leaf: store.NodeID(g.gen.Bytes(16))})
			if err != nil {
				t.Fatal(err)
			}
			l := newLink(m)
			links = append(links, l)
			g.places = append(g.places, &spot{name: fmt.Sprintf("n%d", i), kind: "grpc", mem: m, fault: fault.Wrap(l)})
		}
		var err error
		if g.db, err = ledger.Open(filepath.Join(g.dir, "ledger"), ledger.Small()); err != nil {
			t.Fatal(err)
		}
		f(g, links)
		g.stop()
		if err := g.db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// readOn reads a crate from its start to its end as the kernel does, and gives the longest
// that one read took.
func (g *rig) readOn(c storetest.Crate) (longest time.Duration) {
	g.t.Helper()
	p := make([]byte, 128<<10)
	for off := 0; off < len(c.Data); {
		begin := time.Now()
		n, err := g.r.ReadAt(context.Background(), c.ID, p, int64(off))
		longest = max(longest, time.Since(begin))
		if err != nil && err != io.EOF {
			g.t.Fatalf("read at %d: %v", off, err)
		}
		if string(p[:n]) != string(c.Data[off:off+n]) {
			g.t.Fatalf("other bytes at %d", off)
		}
		off += n
	}
	return longest
}

// forgetBlocks empties the cache in memory.
func (g *rig) forgetBlocks() {
	c := g.r.blocks
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.order.Len() > 0 {
		c.remove(c.order.Back())
	}
}
