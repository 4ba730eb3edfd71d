package storetest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stasis/store"
)

func testBatch(e *env) {
	b, ok := e.s.(store.Batcher)
	if !ok {
		e.Skip("takes no batches")
	}
	if res := b.PutBatch(e.ctx, nil); len(res) != 0 {
		e.Errorf("an empty batch has %d results", len(res))
	}
	_, old := e.crates(300)
	const n = 40
	var cs []Crate
	var reqs []store.PutRequest
	var sum int64
	for i := range n {
		c := e.Crate(1 + e.IntN(20000))
		if i == 7 {
			c = e.Crate(mib + 5)
		}
		cs = append(cs, c)
		sum += c.Charge()
	}
	r := e.reserve(sum)
	for _, c := range cs {
		reqs = append(reqs, c.Put(r))
	}
	wrong := map[int]store.Kind{}
	spoil := func(i int, k store.Kind, f func(*store.PutRequest)) { f(&reqs[i]); wrong[i] = k }
	spoil(0, store.Unavailable, func(q *store.PutRequest) { q.Source = UnopenableSource() })
	spoil(3, store.Corrupt, func(q *store.PutRequest) { q.Source = BytesSource(nil) })
	spoil(7, store.Unavailable, func(q *store.PutRequest) { q.Source = BreakingSource(cs[7].Data, mib+1) })
	spoil(9, store.Invalid, func(q *store.PutRequest) { q.Size = 0 })
	spoil(12, store.NotFound, func(q *store.PutRequest) { q.Reservation = store.NewReservationID() })
	spoil(20, store.Conflict, func(q *store.PutRequest) { q.Crate = old[0].ID })
	reqs = append(reqs, reqs[5], old[0].Put(r)) // twice in one batch, and there already
	cs = append(cs, cs[5], old[0])

	before := e.account()
	res := b.PutBatch(e.ctx, reqs)
	if len(res) != len(reqs) {
		e.Fatalf("%d results for %d requests", len(res), len(reqs))
	}
	var drawn int64
	for i, x := range res {
		kind, bad := wrong[i]
		switch {
		case bad:
			if !errors.Is(x.Err, kind) || len(x.Receipts) > 0 {
				e.Errorf("request %d: %v, want %v", i, x.Err, kind)
			}
			if i != 20 && i != 9 {
				e.lacks(cs[i].ID)
			}
		case x.Err != nil:
			e.Errorf("request %d: %v", i, x.Err)
		default:
			e.checkReceipts(x.Receipts, cs[i])
			e.has(cs[i])
			if i < n {
				drawn += cs[i].Charge()
			}
		}
	}
	want := before
	want.used, want.reserved, want.crates = before.used+drawn, before.reserved-drawn, before.crates+n-int64(len(wrong))
	e.unchanged(want)
	for i := range wrong {
		reqs[i] = cs[i].Put(r)
	}
	for i, x := range b.PutBatch(e.ctx, reqs) {
		if x.Err != nil {
			e.Errorf("repeat of request %d, put right: %v", i, x.Err)
		}
	}
	for _, c := range cs {
		e.has(c)
	}
	if st := e.status(); st.Used != before.used+sum || st.Reserved != before.reserved-sum {
		e.Errorf("at the end %+v", st)
	}
	if e.inst.Reopen != nil {
		e.reopen()
		for _, c := range cs {
			e.has(c)
		}
	}
}

// file writes data to a file that may be adopted.
func (e *env) file(dir, name string, data []byte) string {
	e.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		e.Fatal(err)
	}
	return path
}

func (e *env) adopter() store.Adopter {
	e.Helper()
	a, ok := e.s.(store.Adopter)
	if !ok || e.inst.AdoptDir == "" {
		e.Skip("adopts no files")
	}
	if !a.AdoptsFrom(e.inst.AdoptDir) {
		e.Fatalf("does not adopt from %s, which was said to be on its filesystem", e.inst.AdoptDir)
	}
	return a
}

func testAdopt(e *env) {
	a := e.adopter()
	was := e.account()
	for _, n := range []int{1, 4097, 2*mib + 3, 12 * mib} {
		c := e.Crate(n)
		path := e.file(e.inst.AdoptDir, "body", c.Data)
		req := c.Put(e.reserve(c.Charge()))
		req.Source = nil
		switch n {
		case 4097:
			req.Expect = nil
		case 2*mib + 3:
			sums := c.Sums
			req.Fresh = &sums
		}
		receipts, err := a.Adopt(e.ctx, req, path)
		if err != nil {
			e.Fatalf("adopt %d bytes: %v", n, err)
		}
		e.checkReceipts(receipts, c)
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			e.Errorf("the file is still where it was: %v", err)
		}
		e.has(c)
		was.used, was.free, was.crates = was.used+c.Charge(), was.free-c.Charge(), was.crates+1
		e.unchanged(was)
		// A repeat finds it, though the file has gone from its path.
		if receipts, err = a.Adopt(e.ctx, req, path); err != nil {
			e.Fatalf("repeat: %v", err)
		}
		e.checkReceipts(receipts, c)
		e.unchanged(was)
		// So does a put, and the other way round; the file then stays.
		e.put(req.Reservation, c)
		again := e.file(e.inst.AdoptDir, "again", c.Data)
		if _, err := a.Adopt(e.ctx, req, again); err != nil {
			e.Errorf("adopt what is there already: %v", err)
		}
		e.unchanged(was)
	}
	if e.inst.Reopen != nil {
		all := e.list()
		e.reopen()
		e.unchanged(was)
		for _, c := range all {
			if _, err := e.s.Verify(e.ctx, c.ID, 0, -1, store.Digest{}); err != nil {
				e.Errorf("verify after a restart: %v", err)
			}
		}
	}
}

