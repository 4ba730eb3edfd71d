package fs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"stasis/fs/body"
	"stasis/router"
	"stasis/store/ledger"
)

// After a power cut a body is not believed over a node that has the crate: a disk may have
// lost of the one what it kept of the other.
func TestPowerCutDoubtsBodies(t *testing.T) {
	v := newVault(t, 2, 64*mib, 64*mib)
	small, large := pattern(9000, 5), pattern(3*mib+100, 6)
	v.nodes[1].away.Store(true)
	v.put("small", small)
	v.put("large", large)
	v.eventually("a copy of each on the first node", func() bool {
		return v.safety("small").Copies == 1 && v.safety("large").Copies == 1
	})
	spoil := func() {
		spoilt := 0
		must(t, each(v.local, tableLying, func(_, value []byte) error {
			r, err := decodeLying(value)
			must(t, err)
			f, err := os.OpenFile(v.bodies.Path(r.Body), os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("what was there before"), r.Length-50)
			must(t, errors.Join(err, f.Close()))
			spoilt++
			return nil
		}))
		if spoilt != 2 {
			t.Fatalf("%d crates lie in bodies", spoilt)
		}
	}
	spoil()
	v.cutPower()
	v.expect("small", small)
	v.expect("large", large)
	v.nodes[1].away.Store(false)
	v.wait()
	v.expect("small", small)
	v.expect("large", large)
	v.sound()
}

// What a write left in a body without being in its map, as it was cut off by a crash, does
// not come to light when the body is sealed: it reads as before it.
func TestCutOffWritesStayAway(t *testing.T) {
	for _, crash := range []string{"kill", "power cut"} {
		v := newVault(t, 1, 64*mib)
		want := pattern(22241, 5)
		v.put("f", want)
		v.wait()
		h := v.open("f", unix.O_RDWR)
		// The settled content ends before what is cut off, which so reads as zeros.
		size := int64(10000)
		_, err := v.SetAttr(t.Context(), h.Ino(), h, Change{Size: &size})
		must(t, err)
		v.write(h, want[20480:], 20480)
		clear(want[10000:20480])
		must(t, h.Fsync(t.Context()))
		path := v.files[h.Ino()].body.Path()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte("cut off "), body.Unit/8), 4*body.Unit)
		must(t, errors.Join(err, f.Close()))
		if crash == "kill" {
			v.restart()
		} else {
			v.cutPower()
		}
		v.expect("f", want)
		v.wait()
		v.expect("f", want)
		v.sound()
	}
}

// A file that was made and not written is empty after a kill and after a power cut, at the
// time it was made, and nothing is said to be lost. Bodies made ahead are not taken for
// content, and what they were made for does not get in the way of later content.
func TestUnwrittenFilesSurvive(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	v.eventually("bodies made ahead", func() bool { return v.blankCount() > 0 })
	closed, opened := v.create("closed"), v.create("opened")
	v.close(closed)
	times := make(map[string]int64)
	for name, h := range map[string]*Handle{"closed": closed, "opened": opened} {
		a, err := v.GetAttr(h.Ino())
		must(t, err)
		times[name] = a.Mtime
	}
	for _, crash := range []func(){v.restart, v.cutPower} {
		crash()
		for name, want := range times {
			v.expect(name, nil)
			in, err := v.find(name)
			must(t, err)
			if a, err := v.GetAttr(in.Ino); err != nil || a.Mtime != want {
				t.Errorf("%s: mtime %d, want %d (%v)", name, a.Mtime, want, err)
			}
		}
	}
	if aside, err := os.ReadDir(filepath.Join(v.dir, "bodies", "aside")); len(aside) > 0 {
		t.Errorf("%d bodies were set aside (%v)", len(aside), err)
	}
	p := pattern(9000, 3)
	for name := range times {
		h := v.open(name, unix.O_WRONLY)
		v.write(h, p, 0)
		v.close(h)
	}
	v.restart()
	v.wait()
	for name := range times {
		v.expect(name, p)
	}
	v.sound()
}

