package host

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"stasis/peer/identity"
	"stasis/peer/wire"
	"stasis/store"
	"stasis/store/ledger"
)

// Session is one owner's view of the peer's store. Several may be open for one owner;
// they differ in nothing but what Close waits for.
type Session struct {
	o     *owner
	mount store.Token // of the mount that calls; zero: it has not said

	mu     sync.Mutex
	closed bool
	busy   sync.WaitGroup // calls under way; Add with mu held and not closed
}

// enter counts a call in. The context it gives ends when the host is closed or the owner
// revoked, too. leave must be called.
func (s *Session) enter(ctx context.Context, op string, change bool) (_ context.Context, leave func(), err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, nil, &store.Error{Kind: store.Unavailable, Op: op, Err: err}
	}
	o := s.o
	o.mu.Lock()
	revoked, held, life := o.rec.revoked, o.held, o.ctx
	o.mu.Unlock()
	switch {
	case revoked:
		return nil, nil, denied(op)
	case change && s.mount != (store.Token{}) && held != (store.Token{}) && s.mount != held:
		return nil, nil, &store.Error{Kind: store.Denied, Op: op, Detail: "another mount of the vault has taken over here", Hint: "unmount this one: the state directory may be a copy"}
	case change && held == (store.Token{}):
		return nil, nil, &store.Error{Kind: store.Denied, Op: op, Detail: "this mount has not been admitted to the peer",
			Hint: "another mount of the vault may use it; --take-over decides for this one"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.h.mu.RLock()
	defer o.h.mu.RUnlock()
	if s.closed || o.h.closed {
		return nil, nil, errClosed(op)
	}
	s.busy.Add(1)
	o.h.busy.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	return ctx, func() {
		stop()
		cancel(nil)
		o.h.busy.Done()
		s.busy.Done()
	}, nil
}

// call runs one operation and makes its error fit to be sent.
func call[T any](ctx context.Context, s *Session, op, subject string, change bool, fn func(context.Context) (T, error)) (T, error) {
	var none T
	ctx, leave, err := s.enter(ctx, op, change)
	if err != nil {
		return none, err
	}
	defer leave()
	v, err := fn(ctx)
	if err != nil {
		return v, s.o.tell(op, subject, err)
	}
	return v, nil
}

// brief is call for what needs a turn at the records and the store, and holds it until it ends.
func brief[T any](ctx context.Context, s *Session, op, subject string, change bool, fn func(context.Context) (T, error)) (T, error) {
	return call(ctx, s, op, subject, change, func(ctx context.Context) (none T, err error) {
		done, err := s.o.turn(ctx, s.o.h.lanes.brief)
		if err != nil {
			return none, err
		}
		defer done()
		return fn(ctx)
	})
}

// tell makes an error one that its owner may see: of the same kind, about the owner's
// own ids, without the paths and ids of this machine, which go to the log.
func (o *owner) tell(op, subject string, err error) error {
	var e *store.Error
	out := &store.Error{Kind: store.Unavailable, Op: op, Subject: subject, Err: err}
	if !errors.As(err, &e) {
		return out
	}
	out.Kind = e.Kind
	switch e.Kind {
	case store.NoSpace, store.Quota, store.Corrupt, store.Invalid:
		out.Detail, out.Hint = e.Detail, e.Hint
	default:
		if e.Op == op || e.Op == opPut || e.Op == "admit a mount" {
			out.Detail, out.Hint = e.Detail, e.Hint
		}
	}
	if out.Detail == "" {
		out.Detail = reason(err)
	}
	if e.Kind == store.Unavailable && context.Cause(o.h.ctx) == nil {
		o.h.log.WithError(err).WithField("owner", o.id.String()[:16]).Debug("a request failed")
	}
	return out
}

// Reserve is store.Store's.
func (s *Session) Reserve(ctx context.Context, r store.ReserveRequest) ([]store.Share, error) {
	return brief(ctx, s, opReserve, "", true, func(ctx context.Context) ([]store.Share, error) { return s.o.reserve(ctx, r) })
}

// Renew is store.Store's.
func (s *Session) Renew(ctx context.Context, id store.ReservationID) (time.Time, error) {
	return brief(ctx, s, opRenew, id.String(), true, func(ctx context.Context) (time.Time, error) { return s.o.renew(ctx, id) })
}

// Release is store.Store's.
func (s *Session) Release(ctx context.Context, id store.ReservationID) error {
	_, err := brief(ctx, s, opRelease, id.String(), true, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.o.release(ctx, id)
	})
	return err
}

