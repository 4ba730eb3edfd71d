package fs

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/fs/body"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
	"stasis/store/memory"
)

// A crash point is what a kill leaves after one update of the ledger, or one thing done to a body or
// to a node: ledger, bodies, and what the nodes hold, copied while nothing else could be updated. Every one of a script is started
// again, in a time of its own, and must come to rest with the content that programs were told of
// and with nothing left of what was under way.

// pointTime is how long a vault may take to come to rest after a kill, nodes that retry included.
const pointTime = 5 * time.Minute

// pointVault is a vault whose every update of the ledger is a crash point.
type pointVault struct {
	t      *testing.T
	dir    string
	keys   int // an update of the ledger; 0: as many as a vault has
	blanks int // kept ready
	acts   bool
	policy router.Policy
	disks  []*disk

	armed  atomic.Bool
	mu     sync.Mutex        // guards what follows; a gate takes it last
	files  map[string][]byte // what programs were told of
	doing  map[string][]byte // what an operation under way may have made of some; nil: nothing there
	points []*point

	db *ledger.DB
	rt *router.Router
	*FS
}

// disk is a node's: it outlives the vault.
type disk struct {
	*testNode
	id       store.NodeID
	capacity int64
}

// point is one crash point.
type point struct {
	number int
	dir    string
	files  map[string][]byte
	doing  map[string][]byte
	disks  []diskState
	policy router.Policy
}

type diskState struct {
	name     string
	id       store.NodeID
	capacity int64
	away     bool
	crates   map[store.CrateID][]byte
}

// actingNode tells of what was done to a node.
type actingNode struct {
	*disk
	acted func()
}

func (n actingNode) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	receipts, err := n.disk.Put(ctx, r)
	n.acted()
	return receipts, err
}

func (n actingNode) Discard(ctx context.Context, r store.DiscardRequest) error {
	err := n.disk.Discard(ctx, r)
	n.acted()
	return err
}

func newDisk(t *testing.T, s diskState) *disk {
	t.Helper()
	m, err := memory.New(s.capacity, memory.Options{Leaf: s.id})
	must(t, err)
	d := &disk{testNode: &testNode{Store: m, name: s.name}, id: s.id, capacity: s.capacity}
	d.away.Store(s.away)
	if len(s.crates) == 0 {
		return d
	}
	r := store.NewReservationID()
	ctx := context.Background()
	_, err = m.Reserve(ctx, store.ReserveRequest{ID: r, Bytes: s.capacity})
	must(t, err)
	for id, p := range s.crates {
		_, err := m.Put(ctx, store.PutRequest{Reservation: r, Crate: id, Size: int64(len(p)), Source: bytesSource(p)})
		must(t, err)
	}
	must(t, m.Release(ctx, r))
	return d
}

type bytesSource []byte

func (b bytesSource) OpenAt(_ context.Context, off int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b[off:])), nil
}

// crates reads all that lies on a disk.
func (d *disk) crates() map[store.CrateID][]byte {
	all := make(map[store.CrateID][]byte)
	ctx := context.Background()
	for cursor := []byte(nil); ; {
		page, err := d.Store.List(ctx, cursor)
		if err != nil {
			panic(err) // it is memory
		}
		for _, i := range page.Crates {
			rc, err := d.Store.Open(ctx, i.ID, 0, -1)
			if err != nil {
				continue // discarded just now
			}
			if all[i.ID], err = io.ReadAll(rc); err != nil {
				panic(err)
			}
			_ = rc.Close() // it was read
		}
		if cursor = page.Next; cursor == nil {
			return all
		}
	}
}

// bubbleClock follows the time of a synctest bubble.
type bubbleClock struct{ begin time.Time }

func (c bubbleClock) Now() time.Time      { return time.Now() }
func (c bubbleClock) Boot() time.Duration { return time.Hour + time.Since(c.begin) }

