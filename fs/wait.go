package fs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"stasis/fs/names"
	"stasis/router"
	"stasis/store"
)

// WaitRequest asks to wait for copies.
type WaitRequest struct {
	Paths  []string // from the vault's root; a directory means every file in it
	Copies int      // of each; 0: as many as each wants
	// Progress, unless nil, hears from time to time how much is left.
	Progress func(files, bytes int64)
}

// Outcome is how a wait ended.
type Outcome byte

// The outcomes.
const (
	Reached    Outcome = iota
	TimedOut           // the context's deadline came first
	Impossible         // as things are the copies won't come
)

// WaitOutcome is how a wait ended, and what was in the way.
type WaitOutcome struct {
	Outcome Outcome
	Detail  string
}

// Wait commits what is open below some paths and waits until that content has its
// copies. What it says survives a power cut. An outcome other than Reached is no error.
func (s *FS) Wait(ctx context.Context, r WaitRequest) (WaitOutcome, error) {
	w := &waiter{s: s, r: r, left: make(map[names.Ino]*place), asked: make(map[names.Ino]bool), busy: make(map[names.Ino]bool)}
	var out WaitOutcome
	var err error
	for doubts := uint64(0); ; {
		doubts = s.router.Doubts()
		if out, err = w.run(ctx); err != nil || out.Outcome != Reached || s.router.Doubts() == doubts {
			break
		}
		// What has been seen to have its copies may have lost one since.
	}
	if err == nil && out.Outcome == Reached {
		err = s.db.Sync(ctx, s.db.Position())
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return WaitOutcome{TimedOut, w.still()}, nil
	}
	return out, err
}

type waiter struct {
	s     *FS
	r     WaitRequest
	left  map[names.Ino]*place // files without their copies yet, with where each was found
	asked map[names.Ino]bool   // files for whose copies the router was asked again
	busy  map[names.Ino]bool   // of left, those that could not be cut into crates yet for their writers
}

func (w *waiter) run(ctx context.Context) (WaitOutcome, error) {
	s := w.s
	if err := s.sealRested(ctx); err != nil {
		return WaitOutcome{}, err
	}
	for _, path := range w.r.Paths {
		in, err := s.find(path)
		if err != nil {
			return WaitOutcome{}, fmt.Errorf("find %s: %w", path, err)
		}
		err = s.walk(ctx, in.Ino, path, func(at *place, in names.Inode) error {
			if !in.IsRegular() {
				return nil
			}
			if out, err := w.settle(ctx, at, in.Ino); err != nil || out != "" {
				return errors.Join(err, impossible(out))
			}
			return nil
		})
		var no impossible
		if errors.As(err, &no) {
			return WaitOutcome{Impossible, string(no)}, nil
		}
		if err != nil {
			return WaitOutcome{}, err
		}
	}
	return w.watch(ctx)
}

// impossible is a sentence that ends a wait.
type impossible string

func (e impossible) Error() string { return string(e) }

func (w *waiter) settle(ctx context.Context, at *place, ino names.Ino) (no string, err error) {
	if f := w.s.pinned(ino); f != nil {
		err := w.s.seal(ctx, f)
		w.s.unpin(f)
		switch {
		case gone(err):
			return "", nil
		case isSpace(err), errors.As(err, new(*lostError)):
			return fmt.Sprintf("%s: %v", at, err), nil
		case errors.Is(err, errBusy):
			w.left[ino], w.busy[ino] = at, true
			return "", nil
		case err != nil:
			return "", err
		}
	}
	return w.look(ctx, at, ino)
}

