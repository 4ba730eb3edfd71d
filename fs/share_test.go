package fs

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stasis/store"
	"stasis/store/ledger"
)

// copyAll copies what one file has from an offset on into another, as a program does.
func (v *vault) copyAll(to, from *Handle, off, fromOff, n int64) {
	v.t.Helper()
	for n > 0 {
		k, err := to.CopyRange(v.t.Context(), off, from, fromOff, n, false)
		if err == syscall.EXDEV {
			k, err = to.copyBytes(v.t.Context(), off, from, fromOff, min(n, store.BlockSize), false)
		}
		must(v.t, err)
		if k == 0 {
			return
		}
		off, fromOff, n = off+k, fromOff+k, n-k
	}
}

func TestCopyRangeShares(t *testing.T) {
	v := newVault(t, 2, 1<<30, 1<<30)
	content := pattern(3*store.BlockSize+777, 1)
	v.put("a", content)
	v.wait()
	crates := v.crates()
	from := v.open("a", unix.O_RDONLY)
	for _, name := range []string{"b", "c"} {
		to := v.create(name)
		v.copyAll(to, from, 0, 0, 1<<40)
		v.expect(name, content) // while it is open
		v.close(to)
	}
	from.Release()
	v.wait()
	if now := v.crates(); now != crates {
		t.Errorf("%d crates, and %d after two copies", crates, now)
	}
	for _, name := range []string{"a", "b", "c"} {
		if s := v.safety(name); s.State != Durable || s.Copies != 2 {
			t.Errorf("%s is %+v", name, s)
		}
	}
	v.sound()

	// A change of one copy, of the first one even, is no change of the others.
	h := v.open("a", unix.O_RDWR)
	v.write(h, []byte("changed"), store.BlockSize+5)
	v.close(h)
	h = v.open("b", unix.O_RDWR)
	_, err := v.SetAttr(t.Context(), h.Ino(), h, Change{Size: new(int64)})
	must(t, err)
	v.close(h)
	v.wait()
	v.expect("b", nil)
	v.expect("c", content)
	changed := slices.Clone(content)
	copy(changed[store.BlockSize+5:], "changed")
	v.expect("a", changed)
	v.restart()
	v.expect("c", content)
	in, err := v.find("a")
	must(t, err)
	must(t, v.Unlink(in.Parent, "a"))
	v.wait()
	v.expect("c", content)
	v.sound()
	in, err = v.find("c")
	must(t, err)
	must(t, v.Unlink(in.Parent, "c"))
	v.eventually("nothing is left", func() bool {
		return v.crates() == 0 && v.records(ledger.Shared, tableShare) == 0 && v.records(ledger.Shared, tableRefs) == 0
	})
}

// A file that shares what is on its way, or loses a copy later, says so like the first.
func TestSharersAreTold(t *testing.T) {
	v := newVault(t, 2, 1<<30, 1<<30)
	content := pattern(2*store.BlockSize, 3)
	v.nodes[1].away.Store(true)
	v.put("a", content)
	v.eventually("sealed", func() bool { return v.sealer.idle() })
	from, to := v.open("a", unix.O_RDONLY), v.create("b")
	v.copyAll(to, from, 0, 0, 1<<40)
	from.Release()
	v.close(to)
	if s := v.safety("b"); s.State == Durable || s.Copies > 1 {
		t.Errorf("with a node away it is %+v", s)
	}
	if n := v.records(ledger.Shared, tableShare); n == 0 {
		t.Fatal("nothing was shared")
	}
	v.restart()
	if s := v.safety("b"); s.State == Durable {
		t.Errorf("after a restart it is %+v", s)
	}
	v.nodes[1].away.Store(false)
	v.wait()
	for _, name := range []string{"a", "b"} {
		if s := v.safety(name); s.State != Durable || s.Copies != 2 {
			t.Errorf("%s is %+v", name, s)
		}
	}
	// Both lose a copy of what they share.
	in, err := v.find("b")
	must(t, err)
	es, err := v.extents(in.List, 0, 1)
	must(t, err)
	m, err := v.rt.Manifest(es[0].Crate)
	must(t, err)
	inos, err := v.users(m)
	if err != nil || len(inos) != 2 || inos[1] != in.Ino {
		t.Fatalf("the crate is used by %v, %v", inos, err)
	}
	v.policy.Copies = 3
	must(t, v.PolicyChanged())
	v.eventually("both are short of a third copy", func() bool {
		return v.safety("a").State == Short && v.safety("b").State == Short
	})
	v.addNode("c", 1<<30)
	must(t, v.rt.SetNodes(v.specs()))
	v.wait()
	for _, name := range []string{"a", "b"} {
		if s := v.safety(name); s.State != Durable || s.Copies != 3 {
			t.Errorf("%s is %+v", name, s)
		}
	}
}