func (v *pointVault) start() {
	v.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	if testing.Verbose() {
		log.SetOutput(v.t.Output())
	}
	db, err := ledger.Open(filepath.Join(v.dir, "ledger"), ledger.Options{Log: log, Segment: ledger.SmallSegment, Overlay: ledger.SmallOverlay,
		Ballast: -1, KeepJournal: -1, UpdateKeys: v.keys, Gate: v.gate})
	must(v.t, err)
	fsys, err := New(Options{Ledger: db, Bodies: filepath.Join(v.dir, "bodies"), Policy: func() router.Policy { return v.policy }, Log: log})
	must(v.t, err)
	fsys.blanks.wanted = v.blanks
	fsys.bodies.Acted = v.acted
	rt, err := router.New(router.Options{Ledger: db, Bodies: fsys, Observer: fsys, Log: log, Clock: bubbleClock{time.Now()}})
	must(v.t, err)
	var specs []router.NodeSpec
	for _, d := range v.disks {
		specs = append(specs, router.NodeSpec{Name: d.name, Kind: "directory", Durable: true, Open: func(context.Context, store.NodeID) (store.Store, error) {
			if d.away.Load() {
				return nil, errAway
			}
			return actingNode{d, v.acted}, nil
		}})
	}
	must(v.t, rt.SetNodes(specs))
	must(v.t, fsys.Start(v.t.Context(), rt))
	must(v.t, rt.Start(v.t.Context()))
	v.db, v.rt, v.FS = db, rt, fsys
}

func (v *pointVault) end() {
	v.t.Helper()
	v.armed.Store(false)
	v.FS.cancel()
	v.FS.done.Wait()
	must(v.t, v.FS.bodies.Close())
	must(v.t, v.rt.Close(context.Background()))
	must(v.t, v.db.Close())
}

// acted takes a crash point for something that was done beside the ledger: to a body, or to a node.
func (v *pointVault) acted() {
	if v.acts && v.armed.Load() {
		v.db.Still()
	}
}

// gate takes a crash point.
func (v *pointVault) gate(ledger.Position) {
	if !v.armed.Load() {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	p := &point{number: len(v.points), files: maps.Clone(v.files), doing: maps.Clone(v.doing), policy: v.policy}
	p.dir = filepath.Join(v.dir, "points", fmt.Sprint(p.number))
	must(v.t, os.MkdirAll(p.dir, 0o700))
	// With the holes and times of files, which count.
	if out, err := exec.Command("cp", "-a", "--reflink=auto", filepath.Join(v.dir, "ledger"), filepath.Join(v.dir, "bodies"), p.dir).CombinedOutput(); err != nil {
		v.t.Errorf("copy what a kill leaves: %v: %s", err, out)
	}
	for _, d := range v.disks {
		p.disks = append(p.disks, diskState{d.name, d.id, d.capacity, d.away.Load(), d.crates()})
	}
	v.points = append(v.points, p)
}

// does runs an operation that makes content of files, nil for none: until it has returned they
// may have it or what they had.
func (v *pointVault) does(op func(), becomes map[string][]byte) {
	v.mu.Lock()
	v.doing = becomes
	v.mu.Unlock()
	op()
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, p := range becomes {
		if p == nil {
			delete(v.files, name)
		} else {
			v.files[name] = p
		}
	}
	v.doing = nil
}

// script is what is done to a vault.
type script struct {
	name   string
	keys   int
	copies int
	disks  int
	acts   bool // each thing done to a body or a node is a crash point too
	run    func(v *pointVault)
}

// TestCrashPoints kills a vault after every update of its ledger.
func TestCrashPoints(t *testing.T) {
	began, all := time.Now(), 0
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			var points []*point
			kept := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				v := &pointVault{t: t, dir: t.TempDir(), keys: s.keys, acts: s.acts, policy: router.Policy{Copies: s.copies, Least: 1}, files: make(map[string][]byte)}
				v.addDisks(s.disks)
				v.start()
				defer v.end()
				v.settled()
				v.armed.Store(true)
				s.run(v)
				v.settled()
				v.armed.Store(false)
				v.rested()
				points = v.points
				for _, p := range points { // which outlive this bubble's directory
					to := filepath.Join(kept, fmt.Sprint(p.number))
					must(t, os.Rename(p.dir, to))
					p.dir = to
				}
			})
			for _, p := range points {
				if !t.Run(fmt.Sprint(p.number), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { p.check(t, s) }) }) {
					t.Logf("of %d crash points", len(points))
					return
				}
			}
			t.Logf("%d crash points", len(points))
			all += len(points)
		})
	}
	t.Logf("%d crash points in %s", all, time.Since(began).Round(time.Second))
}