func testAdoptRefused(e *env) {
	a := e.adopter()
	c := e.Crate(mib + 10)
	r := e.reserve(2 * c.Charge())
	was := e.account()
	flipped := bytes.Clone(c.Data)
	flipped[mib] ^= 1
	try := func(what string, kind store.Kind, path string, req store.PutRequest) {
		e.Helper()
		_, err := a.Adopt(e.ctx, req, path)
		if !errors.Is(err, kind) {
			e.Errorf("%s: %v, want %v", what, err, kind)
		}
		e.lacks(c.ID)
		e.unchanged(was)
	}
	same := func(path string, data []byte) {
		e.Helper()
		if p, err := os.ReadFile(path); err != nil || !bytes.Equal(p, data) {
			e.Errorf("a refused file was changed: %d bytes, %v", len(p), err)
		}
	}
	dir := e.inst.AdoptDir
	good := e.file(dir, "good", c.Data)
	bad := e.file(dir, "flipped", flipped)
	short := e.file(dir, "short", c.Data[:mib])
	long := e.file(dir, "long", append(bytes.Clone(c.Data), 1))
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		e.Fatal(err)
	}
	try("other bytes", store.Corrupt, bad, c.Put(r))
	try("too short", store.Corrupt, short, c.Put(r))
	try("too long", store.Corrupt, long, c.Put(r))
	try("no file", store.NotFound, filepath.Join(dir, "none"), c.Put(r))
	try("a directory", store.Invalid, dir, c.Put(r))
	try("a symbolic link", store.Invalid, link, c.Put(r))
	try("no reservation", store.NotFound, good, c.Put(store.NewReservationID()))
	try("a reservation too small", store.NoSpace, good, c.Put(e.tiny(&was)))
	invalid := c.Put(r)
	invalid.Size = 0
	try("no size", store.Invalid, good, invalid)
	unfit := c.Put(r)
	unfit.Fresh = &store.Checksums{Size: c.Sums.Size, Blocks: make([]store.Digest, len(c.Sums.Blocks))}
	try("checksums of other bytes", store.Corrupt, good, unfit)
	same(bad, flipped)
	same(short, c.Data[:mib])
	same(good, c.Data)

	if elsewhere := otherFilesystem(dir); elsewhere != "" {
		sub, err := os.MkdirTemp(elsewhere, "storetest")
		if err != nil {
			e.Fatal(err)
		}
		defer os.RemoveAll(sub)
		if a.AdoptsFrom(sub) {
			e.Errorf("says that it adopts from %s, another filesystem", sub)
		}
		far := e.file(sub, "body", c.Data)
		try("another filesystem", store.Conflict, far, c.Put(r))
		same(far, c.Data)
	}

	if _, err := a.Adopt(e.ctx, c.Put(r), good); err != nil {
		e.Fatal(err)
	}
	other := e.Crate(mib + 10)
	other.ID = c.ID
	path := e.file(dir, "other", other.Data)
	_, err := a.Adopt(e.ctx, other.Put(r), path)
	e.fails(err, store.Conflict)
	same(path, other.Data)
	e.has(c)
}

// tiny makes a reservation of one byte, and notes it in was.
func (e *env) tiny(was *account) store.ReservationID {
	id := e.reserve(1)
	was.reserved, was.free = was.reserved+1, was.free-1
	return id
}

// otherFilesystem finds a directory on another filesystem than dir's.
func otherFilesystem(dir string) string {
	var here, there unix.Stat_t
	if unix.Stat(dir, &here) != nil {
		return ""
	}
	for _, d := range []string{"/dev/shm", os.TempDir(), "/run"} {
		if unix.Stat(d, &there) == nil && there.Dev != here.Dev && unix.Access(d, unix.W_OK) == nil {
			return d
		}
	}
	return ""
}

