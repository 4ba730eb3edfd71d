package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"stasis/integration/harness"
	"stasis/store"
)

// ask makes a reservation as r says.
func (o *owner) ask(r store.ReserveRequest) (store.ReservationID, []store.Share, error) {
	ctx, cancel := bounded()
	defer cancel()
	r.ID, r.Holder = store.NewReservationID(), o.id.Owner()
	shares, err := o.Reserve(ctx, r)
	return r.ID, shares, err
}

// broken is a source whose reader hears, after some bytes, that the call is over.
type broken struct {
	content
	at   int64
	over func()
}

// OpenAt is store.Source's.
func (b broken) OpenAt(ctx context.Context, offset int64) (io.ReadCloser, error) {
	offset = min(offset, b.at)
	return io.NopCloser(io.MultiReader(bytes.NewReader(b.content[offset:b.at]), hungUp{ctx, b.over})), nil
}

type hungUp struct {
	ctx  context.Context
	over func()
}

func (h hungUp) Read([]byte) (int, error) {
	time.AfterFunc(300*time.Millisecond, h.over) // what was read before is to arrive
	<-h.ctx.Done()
	return 0, h.ctx.Err()
}

// breakOff sends a crate up to some byte, and hangs up.
func (o *owner) breakOff(r store.ReservationID, number uint64, size, at int) error {
	ctx, cancel := bounded()
	defer cancel()
	rq := putRequest(r, store.NewCrateID(), number, size)
	rq.Source = broken{rq.Source.(content), int64(at), cancel}
	_, err := o.Put(ctx, rq)
	return err
}