func (v *pointVault) addDisks(n int) {
	for i := range n {
		v.disks = append(v.disks, newDisk(v.t, diskState{name: string(rune('a' + i)), id: store.NewNodeID(), capacity: 256 * mib}))
	}
}

// check starts what a kill left.
func (p *point) check(t *testing.T, s script) {
	v := &pointVault{t: t, dir: p.dir, keys: s.keys, policy: p.policy}
	for _, d := range p.disks {
		v.disks = append(v.disks, newDisk(t, d))
	}
	time.Sleep(24 * time.Hour) // it is later than when it was killed
	v.start()
	defer v.end()
	if testing.Verbose() {
		t.Logf("at first: %s", strings.Join(v.left(), "\n"))
	}
	now := p.present(t, v)
	for _, d := range v.disks {
		d.away.Store(false) // whatever was away comes back
	}
	v.settled()
	if later := p.present(t, v); !maps.EqualFunc(now, later, bytes.Equal) {
		t.Errorf("content has changed without anybody's doing")
	}
	v.rested()
}

// present gives the files there are, which must be those that may be.
func (p *point) present(t *testing.T, v *pointVault) map[string][]byte {
	t.Helper()
	got := v.content()
	known := slices.Collect(maps.Keys(p.files))
	for name := range p.doing {
		known = append(known, name)
	}
	for _, name := range known {
		have, is := got[name]
		want, told := p.files[name]
		other, may := p.doing[name]
		switch {
		case is && told && bytes.Equal(have, want), !is && !told:
		case may && is && other != nil && bytes.Equal(have, other), may && !is && other == nil:
		case may && is && mixture(have, want, other): // being written
		default:
			t.Fatalf("%s has %d bytes (there: %v), want %d (there: %v)", name, len(have), is, len(want), told)
		}
	}
	for name := range got {
		if !slices.Contains(known, name) {
			t.Fatalf("%s should not be there", name)
		}
	}
	return got
}

// mixture reports whether each unit is as it was or as it is going to be, and the size between.
func mixture(have, before, after []byte) bool {
	if len(have) > max(len(before), len(after)) {
		return false
	}
	for at := 0; at < len(have); at += body.Unit {
		end := min(at+body.Unit, len(have))
		like := func(p []byte) bool {
			unit := make([]byte, end-at)
			if at < len(p) {
				copy(unit, p[at:min(end, len(p))])
			}
			return bytes.Equal(have[at:end], unit)
		}
		if !like(before) && !like(after) && !like(nil) {
			return false
		}
	}
	return true
}

// content reads every file of the root.
func (v *pointVault) content() map[string][]byte {
	v.t.Helper()
	all := make(map[string][]byte)
	err := v.walk(v.t.Context(), names.Root, "", func(at *place, in names.Inode) error {
		if !in.IsRegular() {
			return nil
		}
		h, err := v.Open(v.t.Context(), in.Ino, unix.O_RDONLY, false)
		if err != nil {
			return err
		}
		defer h.Release()
		a, err := v.GetAttr(in.Ino)
		if err != nil {
			return err
		}
		p := make([]byte, a.Size)
		if n, err := h.ReadAt(v.t.Context(), p, 0); err != nil || int64(n) != a.Size {
			return fmt.Errorf("read %s: %d of %d bytes, %w", at, n, a.Size, err)
		}
		all[strings.TrimPrefix(at.String(), "/")] = p
		return nil
	})
	must(v.t, err)
	return all
}