// look notes whether a file has its copies, and says why it can't have them.
func (w *waiter) look(ctx context.Context, at *place, ino names.Ino) (no string, err error) {
	if len(w.s.waiting.of(ino)) > 0 && w.r.Copies == 0 {
		// Its last receipt is awaited; whether it can come is looked at with the others.
		w.left[ino] = at
		return w.stuck(ctx, at, ino)
	}
	h, err := w.s.examine(ino)
	if gone(err) {
		delete(w.left, ino)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	want := w.r.Copies
	if want == 0 {
		want = h.wanted
	}
	if h.copies >= want {
		delete(w.left, ino)
		return "", nil
	}
	w.left[ino] = at
	return w.stuck(ctx, at, ino)
}

// stuck says why a file can't get its copies as things are; empty if it can. Nodes and
// policies may have changed just now: the router is asked once more before the answer is no.
func (w *waiter) stuck(ctx context.Context, at *place, ino names.Ino) (string, error) {
	no, err := w.lacking(at, ino)
	if no == "" || err != nil || w.asked[ino] {
		return no, err
	}
	w.asked[ino] = true
	if len(w.asked) == 1 {
		w.s.router.Knock(ctx)
	}
	w.s.reconsider(ctx, ino)
	return w.lacking(at, ino)
}

// lacking says why the copies that a file has and is to get are too few; empty if they
// are not.
func (w *waiter) lacking(at *place, ino names.Ino) (string, error) {
	s := w.s
	in, err := s.tree.Get(ino)
	if gone(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	pol, err := s.effective(ino)
	if err != nil {
		return "", err
	}
	want := w.r.Copies
	if want == 0 {
		want = pol.Copies
	}
	away := s.awayNodes()
	var why string
	err = s.eachCrate(in.List, func(id store.CrateID) error {
		m, err := s.router.Manifest(id)
		if err != nil || why != "" {
			return err
		}
		can, lacking := m.Copies(), ""
		for _, d := range m.Destinations {
			if d.State == router.Verified && !d.Unknown || d.State == router.Refused {
				continue
			}
			if n, is := away[d.Node]; is {
				lacking = n
			} else {
				can++
			}
		}
		if can >= want {
			return nil
		}
		why = fmt.Sprintf("%s has %s and can get %d of the %d as things are", at, copiesText(m.Copies()), can, want)
		if lacking != "" {
			why += ": node " + lacking
		} else if a, ok, err := s.attention(ino); err != nil {
			return err
		} else if ok && a.Reason != "" {
			why += ": " + a.Reason
		} else if want > pol.Copies {
			why += fmt.Sprintf(": the policy in force wants %d; raise it with `stasis policy set`", pol.Copies)
		}
		return nil
	})
	return why, err
}

// awayNodes gives the nodes that don't take anything at the moment, and why.
func (s *FS) awayNodes() map[store.NodeID]string {
	away := make(map[store.NodeID]string)
	for _, n := range s.router.Status(s.ctx) {
		if !n.Configured {
			away[n.ID] = fmt.Sprintf("%q was removed", n.Name)
		} else if n.State == router.Missing || n.State == router.Unreachable {
			away[n.ID] = fmt.Sprintf("%q is %s", n.Name, n.State)
			if n.Barred {
				away[n.ID] = fmt.Sprintf("%q is not trusted", n.Name)
			}
		} else if n.Stuck {
			away[n.ID] = fmt.Sprintf("%q is full: %s", n.Name, n.LastError)
		} else if n.Refuses {
			away[n.ID] = fmt.Sprintf("%q: %s", n.Name, n.LastError)
		} else if !n.Durable {
			away[n.ID] = fmt.Sprintf("%q is memory, which does not count", n.Name)
		}
	}
	return away
}

// watch waits until nothing is left.
func (w *waiter) watch(ctx context.Context) (WaitOutcome, error) {
	for {
		next := w.s.changed.next()
		for ino, at := range maps.Clone(w.left) {
			var no string
			var err error
			switch {
			case w.busy[ino]:
				delete(w.busy, ino)
				delete(w.left, ino)
				no, err = w.settle(ctx, at, ino)
			case len(w.s.waiting.of(ino)) > 0 && w.r.Copies == 0:
				continue
			default:
				no, err = w.look(ctx, at, ino)
			}
			if err != nil {
				return WaitOutcome{}, err
			}
			if no != "" {
				return WaitOutcome{Impossible, no}, nil
			}
		}
		if len(w.left) == 0 {
			return WaitOutcome{Outcome: Reached}, nil
		}
		if w.r.Progress != nil {
			w.r.Progress(int64(len(w.left)), w.s.pendingBytes())
		}
		if err := w.pause(ctx, next); err != nil {
			return WaitOutcome{}, err
		}
		// A node that goes away meanwhile makes the copies unreachable.
		for ino, at := range w.left {
			if w.busy[ino] {
				continue
			}
			if no, err := w.stuck(ctx, at, ino); err != nil || no != "" {
				return WaitOutcome{Impossible, no}, err
			}
			break
		}
	}
}

// pause waits for news, which come in bursts.
func (w *waiter) pause(ctx context.Context, next <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-next:
	case <-time.After(waitLook):
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(waitBurst):
	}
	return nil
}

func (s *FS) pendingBytes() int64 { return s.router.Pending().Bytes }

// still says what a wait that ran out of time was waiting for.
func (w *waiter) still() string {
	for _, at := range w.left {
		if len(w.left) == 1 {
			return at.String() + " does not have its copies yet"
		}
		return fmt.Sprintf("%d files do not have their copies yet, among them %s", len(w.left), at)
	}
	return "content is still being written to disk"
}

// sealRested seals every file that was closed.
func (s *FS) sealRested(ctx context.Context) error {
	t := time.NewTicker(sealPoll)
	defer t.Stop()
	for {
		s.hurry()
		if s.sealer.idle() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}