// lies is how many bytes lie below a directory.
func lies(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Broken-off uploads of one owner don't fill the disk on which they lie, where the peer's
// nodes are elsewhere: others' uploads go on.
func TestPeerReservesWhatIsOnItsWay(t *testing.T) {
	disk := harness.NewDisk(t, "ext4", 160<<20)
	far := harness.Dir(t)
	p := harness.NewPeerAt(t, filepath.Join(disk.Point, "state"))
	p.Settings("[[node]]\nname = \"a\"\nkind = \"container\"\npath = %q\ncapacity = \"1GiB\"\n\n[[node]]\nname = \"b\"\nkind = \"container\"\npath = %q\ncapacity = \"1GiB\"\n",
		filepath.Join(far, "a"), filepath.Join(far, "b"))
	p.Start()
	hostile, honest := newOwner(t, p, "grpc"), newOwner(t, p, "http")
	was := disk.Free()
	r, _, err := hostile.ask(store.ReserveRequest{Bytes: 600 << 20, Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := range uint64(24) {
		err := hostile.breakOff(r, n, 12<<20, 11<<20+5)
		if errors.Is(err, store.NoSpace) {
			refused++
		}
	}
	left := disk.Free()
	mine, _, err := honest.ask(store.ReserveRequest{Bytes: 30 << 20, Lease: time.Hour})
	if err == nil {
		err = honest.put(mine, store.NewCrateID(), 99, 20<<20)
	}
	t.Logf("of %.1f MiB free on the disk of the uploads %.1f are left, %d of 24 uploads were refused; the other owner gets %v", mib(was), mib(left), refused, err)
	if err != nil {
		t.Errorf("another owner's upload: %v", err)
	}
	if left < was/8 {
		t.Errorf("broken-off uploads have left %.1f of %.1f MiB", mib(left), mib(was))
	}
	ctx, cancel := bounded()
	defer cancel()
	if err := hostile.Release(ctx, r); err != nil {
		t.Fatal(err)
	}
	if now := disk.Free(); now < was-(20<<20) { // the peer's ledger lies there too, with its journal
		t.Errorf("after the release %.1f of %.1f MiB are free", mib(now), mib(was))
	}
	p.Stop()
}

// A quota counts every copy that its owner orders.
func TestPeerCountsTheCopiesThatAreOrdered(t *testing.T) {
	p := harness.NewPeer(t)
	p.Settings("[[node]]\nname = \"a\"\nkind = \"directory\"\npath = \"a\"\n\n[[node]]\nname = \"b\"\nkind = \"directory\"\npath = \"b\"\n")
	p.Start()
	const quota = 16 << 20
	o := newOwner(t, p, "grpc", "--quota", "16MiB")
	var err error
	stored := 0
	for n := uint64(0); err == nil && n < 64; n++ {
		var r store.ReservationID
		if r, _, err = o.ask(store.ReserveRequest{Bytes: store.Charge(1<<20 - 8192), Copies: 2, Lease: time.Minute}); err == nil {
			if err = o.put(r, store.NewCrateID(), n, 1<<20-8192); err == nil {
				stored++
			}
		}
	}
	var there int64
	harness.Eventually(t, time.Minute, "both copies of all", func() (bool, string) {
		nodes := p.Status().Nodes
		return nodes[0].Crates == int64(stored) && nodes[1].Crates == int64(stored), ""
	})
	for _, dir := range []string{"a", "b"} {
		there += lies(t, filepath.Join(p.State, dir, "crates"))
	}
	st, e := o.status()
	t.Logf("with a quota of 16 MiB %d crates of 1 MiB are there twice, %.1f MiB on the disks; the owner has %.1f used, %v; then %v", stored, mib(there), mib(st.Used), e, err)
	if there > quota || stored < 7 || !errors.Is(err, store.Quota) {
		t.Errorf("%.1f MiB lie on disks, %d crates: %v", mib(there), stored, err)
	}
	p.Stop()
}

// Without a quota, too, one owner can't reserve all that there is, for however long.
func TestPeerLeavesSomeToOthers(t *testing.T) {
	p := harness.NewPeer(t)
	p.Settings("[[node]]\nname = \"crates\"\nkind = \"directory\"\npath = \"crates\"\ncapacity = \"128MiB\"\n")
	p.Start()
	hostile, honest := newOwner(t, p, "grpc"), newOwner(t, p, "http")
	var last time.Time
	got := int64(0)
	for part := int64(64 << 20); part >= 64<<10; {
		_, shares, err := hostile.ask(store.ReserveRequest{Bytes: part, Lease: 30 * 24 * time.Hour})
		if err != nil {
			part /= 2
			continue
		}
		got += part
		last = shares[0].Expires
	}
	_, _, err := honest.ask(store.ReserveRequest{Bytes: 20 << 20, Lease: time.Hour})
	t.Logf("one owner has %.1f of 128 MiB for %s; the other, who asks for 20 MiB, gets %v", mib(got), time.Until(last).Round(time.Hour), err)
	if err != nil {
		t.Errorf("the other owner: %v", err)
	}
	if time.Until(last) > 25*time.Hour {
		t.Errorf("a lease ends at %s", last)
	}
	p.Stop()
}

// An owner who says that its crates came through a leaf behind a further peer does not keep
// others from having theirs there.
func TestPeerBelievesAPathOnlyOfItsSender(t *testing.T) {
	front, back := harness.NewPeer(t), harness.NewPeer(t)
	front.Settings("copies = 2\n\n[[node]]\nname = \"disk\"\nkind = \"directory\"\npath = \"disk\"\n")
	back.Settings("copies = 2\n\n[[node]]\nname = \"disk\"\nkind = \"directory\"\npath = \"disk\"\n")
	front.Start()
	back.Start()
	passTo(t, front, "back", back, "grpc")
	leaf := leafOf(t, newOwner(t, back, "grpc"))
	hostile, honest := newOwner(t, front, "http"), newOwner(t, front, "grpc")
	harness.Eventually(t, peerCaughtUp, "a reservation at the peer behind", func() (bool, string) {
		_, shares, err := hostile.ask(store.ReserveRequest{Bytes: 1 << 20, Hops: 4})
		return err == nil && len(shares) == 2, ""
	})
	if _, _, err := hostile.ask(store.ReserveRequest{Bytes: 1 << 20, Hops: 4, Path: []store.NodeID{leaf}}); err != nil {
		t.Log("the poisoned path:", err)
	}
	if _, _, err := hostile.ask(store.ReserveRequest{Bytes: 1 << 20, Hops: 1}); err != nil {
		t.Log("the one hop:", err)
	}
	var r store.ReservationID
	for range 10 { // the front may ask the peer behind again at any time
		var shares []store.Share
		var err error
		if r, shares, err = honest.ask(store.ReserveRequest{Bytes: 24 << 20, Copies: 2, Hops: 4}); err != nil || len(shares) != 2 {
			t.Fatalf("beside a poisoned path the honest owner gets %d shares, %v", len(shares), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	ctx, cancel := bounded()
	defer cancel()
	receipts, err := honest.Put(ctx, putRequest(r, store.NewCrateID(), 7, 9<<20))
	if err != nil || len(receipts) == 0 {
		t.Fatal(receipts, err)
	}
	harness.Eventually(t, peerCaughtUp, "the crate behind the front peer", func() (bool, string) {
		s := back.Status()
		return s.Nodes[0].Crates == 2, fmt.Sprint(s.Nodes[0].Crates)
	})
	front.Stop()
	back.Stop()
}

// leafOf is the one leaf on which what is put at a peer comes to lie.
func leafOf(t *testing.T, o *owner) store.NodeID {
	t.Helper()
	r, _, err := o.ask(store.ReserveRequest{Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := bounded()
	defer cancel()
	receipts, err := o.Put(ctx, putRequest(r, store.NewCrateID(), 1, 5000))
	if err != nil || len(receipts) != 1 {
		t.Fatal(receipts, err)
	}
	return receipts[0].Leaf
}