// Put is store.Store's. A crate of more than a block goes on where an attempt that was
// broken off stands, if its digest is known.
func (s *Session) Put(ctx context.Context, r store.PutRequest) ([]store.Receipt, error) {
	return call(ctx, s, opPut, r.Crate.String(), true, func(ctx context.Context) ([]store.Receipt, error) { return s.o.put(ctx, r) })
}

// PutBatch is store.Batcher's.
func (s *Session) PutBatch(ctx context.Context, rs []store.PutRequest) []store.PutResult {
	out, err := call(ctx, s, "put crates", "", true, func(ctx context.Context) ([]store.PutResult, error) {
		return s.o.putBatch(ctx, rs), nil
	})
	if err != nil {
		out = make([]store.PutResult, len(rs))
	}
	for i := range out {
		if err != nil {
			out[i].Err = err
		} else if out[i].Err != nil {
			out[i].Err = s.o.tell(opPut, rs[i].Crate.String(), out[i].Err)
		}
	}
	return out
}

// Fence is store.Fencer's. The token is the owner's, over all its sessions, and outlasts
// a restart of the peer.
func (s *Session) Fence(ctx context.Context, known []store.Token, next store.Token, takeOver bool) error {
	const op = "admit a mount"
	_, err := brief(ctx, s, op, "", false, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.o.fence(ctx, known, next, takeOver)
	})
	return err
}

const (
	opRead   = "open crate"
	opVerify = "verify crate"
)

// Open is store.Store's.
func (s *Session) Open(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return s.open(ctx, id, func(ctx context.Context, at store.Store, inner store.CrateID) (io.ReadCloser, error) {
		return at.Open(ctx, inner, offset, length)
	})
}

// OpenUnverified is store.Unverified's.
func (s *Session) OpenUnverified(ctx context.Context, id store.CrateID, offset, length int64) (io.ReadCloser, error) {
	return s.open(ctx, id, func(ctx context.Context, at store.Store, inner store.CrateID) (io.ReadCloser, error) {
		return store.OpenUnverified(ctx, at, inner, offset, length)
	})
}

func (s *Session) open(ctx context.Context, id store.CrateID, from func(context.Context, store.Store, store.CrateID) (io.ReadCloser, error)) (io.ReadCloser, error) {
	return call(ctx, s, opRead, id.String(), false, func(within context.Context) (io.ReadCloser, error) {
		if _, err := s.o.there(within, opRead, id); err != nil {
			return nil, err
		}
		leave, err := s.o.turn(within, s.o.h.lanes.readers)
		if err != nil {
			return nil, err
		}
		// The reader lives longer than this call: it ends with the caller's context, with
		// the owner's right or with its own Close.
		ctx, cancel := context.WithCancelCause(ctx)
		s.o.mu.Lock()
		life := s.o.ctx
		s.o.mu.Unlock()
		stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
		end := sync.OnceFunc(func() { stop(); cancel(nil); leave() })
		rc, err := from(s.o.paced(ctx), s.o.h.store, innerCrate(s.o.id, id))
		if err != nil {
			end()
			return nil, s.o.noticed(id, err)
		}
		return &reading{ReadCloser: rc, o: s.o, id: id, done: end}, nil
	})
}

// reading is a crate that is being read.
type reading struct {
	io.ReadCloser
	o    *owner
	id   store.CrateID
	done func()
}

// Read gives the next bytes.
func (r *reading) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = r.o.tell(opRead, r.id.String(), r.o.noticed(r.id, err))
	}
	return n, err
}

// WriteTo spares a copy where the store's reader does.
func (r *reading) WriteTo(w io.Writer) (int64, error) {
	to := &errWriter{w: w}
	n, err := io.Copy(to, r.ReadCloser)
	if err != nil && to.err == nil {
		err = r.o.tell(opRead, r.id.String(), r.o.noticed(r.id, err))
	}
	return n, err
}