// Ranges copied about within files and between them, and a kill now and then, come to the
// same as in memory; whole blocks are shared.
func TestCopyRangeRandomly(t *testing.T) {
	v := newVault(t, 1, 4<<30)
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("STASIS_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("STASIS_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const block = store.BlockSize
	model := map[string][]byte{}
	name := func() string { return strconv.Itoa(r.IntN(3)) }
	for i := range 3 {
		model[strconv.Itoa(i)] = nil
		v.put(strconv.Itoa(i), nil)
	}
	offset := func() int64 {
		return int64(r.IntN(4))*block + []int64{0, 0, 0, 1, 4096, block - 1}[r.IntN(6)]
	}
	shared := 0
	for step := range 100 {
		a, b := name(), name()
		switch r.IntN(8) {
		case 0, 1, 2:
			p := pattern(1+r.IntN(2*block), byte(step))
			at := offset()
			h := v.open(a, unix.O_RDWR)
			t.Logf("%d: write %d at %d of %s", step, len(p), at, a)
			v.write(h, p, at)
			v.close(h)
			model[a] = patched(model[a], at, p)
		case 3:
			size := offset()
			t.Logf("%d: truncate %s to %d", step, a, size)
			in, err := v.find(a)
			must(t, err)
			_, err = v.SetAttr(t.Context(), in.Ino, nil, Change{Size: &size})
			must(t, err)
			model[a] = append(model[a], make([]byte, max(0, size-int64(len(model[a]))))...)[:size]
		case 4:
			if r.IntN(3) == 0 {
				t.Logf("%d: kill", step)
				v.restart()
			}
		default:
			at, from, n := offset(), offset(), 1+int64(r.IntN(3*block))
			if r.IntN(3) > 0 {
				from = at%block + from/block*block // they can be shared
			}
			if a == b && at < from+n && from < at+n {
				continue // the kernel refuses it
			}
			t.Logf("%d: copy %d from %d of %s to %d of %s", step, n, from, b, at, a)
			before := v.records(ledger.Shared, tableShare)
			n = min(n, max(0, int64(len(model[b]))-from)) // or it would go on in what it has copied
			to, src := v.open(a, unix.O_RDWR), v.open(b, unix.O_RDONLY)
			v.copyAll(to, src, at, from, n)
			src.Release()
			v.close(to)
			if v.records(ledger.Shared, tableShare) > before {
				shared++
			}
			if from < int64(len(model[b])) {
				model[a] = patched(model[a], at, slices.Clone(model[b][from:min(from+n, int64(len(model[b])))]))
			}
		}
		v.expect(a, model[a])
		v.expect(b, model[b])
	}
	if shared == 0 {
		t.Error("nothing was ever shared")
	}
	v.wait()
	v.restart()
	for name, want := range model {
		v.expect(name, want)
	}
	v.sound()
}

// patched is a content with p at an offset.
func patched(content []byte, at int64, p []byte) []byte {
	content = append(content, make([]byte, max(0, at+int64(len(p))-int64(len(content))))...)
	copy(content[at:], p)
	return content
}

// Nothing of a copy is lost or made up by a kill between its updates.
func TestCopyRangeOverABlank(t *testing.T) {
	v := newVault(t, 1, 1<<30)
	content := pattern(store.BlockSize, 9)
	v.put("a", content)
	v.wait()
	v.eventually("there are bodies made ahead", func() bool { return v.blankCount() > 0 })
	from, to := v.open("a", unix.O_RDONLY), v.create("b")
	v.copyAll(to, from, 0, 0, 1<<40)
	from.Release()
	to.Release()
	v.restart()
	v.expect("b", content)
	v.cutPower()
	v.expect("b", content)
	v.sound()
}
