package fs

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stasis/fs/body"
	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
	"stasis/store/ledger"
)

const mib = 1 << 20

// What was closed gets its copies, is read from them when the bodies are gone, and
// says so.
func TestClosedContentGetsItsCopies(t *testing.T) {
	v := newVault(t, 2, 64*mib, 64*mib)
	small, large := pattern(5000, 1), pattern(5*mib+77, 2)
	v.put("small", small)
	v.put("large", large)
	v.put("empty", nil)
	v.expect("small", small)
	v.wait()
	for _, name := range []string{"small", "large", "empty"} {
		s := v.safety(name)
		if s.Copies != 2 || s.Wanted != 2 || s.State != Durable {
			t.Errorf("%s is %+v", name, s)
		}
	}
	if s := v.safety("large"); len(s.Nodes) != 2 || s.Nodes[0] != "a" || s.Nodes[1] != "b" {
		t.Errorf("large lies on %v", s.Nodes)
	}
	v.stop()
	must(t, os.RemoveAll(filepath.Join(v.dir, "bodies")))
	v.start()
	for i := range v.nodes {
		v.nodes[i].away.Store(true)
		v.expect("small", small)
		v.expect("large", large)
		v.nodes[i].away.Store(false)
	}
	v.sound()
}

// A write that returned is there after a kill, whether or not the file was closed.
func TestKillLosesNothing(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	closed, opened := pattern(3*mib, 3), pattern(70000, 4)
	v.put("closed", closed)
	v.wait()
	h := v.create("opened")
	v.write(h, opened, 0)
	w := v.open("closed", unix.O_RDWR)
	v.write(w, []byte("changed"), mib+5)
	copy(closed[mib+5:], "changed")
	must(t, v.Rename(names.Root, "opened", names.Root, "renamed", 0))
	v.restart()
	v.expect("renamed", opened)
	v.expect("closed", closed)
	v.wait()
	v.expect("renamed", opened)
	v.expect("closed", closed)
	v.sound()
}

// A kill while a file is being cut leaves it cut, not with zeros for what was to go.
func TestKillWhileCutting(t *testing.T) {
	for _, size := range []int64{mib + 10, 0} {
		v := newVault(t, 1, 64*mib)
		want := pattern(3*mib, 7)
		v.put("f", want)
		v.wait()
		h := v.open("f", unix.O_RDWR)
		v.write(h, []byte("changed"), 5)
		copy(want[5:], "changed")
		h.f.mu.Lock()
		err := v.shrink(t.Context(), h.f, size)
		h.f.mu.Unlock()
		must(t, err)
		v.restart()
		v.expect("f", want[:size])
		// That is over then: what grows is not cut again.
		h = v.open("f", unix.O_RDWR)
		must(t, v.truncate(t.Context(), h.f, 2*mib, false))
		v.restart()
		v.expect("f", append(want[:size:size], make([]byte, 2*mib-size)...))
		v.wait()
		v.sound()
	}
}

// After a power cut a file that was not synced has its content before that, and one
// that was has what was synced.
func TestPowerCutFallsBackToSettledContent(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	old, fresh := pattern(9000, 5), pattern(12000, 6)
	for _, name := range []string{"synced", "unsynced"} {
		v.put(name, old)
	}
	v.wait()
	hs := v.open("synced", unix.O_RDWR|unix.O_TRUNC)
	v.write(hs, fresh, 0)
	must(t, hs.Fsync(t.Context()))
	hu := v.open("unsynced", unix.O_RDWR|unix.O_TRUNC)
	v.write(hu, fresh, 0)
	hn := v.create("new")
	v.write(hn, fresh, 0)
	v.cutPower()
	v.expect("synced", fresh)
	v.expect("unsynced", old)
	v.expect("new", nil)
	aside, err := os.ReadDir(filepath.Join(v.dir, "bodies", "aside"))
	if err != nil || len(aside) != 2 {
		t.Errorf("%d bodies were set aside, %v", len(aside), err)
	}
	v.wait()
	v.sound()
}

// An editor's save: a new file is renamed over the old one. After a power cut before
// the new content was synced the old is there, under the name.
func TestRenameOverKeepsTheReplacedContent(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	old, fresh := pattern(9000, 7), pattern(100, 8)
	v.put("doc", old)
	v.wait()
	v.forget("doc")
	h := v.create("doc.tmp")
	v.write(h, fresh, 0)
	must(t, v.Rename(names.Root, "doc.tmp", names.Root, "doc", 0))
	v.expect("doc", fresh)
	v.cutPower()
	v.expect("doc", old)

	h = v.create("doc.tmp2")
	v.write(h, fresh, 0)
	v.close(h)
	must(t, v.Rename(names.Root, "doc.tmp2", names.Root, "doc", 0))
	v.wait()
	v.expect("doc", fresh)
	v.sound()
	v.eventually("the replaced content goes", func() bool { return v.crates() == 1 })
}