// errWriter remembers whether an error was the writer's.
type errWriter struct {
	w   io.Writer
	err error
}

func (w *errWriter) Write(p []byte) (n int, err error) {
	n, err = w.w.Write(p)
	w.err = err
	return n, err
}

// Close ends it.
func (r *reading) Close() error {
	err := r.ReadCloser.Close()
	r.done()
	return err
}

// noticed takes note of damage and gives the error on. It is told, counted and logged once, and
// then from time to time, however often the crate is read.
func (o *owner) noticed(id store.CrateID, err error) error {
	if errors.Is(err, store.Corrupt) && o.newDamage(id) {
		o.events.add(wire.Event{Kind: wire.EventDamaged, Crate: &id})
		o.h.log.WithFields(map[string]any{"owner": o.id.String()[:16], "crate": innerCrate(o.id, id).String()}).Error("a crate is damaged")
	}
	return err
}

// newDamage counts a crate as damaged; false if it was not long ago.
func (o *owner) newDamage(id store.CrateID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, known := o.damaged[id]
	if known && time.Since(at) < damageAgain {
		return false
	}
	if !known {
		o.damage++
		if len(o.damaged) >= damageKnown {
			clear(o.damaged)
		}
	}
	o.damaged[id] = time.Now()
	return true
}

// Verify is store.Store's.
func (s *Session) Verify(ctx context.Context, id store.CrateID, offset, length int64, nonce store.Digest) (store.Digest, error) {
	return call(ctx, s, opVerify, id.String(), false, func(ctx context.Context) (store.Digest, error) {
		if _, err := s.o.there(ctx, opVerify, id); err != nil {
			return store.Digest{}, err
		}
		leave, err := s.o.turn(ctx, s.o.h.lanes.readers)
		if err != nil {
			return store.Digest{}, err
		}
		defer leave()
		d, err := s.o.h.store.Verify(s.o.paced(ctx), innerCrate(s.o.id, id), offset, length, nonce)
		return d, s.o.noticed(id, err)
	})
}

// Stat is store.Store's.
func (s *Session) Stat(ctx context.Context, id store.CrateID) (store.CrateInfo, error) {
	const op = "stat crate"
	return call(ctx, s, op, id.String(), false, func(ctx context.Context) (store.CrateInfo, error) {
		if _, err := s.o.there(ctx, op, id); err != nil {
			return store.CrateInfo{}, err
		}
		done, err := s.o.turn(ctx, s.o.h.lanes.brief)
		if err != nil {
			return store.CrateInfo{}, err
		}
		defer done()
		info, err := s.o.h.store.Stat(ctx, innerCrate(s.o.id, id))
		info.ID = id
		return info, s.o.noticed(id, err)
	})
}

const opDiscard = "discard crate"

// Discard is store.Store's. It needs the owner's signature, over the crate and the leaf
// that Status names.
func (s *Session) Discard(ctx context.Context, r store.DiscardRequest) error {
	_, err := call(ctx, s, opDiscard, r.Crate.String(), true, func(ctx context.Context) (struct{}, error) {
		if err := identity.VerifyDiscard(s.o.id, r.Crate, s.o.h.leaf, r.Signature); err != nil {
			s.o.h.refusals.Warn("a discard without its owner's signature was refused", map[string]any{"owner": s.o.id.String()[:16]})
			return struct{}{}, err
		}
		return struct{}{}, s.o.discard(ctx, r.Crate)
	})
	return err
}

