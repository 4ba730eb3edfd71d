package router

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"stasis/store"
)

// put sends jobs to the node in one call; each gets its receipt or its error. If the
// call is abandoned, put says so, and late is called when it comes back after all.
func (n *node) put(ctx context.Context, k class, jobs []*job, late func()) (abandoned bool) {
	r := n.r
	r.mu.Lock()
	h, grant, rate := n.online(), n.grant.id, n.spec.Rate
	id, near, permit, leaves := n.id, local(n.spec.Kind), n.permit(), n.grant.leaves
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(permit, cancel)()
	bytes := int64(0)
	for _, j := range jobs {
		bytes += j.size
		r.equip(h, k, j)
	}
	from := n.vantage()
	results, err := call(ctx, n, h, sendLimit(bytes, rate), "push crates", func(ctx context.Context, st store.Store) ([]store.PutResult, error) {
		over := n.changing()
		out := putAll(ctx, st, n, jobs, grant)
		over(worst(out))
		return out, nil
	}, func([]store.PutResult, error) { late() })
	for i, j := range jobs {
		j.from = from
		if j.err = err; err == nil {
			j.take(id, near, leaves, results[i])
		}
	}
	if err == nil {
		n.spent(grant, jobs, from)
	}
	return errors.Is(err, errNoAnswer)
}

// worst is an error of a batch after which nobody knows what became of a crate, if there is one.
func worst(out []store.PutResult) error {
	for i := range out {
		if silentError(out[i].Err) {
			return out[i].Err
		}
	}
	return nil
}

// sendLimit bounds a transfer of so many bytes.
func sendLimit(bytes, rate int64) time.Duration {
	slowest := int64(SendRate)
	if rate > 0 {
		slowest = min(slowest, rate)
	}
	return SendLimit + time.Duration(bytes/slowest+1)*time.Second
}

// equip finds out where the bytes of a job come from.
func (r *Router) equip(h *handle, k class, j *job) {
	if h == nil || !h.adopts || k != large || j.repair {
		return
	}
	b, err := r.o.Bodies.Body(j.crate)
	if err != nil || !b.Adoptable || b.Size != j.size || r.isRotten(j.crate) {
		return
	}
	_, err = os.Lstat(b.Path)
	// A body that is gone may be in the node already, from before a crash; the repeat
	// finds that out.
	if j.adopt = j.resident || os.IsNotExist(err); j.adopt {
		j.src.path = b.Path
	}
}

// take takes a store's answer for a job, as far as it can be believed. A node on this machine
// is the leaf itself. One that is not may have passed the crate on: a receipt counts for a leaf
// that the node named when it promised the space, once, and no receipt changes what the
// crate is.
func (j *job) take(node store.NodeID, near bool, named []store.NodeID, res store.PutResult) {
	if j.err = res.Err; j.err != nil {
		j.lied = errors.Is(j.err, store.ErrWrongReceipt)
		return
	}
	bad := func(detail string) *store.Error {
		return &store.Error{Kind: store.Invalid, Op: opPush, Subject: j.crate.String(), Detail: detail}
	}
	for _, rc := range res.Receipts {
		switch {
		case !near && !j.agrees(&rc):
			j.receipts, j.lied = nil, true
			j.err = bad("its receipt is for other bytes than were sent")
			return
		case !rc.Sums.Valid() || rc.Sums.Size != j.size || rc.Leaf.IsZero():
			continue
		case near && rc.Leaf != node || !near && !j.mayLie(node, named, rc.Leaf) || len(j.receipts) == MaxLeaves:
			j.elsewhere = true
			continue
		case len(j.receipts) > 0 && rc.Sums.Root() != j.receipts[0].Sums.Root():
			j.receipts, j.err = nil, bad("its receipts are for different bytes")
			return
		case slices.ContainsFunc(j.receipts, func(o store.Receipt) bool { return o.Leaf == rc.Leaf }):
			continue
		}
		j.receipts = append(j.receipts, rc)
	}
	switch {
	case len(j.receipts) > 0:
	case j.elsewhere:
		j.err = bad("its receipt is for a place that it has not promised any space on")
	default:
		j.err = bad("the node gave no receipt that fits")
	}
}

const opPush = "push crate"

// agrees reports whether a receipt is for the bytes that this machine has recorded.
func (j *job) agrees(rc *store.Receipt) bool {
	f := j.m.form(store.Plain)
	return f != nil && rc.Sums.Valid() && rc.Sums.Size == j.size && rc.Sums.Root() == f.Root
}

// mayLie reports whether the crate may lie on a leaf behind a node: it was named when the space
// was promised, or had the crate before.
func (j *job) mayLie(node store.NodeID, named []store.NodeID, leaf store.NodeID) bool {
	if slices.Contains(named, leaf) {
		return true
	}
	d := j.m.Destination(node)
	if d == nil || d.State != Verified && d.State != Damaged {
		return false
	}
	had := false
	d.eachLeaf(func(id store.NodeID) { had = had || id == leaf })
	return had
}

// spent takes what the store acknowledged off the grant. from is what was known of its position
// before.
func (n *node) spent(grant store.ReservationID, jobs []*job, from vantage) {
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	var at []store.Position
	for _, j := range jobs {
		for i := range j.receipts {
			at = append(at, j.receipts[i].Position)
		}
	}
	n.receipted(at, from)
	for _, j := range jobs {
		if j.err == nil && n.grant.id == grant {
			n.grant.stored(j.charge, n.r.clock.Boot())
		}
	}
}