// A small change of a large file makes small crates, and no more than that.
func TestSmallChangeMakesSmallCrates(t *testing.T) {
	v := newVault(t, 2, 256*mib, 256*mib)
	p := pattern(20*mib, 9)
	v.put("big", p)
	v.wait()
	used := func() (n int64) {
		for _, node := range v.nodes {
			s, err := node.Store.Status(t.Context())
			must(t, err)
			n += s.Used
		}
		return n
	}
	before := used()
	h := v.open("big", unix.O_RDWR)
	v.write(h, bytes.Repeat([]byte{1}, 4096), 7*mib+4096)
	copy(p[7*mib+4096:], bytes.Repeat([]byte{1}, 4096))
	v.close(h)
	v.wait()
	if grown := used() - before; grown <= 0 || grown > 2*3*mib {
		t.Errorf("4 KiB changed made the nodes grow by %d bytes", grown)
	}
	v.stop()
	must(t, os.RemoveAll(filepath.Join(v.dir, "bodies")))
	v.start()
	v.expect("big", p)
	v.sound()
}

// Deleting gives everything back: crates on nodes, bodies, records.
func TestDeletedFilesLeaveNothing(t *testing.T) {
	v := newVault(t, 2, 512*mib, 512*mib)
	v.put("kept", pattern(100, 1))
	v.wait()
	type tables struct{ e, r, m, b, w, u int }
	count := func() tables {
		return tables{v.records(ledger.Shared, 'e'), v.records(ledger.Shared, 'r'), v.records(ledger.Shared, 'm'),
			v.records(ledger.Local, 'b'), v.records(ledger.Local, 'w') - v.blankCount(), v.records(ledger.Local, 'u')}
	}
	before, crates := count(), v.crates()
	for i := range 40 {
		v.put("f"+string(rune('A'+i)), pattern(i*100000, byte(i)))
	}
	v.wait()
	v.overwrite("fZ", pattern(2*mib, 3))
	open := v.open("fY", unix.O_RDWR)
	v.write(open, []byte("still there"), 0)
	for i := range 40 {
		must(t, v.Unlink(names.Root, "f"+string(rune('A'+i))))
	}
	got := make([]byte, 11)
	if n, err := open.ReadAt(t.Context(), got, 0); err != nil || string(got[:n]) != "still there" {
		t.Errorf("an open file without a name reads %q, %v", got, err)
	}
	v.close(open)
	// The kernel forgets what it was told of.
	v.FS.mu.Lock()
	refs := maps.Collect(v.refs.All())
	v.FS.mu.Unlock()
	for ino, n := range refs {
		v.Forget(ino, n)
	}
	v.eventually("crates and records go", func() bool { return v.crates() == crates && count() == before })
	v.eventually("bodies go", func() bool {
		ids, err := v.bodies.List()
		must(t, err)
		for _, id := range ids {
			// Empty files may be kept for new bodies.
			if st, err := os.Stat(v.bodies.Path(id)); err == nil && st.Size() > 0 {
				return false
			}
		}
		return true
	})
	v.sound()
}

