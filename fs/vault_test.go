package fs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
	"stasis/store/memory"
)

// testNode is a memory store that says it is durable and outlives the router, as a
// disk does. It can be away.
type testNode struct {
	store.Store
	name string
	kind string // empty: memory
	away atomic.Bool
	// hold is up to which size puts wait; refuses has them all refused with Conflict.
	hold    atomic.Int64
	refuses atomic.Bool
}

var errAway = &store.Error{Kind: store.Unavailable, Op: "open node", Detail: "the test took it away"}

func (n *testNode) Status(ctx context.Context) (store.Status, error) {
	if n.away.Load() {
		return store.Status{}, errAway
	}
	s, err := n.Store.Status(ctx)
	s.Durable = true
	return s, err
}

func (n *testNode) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	if n.refuses.Load() {
		return nil, &store.Error{Kind: store.Conflict, Op: "put", Subject: r.Crate.String(), Detail: "other bytes lie here under this id"}
	}
	for r.Size <= n.hold.Load() {
		select {
		case <-ctx.Done():
			return nil, errAway
		case <-time.After(5 * time.Millisecond):
		}
	}
	if n.away.Load() {
		return nil, errAway
	}
	return n.Store.Put(ctx, r)
}

func (n *testNode) Open(ctx context.Context, id store.CrateID, off, length int64) (io.ReadCloser, error) {
	if n.away.Load() {
		return nil, errAway
	}
	return n.Store.Open(ctx, id, off, length)
}

// Close keeps the store: it is the disk, not the daemon's view of it.
func (n *testNode) Close() error { return nil }

// vault is a filesystem over test nodes that can be stopped, killed and started
// again.
type vault struct {
	t      *testing.T
	dir    string
	policy router.Policy
	nodes  []*testNode

	db *ledger.DB
	rt *router.Router
	*FS
}

func newVault(t *testing.T, copies int, capacities ...int64) *vault {
	t.Helper()
	v := &vault{t: t, dir: t.TempDir(), policy: router.Policy{Copies: copies, Least: 1}}
	for i, c := range capacities {
		v.addNode(string(rune('a'+i)), c)
	}
	v.start()
	t.Cleanup(func() {
		if v.FS != nil {
			v.kill()
		}
	})
	return v
}

func (v *vault) addNode(name string, capacity int64) *testNode {
	v.t.Helper()
	st, err := memory.New(capacity, memory.Options{})
	must(v.t, err)
	n := &testNode{Store: st, name: name}
	v.nodes = append(v.nodes, n)
	return n
}

func (v *vault) specs() (specs []router.NodeSpec) {
	for _, n := range v.nodes {
		specs = append(specs, router.NodeSpec{Name: n.name, Kind: cmp.Or(n.kind, "memory"), Durable: true,
			Open: func(context.Context, store.NodeID) (store.Store, error) {
				if n.away.Load() {
					return nil, errAway
				}
				return n, nil
			}})
	}
	return specs
}

func (v *vault) start() {
	v.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	if testing.Verbose() {
		log.SetOutput(v.t.Output())
	}
	db, err := ledger.Open(filepath.Join(v.dir, "ledger"), ledger.Options{Log: log, Ballast: -1})
	must(v.t, err)
	fsys, err := New(Options{Ledger: db, Bodies: filepath.Join(v.dir, "bodies"), Policy: func() router.Policy { return v.policy }, Log: log})
	must(v.t, err)
	rt, err := router.New(router.Options{Ledger: db, Bodies: fsys, Observer: fsys, Log: log})
	must(v.t, err)
	must(v.t, rt.SetNodes(v.specs()))
	must(v.t, fsys.Start(v.t.Context(), rt))
	must(v.t, rt.Start(v.t.Context()))
	v.db, v.rt, v.FS = db, rt, fsys
}

// stop ends it as an unmount does.
func (v *vault) stop() {
	v.t.Helper()
	must(v.t, v.FS.Close(context.Background()))
	v.end()
}

// kill ends it as a kill does: nothing that was not done by then is done.
func (v *vault) kill() {
	v.t.Helper()
	v.FS.cancel()
	v.FS.done.Wait()
	must(v.t, v.FS.bodies.Close())
	v.end()
}

func (v *vault) end() {
	v.t.Helper()
	must(v.t, v.rt.Close(context.Background()))
	must(v.t, v.db.Close())
	v.FS = nil
}

func (v *vault) restart() {
	v.t.Helper()
	v.kill()
	v.start()
}