// An error that may pass, at the start after a power cut, gives up nothing that was synced: the
// vault does not start until it has passed, and then has all.
func TestPassingErrorAtTheStart(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	p := pattern(3*mib, 1)
	v.put("f", p)
	v.wait()
	h := v.open("f", unix.O_RDWR)
	v.write(h, []byte("changed"), 4096)
	copy(p[4096:], "changed")
	must(t, h.Fsync(t.Context()))
	body := h.f.body.Path()
	v.kill()
	db, err := ledger.Open(filepath.Join(v.dir, "ledger"), ledger.Options{Ballast: -1})
	must(t, err)
	_, err = db.Space(ledger.Local).Update(func(tx *ledger.Tx) error {
		tx.Put(bootKey, []byte("another boot"))
		return nil
	})
	must(t, errors.Join(err, db.Close()))
	live, aside := body+".live", body+".kept"
	must(t, os.Rename(live, aside))
	must(t, os.Mkdir(live, 0o700)) // the map can't be written
	if err := v.tryStart(); err == nil || !strings.Contains(err.Error(), "nothing is lost") || !strings.Contains(err.Error(), "/f") {
		t.Fatalf("a start that can't have the map of a body: %v", err)
	}
	must(t, os.Remove(live))
	must(t, os.Rename(aside, live))
	v.start()
	v.expect("f", p)
	v.wait()
	v.expect("f", p)
}

// tryStart starts the filesystem, which ends with an error.
func (v *vault) tryStart() error {
	v.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	db, err := ledger.Open(filepath.Join(v.dir, "ledger"), ledger.Options{Log: log, Ballast: -1})
	must(v.t, err)
	fsys, err := New(Options{Ledger: db, Bodies: filepath.Join(v.dir, "bodies"), Policy: func() router.Policy { return v.policy }, Log: log})
	must(v.t, err)
	rt, err := router.New(router.Options{Ledger: db, Bodies: fsys, Observer: fsys, Log: log})
	must(v.t, err)
	defer func() {
		must(v.t, errors.Join(fsys.bodies.Close(), rt.Close(context.Background()), db.Close()))
	}()
	return fsys.Start(v.t.Context(), rt)
}

// A backup that is restored within one boot speaks of bodies that are not as they were then: it is
// like a power cut. A start of an earlier release did not record which history it was of.
func TestRestoreIsLikeAPowerCut(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	v.put("f", pattern(5000, 1))
	v.wait()
	cut := func() bool {
		t.Helper()
		is, err := v.wasPowerCut()
		must(t, err)
		return is
	}
	backup := filepath.Join(t.TempDir(), "backup")
	must(t, v.db.Backup(backup))
	v.restart()
	if cut() {
		t.Error("a kill is taken for a power cut")
	}
	was, _, err := v.local.Get(bootKey)
	must(t, err)
	old := was[:bytes.LastIndexByte(was, ' ')]
	record := func(p []byte) {
		t.Helper()
		_, err := v.local.Update(func(tx *ledger.Tx) error { tx.Put(bootKey, p); return nil })
		must(t, err)
	}
	record(old)
	if cut() {
		t.Error("a start after one of an earlier release is taken for a power cut")
	}
	v.kill()
	_, err = ledger.Restore(filepath.Join(v.dir, "ledger"), backup)
	must(t, err)
	v.start()
	now, _, err := v.local.Get(bootKey)
	must(t, err)
	for _, p := range [][]byte{was, old} {
		record(p)
		if !cut() {
			t.Errorf("after a restore %q is taken for what there is now, %q", p, now)
		}
	}
	record(now)
	v.expect("f", pattern(5000, 1))
}

// A body that was made, and as long as its file, when a kill came before its record is nobody's
// loss; one with data that nothing names is kept for a person.
func TestBodyWithoutARecord(t *testing.T) {
	v := newVault(t, 1, 64*mib)
	made, err := v.bodies.Create(false)
	must(t, err)
	must(t, errors.Join(made.Truncate(5*mib), made.Release()))
	written, err := v.bodies.Create(true)
	must(t, err)
	must(t, errors.Join(written.Write(pattern(body.Unit, 1), 0), written.Release()))
	v.restart()
	aside, err := os.ReadDir(filepath.Join(v.dir, "bodies", "aside"))
	if err != nil || len(aside) != 1 || aside[0].Name() != written.ID.String() {
		t.Errorf("set aside are %v, %v", aside, err)
	}
}
