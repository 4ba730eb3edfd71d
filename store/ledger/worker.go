package ledger

import (
	"context"
	"sync"
	"time"
)

// worker is a goroutine that does one piece of work in rounds. All who ask while
// a round is under way share the next one, which begins after they asked: that is
// what lets concurrent syncs share an fdatasync.
type worker struct {
	work  func() error
	every time.Duration // a round without being asked; 0 means never
	retry bool          // after a failed round another, with growing pauses

	kicks chan struct{}
	stop  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	next    *round
	stopped error // why there are no more rounds
}

type round struct {
	done chan struct{}
	err  error // valid once done is closed
}

func newRound() *round { return &round{done: make(chan struct{})} }

func startWorker(every time.Duration, retry bool, work func() error) *worker {
	w := &worker{
		work: work, every: every, retry: retry, next: newRound(),
		kicks: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go w.run()
	return w
}

func (w *worker) run() {
	defer close(w.done)
	var pause time.Duration
	for {
		var timer <-chan time.Time
		if pause > 0 {
			timer = time.After(pause)
		} else if w.every > 0 {
			timer = time.After(w.every)
		}
		select {
		case <-w.stop:
			return
		case <-w.kicks:
		case <-timer:
		}
		w.mu.Lock()
		r := w.next
		w.next = newRound()
		w.mu.Unlock()
		r.err = w.work()
		close(r.done)
		if r.err == nil || !w.retry {
			pause = 0
		} else {
			pause = min(max(2*pause, retryMin), retryMax)
		}
	}
}

// kick asks for a round without waiting for it.
func (w *worker) kick() {
	select {
	case w.kicks <- struct{}{}:
	default:
	}
}

// join waits for a round that begins after the call, and gives its error.
func (w *worker) join(ctx context.Context) error {
	w.mu.Lock()
	r, err := w.next, w.stopped
	w.mu.Unlock()
	if err != nil {
		return err
	}
	w.kick()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end waits for the round under way; whoever waits for a later one gets why.
func (w *worker) end(why error) {
	w.mu.Lock()
	ended := w.stopped != nil
	w.stopped = why
	w.mu.Unlock()
	if !ended {
		close(w.stop)
	}
	<-w.done
	if !ended {
		w.next.err = why
		close(w.next.done)
	}
}