func testFile(e *env) {
	fl, ok := e.s.(store.Filer)
	if !ok {
		e.Skip("hands out no files")
	}
	_, cs := e.crates(1, mib+1)
	for _, c := range cs {
		f, err := fl.File(e.ctx, c.ID)
		if err != nil {
			e.Fatalf("file: %v", err)
		}
		if err := e.s.Discard(e.ctx, store.DiscardRequest{Crate: c.ID}); err != nil {
			e.Fatal(err)
		}
		p, err := io.ReadAll(f) // an open file outlives the crate
		if err != nil || !bytes.Equal(p, c.Data) {
			e.Errorf("the file has %d bytes, %v", len(p), err)
		}
		if _, err := f.Write([]byte{1}); err == nil {
			e.Error("the file can be written")
		}
		if err := f.Close(); err != nil {
			e.Error(err)
		}
		_, err = fl.File(e.ctx, c.ID)
		e.fails(err, store.NotFound)
	}
}

func testFence(e *env) {
	if _, ok := e.s.(store.Fencer); !ok {
		e.Skip("serves any number of mounts")
	}
	_, cs := e.crates(100)
	if e.inst.Reopen == nil {
		e.Skip("nothing outlives this store")
	}
	e.s = e.inst.Reopen(e)
	f := e.s.(store.Fencer)
	was := e.account()

	blocked := func() {
		e.Helper()
		c := e.Crate(10)
		_, err := e.s.Reserve(e.ctx, store.ReserveRequest{ID: store.NewReservationID(), Bytes: 4096})
		e.fails(err, store.Denied)
		_, err = e.s.Put(e.ctx, c.Put(store.NewReservationID()))
		e.fails(err, store.Denied)
		e.fails(e.s.Discard(e.ctx, store.DiscardRequest{Crate: cs[0].ID}), store.Denied)
		if b, ok := e.s.(store.Batcher); ok {
			e.fails(b.PutBatch(e.ctx, []store.PutRequest{c.Put(store.NewReservationID())})[0].Err, store.Denied)
		}
		if a, ok := e.s.(store.Adopter); ok && e.inst.AdoptDir != "" {
			_, err := a.Adopt(e.ctx, c.Put(store.NewReservationID()), e.file(e.inst.AdoptDir, "fenced", c.Data))
			e.fails(err, store.Denied)
		}
		e.has(cs[0]) // reading harms nobody
		e.unchanged(was)
	}
	blocked()
	stranger := store.NewToken()
	e.fails(f.Fence(e.ctx, nil, store.NewToken(), false), store.Conflict)
	e.fails(f.Fence(e.ctx, []store.Token{stranger}, store.NewToken(), false), store.Conflict)
	e.fails(f.Fence(e.ctx, e.tokens, store.Token{}, false), store.Invalid)
	blocked()

	e.fence() // the mount that knows the token goes on
	e.put(e.reserve(e.Crate(10).Charge()), e.Crate(10))

	// A person decides for another mount; the first is out from then on.
	e.s = e.inst.Reopen(e)
	f = e.s.(store.Fencer)
	if err := f.Fence(e.ctx, []store.Token{stranger}, stranger, true); err != nil {
		e.Fatalf("take over: %v", err)
	}
	e.put(e.reserve(e.Crate(10).Charge()), e.Crate(10))
	e.s = e.inst.Reopen(e)
	was = e.account()
	e.fails(e.s.(store.Fencer).Fence(e.ctx, e.tokens, store.NewToken(), false), store.Conflict)
	blocked()
	e.tokens = []store.Token{stranger}
	e.fence()
}

// Unverified bytes are those of the crate as they lie there; damage in some of them is no
// reason to give none, and nothing but bytes is different.
func testUnverified(e *env) {
	u, ok := e.s.(store.Unverified)
	if !ok {
		e.Skip("checks whatever it gives")
	}
	_, cs := e.crates(1, 2*mib+5)
	for _, c := range cs {
		size := int64(len(c.Data))
		for _, r := range [][2]int64{{0, size}, {0, -1}, {size, -1}, {size / 2, 1}, {size / 2, size - size/2}} {
			p, err := drain(u.OpenUnverified(e.ctx, c.ID, r[0], r[1]))
			want := c.Data[r[0]:]
			if r[1] >= 0 {
				want = want[:r[1]]
			}
			if err != nil || !bytes.Equal(p, want) {
				e.Errorf("range %v of %d bytes: %d bytes, %v", r, size, len(p), err)
			}
		}
		_, err := drain(u.OpenUnverified(e.ctx, c.ID, size, 1))
		e.fails(err, store.Invalid)
	}
	_, err := drain(u.OpenUnverified(e.ctx, store.NewCrateID(), 0, -1))
	e.fails(err, store.NotFound)
	if e.inst.Damage == nil {
		return
	}
	c := cs[1]
	e.inst.Damage(e, c.ID, mib+1)
	p, err := drain(u.OpenUnverified(e.ctx, c.ID, 0, -1))
	if err != nil && store.KindOf(err) != store.Corrupt {
		e.Errorf("a damaged crate: %v", err)
	}
	if err == nil && (len(p) != len(c.Data) || !bytes.Equal(p[:mib], c.Data[:mib])) {
		e.Errorf("a damaged crate gave %d bytes of %d", len(p), len(c.Data))
	}
}