// discard takes the crate out of the store, then out of the records: what a crash leaves
// is a record without a crate, whose discard can be repeated.
func (o *owner) discard(ctx context.Context, id store.CrateID) error {
	unlock, err := o.crates.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	done, err := o.turn(ctx, o.h.lanes.brief)
	if err != nil {
		return err
	}
	defer done()
	rec, there, err := o.known(ctx, id)
	if err != nil {
		return err
	}
	o.dropPartials(func(p *partial) bool { return p.id == id })
	if !there {
		o.mu.Lock()
		if u, open := o.unsettled[id]; open {
			u.unwanted = true
			o.unsettled[id] = u
		}
		o.mu.Unlock()
		return o.h.db.Sync(ctx, o.h.db.Position())
	}
	if err := o.h.store.Discard(ctx, store.DiscardRequest{Crate: innerCrate(o.id, id), Holder: o.id}); err != nil {
		return err
	}
	err = o.change(o.h.ctx, func(tx *ledger.Tx) error {
		tx.Delete(o.key(tableCrate, id[:]...))
		return o.count(tx, -rec.charge(), -1)
	})
	if _, still, e := o.find(id); e == nil && !still {
		o.book.Freed(rec.charge())
		o.h.spaceFreed()
	}
	return err
}

// List is store.Store's. The cursor is the last id of the page before.
func (s *Session) List(ctx context.Context, cursor []byte) (store.Page, error) {
	const op = "list crates"
	return call(ctx, s, op, "", false, func(ctx context.Context) (store.Page, error) {
		if err := s.o.settleStopped(ctx); err != nil {
			return store.Page{}, err
		}
		done, err := s.o.turn(ctx, s.o.h.lanes.brief)
		if err != nil {
			return store.Page{}, err
		}
		defer done()
		prefix := s.o.key(tableCrate)
		from := prefix
		if cursor != nil {
			if len(cursor) != len(store.CrateID{}) {
				return store.Page{}, &store.Error{Kind: store.Invalid, Op: op, Detail: "the cursor is not one of this peer's"}
			}
			from = append(s.o.key(tableCrate, cursor...), 0)
		}
		pairs, err := s.o.h.space.Scan(from, after(prefix), store.MaxPage+1)
		if err != nil {
			return store.Page{}, err
		}
		owes, err := s.o.h.owes()
		if err != nil {
			return store.Page{}, err
		}
		var page store.Page
		for i, p := range pairs {
			if i == store.MaxPage {
				page.Next = pairs[i-1].Key[len(prefix):]
				break
			}
			rec, err := decodeCrate(p.Value)
			if err != nil {
				return store.Page{}, err
			}
			id := store.CrateID(p.Key[len(prefix):])
			if owes {
				if is, err := s.o.listed(ctx, id, rec); err != nil {
					return store.Page{}, err
				} else if !is {
					continue
				}
			}
			page.Crates = append(page.Crates, rec.info(id))
		}
		return page, nil
	})
}

// Status is store.Store's: what the owner has, and may still have.
func (s *Session) Status(ctx context.Context) (store.Status, error) {
	return brief(ctx, s, "tell the status", "", false, s.o.status)
}

func (o *owner) status(ctx context.Context) (store.Status, error) {
	if err := o.lapse(ctx); err != nil {
		return store.Status{}, err
	}
	st, err := o.h.store.Status(ctx)
	if err != nil {
		return st, err
	}
	u, err := o.book.Usage(ctx)
	if err != nil {
		return st, err
	}
	may := o.mayPromise(st.Free)
	o.mu.Lock()
	defer o.mu.Unlock()
	st.Used, st.Reserved, st.Crates, st.Damage, st.Device = u.Used, u.Reserved, u.Crates, o.damage, 0
	st.Free, st.Position = min(st.Free, u.Free, may), o.position
	if o.rec.quota > 0 && (st.Capacity == 0 || o.rec.quota < st.Capacity) {
		st.Capacity = o.rec.quota
	}
	return st, nil
}

// Events is wire.Session's.
func (s *Session) Events(ctx context.Context, after wire.Cursor, give func(wire.Event) error) error {
	_, err := call(ctx, s, "follow events", "", false, func(ctx context.Context) (struct{}, error) {
		if !s.o.h.lanes.streams.TryAcquire(s.o.lane, 1) {
			return struct{}{}, &store.Error{Kind: store.Quota, Op: "follow events", Detail: "there are too many streams of this owner"}
		}
		defer s.o.h.lanes.streams.Release(s.o.lane, 1)
		return struct{}{}, s.o.events.follow(ctx, after, give)
	})
	return err
}

// Close waits for the calls of this session. Others of the owner go on.
func (s *Session) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.busy.Wait()
	return nil
}