// putAll runs within the call to the node.
func putAll(ctx context.Context, st store.Store, n *node, jobs []*job, grant store.ReservationID) []store.PutResult {
	out := make([]store.PutResult, len(jobs))
	var plain []int
	for i, j := range jobs {
		switch {
		case j.repair:
			out[i] = n.putRepair(ctx, st, j, grant)
		case j.adopt:
			out[i] = putAdopted(ctx, st, j, grant)
		default:
			plain = append(plain, i)
		}
	}
	if b, ok := st.(store.Batcher); ok && len(plain) > 1 {
		rs := make([]store.PutRequest, len(plain))
		for k, i := range plain {
			rs[k] = jobs[i].request(grant)
		}
		for k, res := range b.PutBatch(ctx, rs) {
			out[plain[k]] = res
		}
		return out
	}
	putEach(plain, func(i int) {
		out[i].Receipts, out[i].Err = st.Put(ctx, jobs[i].request(grant))
	})
	return out
}

// putEach calls put for each index, some at a time.
func putEach(is []int, put func(int)) {
	if len(is) <= 1 {
		for _, i := range is {
			put(i)
		}
		return
	}
	todo := make(chan int, len(is))
	for _, i := range is {
		todo <- i
	}
	close(todo)
	var wg sync.WaitGroup
	for range min(SmallInFlight, len(is)) {
		wg.Go(func() {
			for i := range todo {
				put(i)
			}
		})
	}
	wg.Wait()
}

// request is what a store is asked for.
func (j *job) request(grant store.ReservationID) store.PutRequest {
	rq := store.PutRequest{Reservation: grant, Crate: j.crate, Form: store.Plain, Size: j.size, Source: j.src}
	if j.m.Known(store.Plain) {
		root := j.m.form(store.Plain).Root
		rq.Expect = &root
	}
	return rq
}

// putAdopted has the store take the body over, or copy it where it can't.
func putAdopted(ctx context.Context, st store.Store, j *job, grant store.ReservationID) (res store.PutResult) {
	a, ok := st.(store.Adopter)
	if !ok {
		j.adopt = false
		res.Receipts, res.Err = st.Put(ctx, j.request(grant))
		return res
	}
	res.Receipts, res.Err = a.Adopt(ctx, j.request(grant), j.src.path)
	if store.KindOf(res.Err) == store.Conflict || res.Err != nil && !exists(j.src.path) {
		// Another filesystem after all, or another node was faster: what is left is to copy.
		j.adopt = false
		res.Receipts, res.Err = st.Put(ctx, j.request(grant))
	}
	return res
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// putRepair replaces a copy that is wrong, once it is sure that there is a right one. A
// copy that turns out to be right after all gets its receipt again.
func (n *node) putRepair(ctx context.Context, st store.Store, j *job, grant store.ReservationID) (res store.PutResult) {
	if !j.m.Known(store.Plain) {
		res.Err = &store.Error{Kind: store.Corrupt, Op: opRepair, Subject: j.crate.String(), Detail: "its checksums were never recorded"}
		return res
	}
	nonce, proven := newNonce(), false
	if got, err := st.Verify(ctx, j.crate, 0, j.size, nonce); err == nil {
		if !n.near() && n.r.refuted(ctx, j, nonce, got) {
			n.r.log.WithFields(logrus.Fields{"node": n.name, "crate": j.crate}).Warn("a node says that it has verified a copy and can't prove it")
			proven = true // the source was read for it
		} else if res.Receipts, res.Err = st.Put(ctx, j.request(grant)); store.KindOf(res.Err) != store.Conflict {
			return res
		}
	} else if k := store.KindOf(err); k != store.Corrupt && k != store.NotFound {
		res.Err = err
		return res
	}
	if !proven {
		if res.Err = n.r.provable(ctx, n, j); res.Err != nil {
			return res
		}
	}
	if res.Err = st.Discard(ctx, store.DiscardRequest{Crate: j.crate, Holder: n.r.o.Owner}); res.Err != nil {
		return res
	}
	if j.cramped {
		res.Err = &store.Error{Kind: store.NoSpace, Op: opRepair, Subject: j.crate.String(), Detail: "the wrong copy is gone, and room for the right one is asked for"}
		return res
	}
	res.Receipts, res.Err = st.Put(ctx, j.request(grant))
	return res
}

const opRepair = "repair crate"

// provable reads the source of a repair in full, to be sure that it has the right bytes.
func (r *Router) provable(ctx context.Context, n *node, j *job) error {
	sums, err := r.hash(ctx, unpaced{j.src}, j.size)
	if err == nil && sums.Root() != j.m.form(store.Plain).Root {
		if body, _, _ := j.src.failure(); body {
			r.bodyDiffers(j.crate, n.nodeID())
		}
		err = &store.Error{Kind: store.Unavailable, Op: opRepair, Subject: j.crate.String(), Detail: "no right copy was found yet"}
	}
	if err != nil {
		j.src.note(err)
	}
	return err
}

func newNonce() (d store.Digest) {
	_, _ = rand.Read(d[:]) // never fails
	return d
}