// cutPower starts the vault again as after a power cut: the boot is another. What the
// disk loses then is for the tests of the parts that write to it.
func (v *vault) cutPower() {
	v.t.Helper()
	v.kill()
	db, err := ledger.Open(filepath.Join(v.dir, "ledger"), ledger.Options{Ballast: -1})
	must(v.t, err)
	_, err = db.Space(ledger.Local).Update(func(tx *ledger.Tx) error {
		tx.Put(bootKey, []byte("another boot"))
		return nil
	})
	must(v.t, err)
	must(v.t, db.Close())
	v.start()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (v *vault) create(name string) *Handle {
	v.t.Helper()
	_, h, err := v.Create(names.Root, name, names.Spec{Mode: 0o644}, unix.O_RDWR)
	must(v.t, err)
	return h
}

func (v *vault) open(name string, flags int) *Handle {
	v.t.Helper()
	in, err := v.find(name)
	must(v.t, err)
	h, err := v.Open(v.t.Context(), in.Ino, uint32(flags), false)
	must(v.t, err)
	return h
}

func (v *vault) write(h *Handle, p []byte, off int64) {
	v.t.Helper()
	n, err := h.WriteAt(v.t.Context(), p, off, false)
	if err != nil || n != len(p) {
		v.t.Fatalf("write %d bytes at %d: %d, %v", len(p), off, n, err)
	}
}

func (v *vault) close(h *Handle) {
	v.t.Helper()
	must(v.t, h.Flush(v.t.Context()))
	h.Release()
}

// put writes a whole file and closes it.
func (v *vault) put(name string, p []byte) {
	v.t.Helper()
	h := v.create(name)
	v.write(h, p, 0)
	v.close(h)
}

// overwrite opens a file with O_TRUNC, writes it and closes it.
func (v *vault) overwrite(name string, p []byte) {
	v.t.Helper()
	h := v.open(name, unix.O_RDWR|unix.O_TRUNC)
	v.write(h, p, 0)
	v.close(h)
}

func (v *vault) read(name string) []byte {
	v.t.Helper()
	h := v.open(name, unix.O_RDONLY)
	defer h.Release()
	a, err := v.GetAttr(h.Ino())
	must(v.t, err)
	p := make([]byte, a.Size+10)
	n, err := h.ReadAt(v.t.Context(), p, 0)
	must(v.t, err)
	if int64(n) != a.Size {
		v.t.Fatalf("%s has %d bytes, and %d were read", name, a.Size, n)
	}
	return p[:n]
}

func (v *vault) expect(name string, want []byte) {
	v.t.Helper()
	if got := v.read(name); !bytes.Equal(got, want) {
		v.t.Fatalf("%s: %d bytes, want %d, first difference at %d", name, len(got), len(want), difference(got, want))
	}
}

func difference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// wait waits for all copies.
func (v *vault) wait() {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), 20*time.Second)
	defer cancel()
	out, err := v.Wait(ctx, WaitRequest{Paths: []string{"/"}})
	if err != nil || out.Outcome != Reached {
		v.t.Fatalf("wait: %+v, %v", out, err)
	}
}

func (v *vault) safety(name string) Safety {
	v.t.Helper()
	in, err := v.find(name)
	must(v.t, err)
	s, err := v.Safety(v.t.Context(), in.Ino)
	must(v.t, err)
	return s
}

// eventually polls until f says true.
func (v *vault) eventually(what string, f func() bool) {
	v.t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(end) {
			v.t.Fatalf("%s: not within 15 s", what)
		}
	}
}

// records counts the records of a table of the shared space.
func (v *vault) records(space ledger.SpaceID, table byte) int {
	v.t.Helper()
	ps, err := v.db.Space(space).Scan([]byte{table}, []byte{table + 1}, ledger.MaxScan)
	must(v.t, err)
	return len(ps)
}

func (v *vault) crates() (n int64) {
	v.t.Helper()
	for _, node := range v.nodes {
		s, err := node.Store.Status(v.t.Context())
		must(v.t, err)
		n += s.Crates
	}
	return n
}

// sound runs a check that reads everything and must find no problem.
// blankCount is how many bodies there are ahead of use, each with a record.
func (v *vault) blankCount() int {
	v.blanks.mu.Lock()
	defer v.blanks.mu.Unlock()
	return len(v.blanks.ready) + len(v.blanks.given) + len(v.blanks.spent)
}

func (v *vault) sound() {
	v.t.Helper()
	_, err := v.Check(v.t.Context(), true, func(problem bool, text string) error {
		if problem {
			return errors.New(text)
		}
		return nil
	})
	must(v.t, err)
}

func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7+i>>9) ^ seed
	}
	return p
}