// settled waits until nothing is left to be done.
func (v *pointVault) settled() {
	v.t.Helper()
	for end := time.Now().Add(pointTime); ; time.Sleep(time.Second) {
		left := v.left()
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			v.t.Fatalf("after %s there is left, of %d: %s", pointTime, len(left), strings.Join(left[:min(4, len(left))], "; "))
		}
	}
}

// left is what is recorded as under way.
func (v *pointVault) left() (all []string) {
	v.t.Helper()
	for _, table := range []struct {
		space *ledger.Space
		key   byte
		what  string
	}{{v.local, tableBody, "bodies"}, {v.local, tableLying, "crates in bodies"}, {v.local, tableLiers, "counts of crates in bodies"},
		{v.local, tableDropped, "bodies to be dropped"}, {v.local, tableAttention, "inodes not durable"}, {v.local, tableReview, "reviews"},
		{v.shared, tableTeardown, "lists to be torn down"}, {v.local, 'q', "copies to be sent"}, {v.shared, 'D', "discards"}, {v.shared, 'K', "checksums of dead crates"}} {
		pairs, err := table.space.Scan([]byte{table.key}, []byte{table.key + 1}, 0)
		must(v.t, err)
		for _, p := range pairs {
			if table.key == tableBody {
				if ino, err := inoOf(p.Key[1:]); err == nil {
					if _, err := v.tree.Get(ino); gone(err) {
						continue // it is kept ready for an inode yet to be made
					}
				}
			}
			all = append(all, fmt.Sprintf("%s %s=%.120s", table.what, hex.EncodeToString(p.Key[1:]), hex.EncodeToString(p.Value)))
		}
	}
	orphans, err := v.tree.Orphans()
	must(v.t, err)
	for _, ino := range orphans {
		all = append(all, fmt.Sprintf("inode %d, which has no name", ino))
	}
	return all
}

// rested compares what there is with what the names call for.
func (v *pointVault) rested() {
	t := v.t
	t.Helper()
	live := make(map[store.CrateID]int)
	err := v.walk(t.Context(), names.Root, "", func(at *place, in names.Inode) error {
		if !in.IsRegular() {
			return nil
		}
		s, err := v.Safety(t.Context(), in.Ino)
		if err != nil {
			return err
		}
		if s.State != Durable || s.Copies < v.policy.Copies {
			t.Errorf("%s is %+v", at, s)
		}
		return v.eachCrate(in.List, func(c store.CrateID) error { live[c]++; return nil })
	})
	must(t, err)
	each(v.shared, 'm', func(k, _ []byte) error {
		if live[store.CrateID(k)] == 0 {
			t.Errorf("there is a manifest of crate %x, which no file has", k)
		}
		return nil
	})
	each(v.shared, tableRefs, func(k, _ []byte) error {
		if live[store.CrateID(k)] == 0 {
			t.Errorf("there are references to crate %x, which no file has", k)
		}
		return nil
	})
	for _, d := range v.disks {
		n := 0
		for id := range d.crates() {
			if n++; live[id] == 0 {
				t.Errorf("node %q has crate %s, which no file has", d.name, id)
			}
		}
	}
	ids, err := v.bodies.List()
	must(t, err)
	for _, id := range ids {
		if st, err := os.Stat(v.bodies.Path(id)); err == nil && st.Size() > 0 {
			t.Errorf("body %s is left, with %d bytes", id, st.Size())
		}
	}
	if aside, err := os.ReadDir(filepath.Join(v.dir, "bodies", "aside")); err == nil && len(aside) > 0 {
		t.Errorf("%d bodies were set aside", len(aside))
	}
}