// No place has room: close says so, the content stays readable, and it is placed
// unasked when there is room.
func TestRefusedContentIsKeptAndPlacedLater(t *testing.T) {
	v := newVault(t, 1, 4*mib)
	p := pattern(6*mib, 1)
	free := func() int64 { return v.rt.Status(t.Context())[0].Free }
	before := free()
	h := v.create("big")
	v.write(h, p, 0)
	if err := h.Flush(t.Context()); !errors.Is(err, store.NoSpace) {
		t.Fatalf("close said %v", err)
	}
	h.Release()
	if s := v.safety("big"); s.State != Unplaced || s.Reason == "" || s.Copies != 0 {
		t.Errorf("it is %+v", s)
	}
	if free() != before {
		t.Errorf("free was %d and is %d", before, free())
	}
	v.expect("big", p)
	v.restart()
	v.expect("big", p)
	if s := v.safety("big"); s.State != Unplaced {
		t.Errorf("after a kill it is %+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if out, err := v.Wait(ctx, WaitRequest{Paths: []string{"/big"}}); err != nil || out.Outcome != Impossible || out.Detail == "" {
		t.Errorf("wait says %+v, %v", out, err)
	}
	v.addNode("b", 64*mib)
	must(t, v.rt.SetNodes(v.specs()))
	v.eventually("it is placed", func() bool { return v.safety("big").State == Durable })
	v.expect("big", p)
	v.sound()
}

// With one place too few the close succeeds, the file is short, and gets its copy when
// a place comes.
func TestShortFileGetsItsCopyLater(t *testing.T) {
	v := newVault(t, 2, 64*mib)
	v.put("f", pattern(10000, 1))
	v.eventually("it is short", func() bool { s := v.safety("f"); return s.State == Short && s.Copies == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if out, err := v.Wait(ctx, WaitRequest{Paths: []string{"/"}}); err != nil || out.Outcome != Impossible {
		t.Errorf("wait says %+v, %v", out, err)
	}
	v.addNode("b", 64*mib)
	must(t, v.rt.SetNodes(v.specs()))
	v.eventually("it has its copies", func() bool { s := v.safety("f"); return s.State == Durable && s.Copies == 2 })
	v.sound()
}

// A node that is away is waited for: close succeeds, the file is pending, and the copy
// is sent when the node is back.
func TestAwayNodeCatchesUp(t *testing.T) {
	v := newVault(t, 2, 64*mib, 64*mib)
	v.put("before", pattern(10000, 1))
	v.wait()
	v.nodes[1].away.Store(true)
	p := pattern(3*mib, 2)
	v.put("after", p)
	v.eventually("one copy is there", func() bool { return v.safety("after").Copies == 1 })
	if s := v.safety("after"); s.State != Pending {
		t.Errorf("it is %+v", s)
	}
	v.expect("after", p)
	v.nodes[1].away.Store(false)
	v.rt.Kick()
	v.eventually("the other comes", func() bool { return v.safety("after").State == Durable })
	v.sound()
}

// More copies that a directory's policy wants are made of what is there already.
func TestPolicyOfADirectory(t *testing.T) {
	v := newVault(t, 1, 64*mib, 64*mib)
	d, err := v.Make(names.Root, "dir", names.Spec{Mode: syscall.S_IFDIR | 0o755})
	must(t, err)
	_, h, err := v.Create(d.Ino, "f", names.Spec{Mode: 0o644}, unix.O_RDWR)
	must(t, err)
	v.write(h, pattern(9999, 1), 0)
	v.close(h)
	v.put("outside", pattern(9999, 2))
	v.wait()
	p, err := v.SetPolicy(t.Context(), "/dir", 2, 0)
	if err != nil || p.Copies != 2 {
		t.Fatalf("the policy is %+v, %v", p, err)
	}
	v.wait()
	v.eventually("the second copy is made", func() bool { return v.safety("dir/f").Copies == 2 })
	if s := v.safety("outside"); s.Copies != 1 || s.Wanted != 1 {
		t.Errorf("a file outside is %+v", s)
	}
	if p, from, err := v.PolicyAt("/dir/f"); err != nil || p.Copies != 2 || from != "/dir" {
		t.Errorf("at the file %+v from %q, %v", p, from, err)
	}
	v.restart()
	if s := v.safety("dir/f"); s.Wanted != 2 {
		t.Errorf("after a restart it is %+v", s)
	}
}

// What moves to where more copies are wanted gets them, settled or not.
func TestMovedIntoAnotherPolicy(t *testing.T) {
	v := newVault(t, 2, 64*mib, 64*mib)
	d, err := v.Make(names.Root, "scratch", names.Spec{Mode: syscall.S_IFDIR | 0o755})
	must(t, err)
	_, err = v.SetPolicy(t.Context(), "/scratch", 1, 0)
	must(t, err)
	for _, name := range []string{"settled", "fresh"} {
		_, h, err := v.Create(d.Ino, name, names.Spec{Mode: 0o644}, unix.O_RDWR)
		must(t, err)
		v.write(h, pattern(9999, 1), 0)
		v.close(h)
		if name == "settled" {
			v.wait()
		}
		must(t, v.Rename(d.Ino, name, names.Root, name, 0))
		v.eventually("the second copy of what was "+name, func() bool { return v.safety(name).State == Durable && v.safety(name).Copies == 2 })
	}
}

// A file that stays open is sealed by a wait, and goes on being written.
func TestWaitSealsOpenFiles(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	h := v.create("log")
	p := pattern(2*mib, 1)
	v.write(h, p, 0)
	v.wait()
	if s := v.safety("log"); s.Copies != 1 || s.State != Open {
		t.Errorf("it is %+v", s)
	}
	v.write(h, []byte("more"), 100)
	copy(p[100:], "more")
	v.expect("log", p)
	v.close(h)
	v.wait()
	v.expect("log", p)
	v.sound()
}

// Time that runs out is an outcome at whatever step it does, the last sync included.
func TestWaitRunsOutOfTime(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	v.put("f", pattern(5000, 1))
	v.wait()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, paths := range [][]string{{"/"}, nil} {
		out, err := v.Wait(ctx, WaitRequest{Paths: paths})
		if err != nil || out.Outcome != TimedOut || out.Detail == "" {
			t.Errorf("a wait for %q without time: %+v, %v", paths, out, err)
		}
	}
}

// Files without a name are not counted against the nodes, and a tmpfile that gets a
// name is kept.
func TestTmpfileAndLink(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	a, h, err := v.Tmpfile(names.Root, names.Spec{Mode: 0o600}, unix.O_RDWR)
	must(t, err)
	p := pattern(5000, 1)
	v.write(h, p, 0)
	_, err = v.Link(a.Ino, names.Root, "named")
	must(t, err)
	v.close(h)
	v.wait()
	v.expect("named", p)
	_, err = v.Link(a.Ino, names.Root, "second")
	must(t, err)
	must(t, v.Unlink(names.Root, "named"))
	v.expect("second", p)
	v.sound()
}

// Content for which no place has room whole is cut, and its parts go where there is
// room.
func TestContentTooLargeForOnePlaceIsCut(t *testing.T) {
	v := newVault(t, 1, 3*partSize/2, 3*partSize/2, 3*partSize/2)
	h := v.create("big")
	// Holes between a few written blocks keep the test small; the parts are as they would be.
	const parts = 3
	p := pattern(mib, 3)
	for i := range int64(parts) {
		v.write(h, p, i*partSize+5*mib)
	}
	f := h.f
	f.mu.RLock()
	c, err := v.cost(f)
	f.mu.RUnlock()
	must(t, err)
	c.spans = []body.Span{{Offset: 0, Length: parts * partSize}}
	to, err := v.draw(t.Context(), v.policy, c, places{})
	must(t, err)
	nodes := make(map[store.NodeID]int)
	pieces := 0
	for _, r := range to.Runs {
		pieces += r.Pieces
		for _, target := range r.Plan.Targets {
			nodes[target.Node] += r.Pieces
		}
	}
	if pieces != parts || len(nodes) != parts || to.Part != partSize {
		t.Fatalf("%d pieces of %d bytes on %v", pieces, to.Part, nodes)
	}
	v.returnPlaces(to)
	c.spans[0].Length = 6 * partSize
	if _, err := v.draw(t.Context(), v.policy, c, places{}); !isSpace(err) {
		t.Fatalf("more than there is gives %v", err)
	}
	v.close(h)
	v.wait()
	v.sound()
}

// The pieces of a file whose parts go to several places are sent to those, and read
// from there.
func TestRunsOfPiecesGoToTheirPlaces(t *testing.T) {
	v := newVault(t, 1, 64*mib, 64*mib)
	p := pattern(6*mib, 3)
	h := v.create("f")
	v.write(h, p, 0)
	must(t, h.Flush(t.Context()))
	f := h.f
	f.mu.Lock()
	v.returnPlaces(f.record.Places)
	to := places{Part: 2 * mib}
	for i := range v.nodes {
		plan, err := v.rt.Draw(t.Context(), router.DrawRequest{Policy: v.policy, Bytes: 5 * mib})
		must(t, err)
		want := v.rt.Status(t.Context())[i].ID
		plan.Targets[0].Node = want
		to.Runs = append(to.Runs, run{i + 1, plan})
	}
	f.record.Places = to
	f.mu.Unlock()
	h.Release()
	v.wait()
	for i, n := range v.nodes {
		s, err := n.Store.Status(t.Context())
		must(t, err)
		if s.Crates != int64(i+1) {
			t.Errorf("node %s has %d crates", n.name, s.Crates)
		}
	}
	v.stop()
	must(t, os.RemoveAll(filepath.Join(v.dir, "bodies")))
	v.start()
	v.expect("f", p)
	v.sound()
}

// What is written to a file that stays open is copied when it gets old, once.
func TestOpenFilesAreCopiedInTime(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	h := v.create("log")
	p := pattern(3*mib, 1)
	v.write(h, p, 0)
	v.snapshot(t.Context(), time.Now().Add(-time.Hour))
	if s := v.safety("log"); s.Copies != 0 {
		t.Errorf("copied too early: %+v", s)
	}
	v.snapshot(t.Context(), time.Now())
	v.eventually("what is written has its copy", func() bool { return v.safety("log").Copies == 1 })
	crates := v.crates()
	v.snapshot(t.Context(), time.Now())
	if v.crates() != crates {
		t.Error("it was copied again without having changed")
	}
	v.write(h, []byte("more"), mib+1)
	copy(p[mib+1:], "more")
	v.snapshot(t.Context(), time.Now())
	v.eventually("the change is copied", func() bool { return v.safety("log").Copies == 1 && v.crates() > crates })
	v.expect("log", p)
	v.close(h)
	v.sound()
}
